"""Per-example gradients of the kernel of a layer that is linear in its input.

Such a gradient is a sum of outer products over positions t (time steps, pixels), for each of some blocks k (the taps of
a convolution) and independent groups: G_i[k] = sum_t a_i[k, t] e_i[t]^T, with a the input seen by tap k and e the
gradient of the loss with respect to the pre-activation. Its norm has two forms, and its shape decides between them:

    direct    ||sum_t a_t e_t^T||^2                    about  n T I O  multiplications, result n I O
    ghost     sum_{t,t'} <a_t, a_t'> <e_t, e_t'>       about  T^2 (n I + O), result T^2   (Goodfellow 2015,
              arXiv 1510.01799; Li et al. 2021, arXiv 2110.05679; Bu et al. 2022, arXiv 2205.10683)

with n taps of I inputs and O outputs. Where positions cancel, the second form loses digits and gives way to the first
(`parts.guarded`). A direct gradient that is no larger than the layer's own activations is kept, and
then the weighted sum is nearly free; otherwise it is one ordinary kernel gradient (Bu et al. 2022, arXiv 2210.00038)
of the factors divided by powers of two: what underflows is then small beside the whole, also where positions cancel.
"""

import tensorflow as tf

from tfshape.gradients import parts, scaling


class LinearMap:
    """One call of a layer: how the pre-activation depends on the kernel.

    `a` and `e` are the recorded input and gradient, [B, ...]. Subclasses say how to cut them into taps.
    """

    reach = 1  # how many taps may see the same entry

    def __init__(self, a, e):
        with tf.control_dependencies([e]):  # else what is made of the input is made, and held, as soon as that is there
            self.a = tf.identity(a)
        self.e = e

    def factors(self):
        """-> (list of n tensors [B, (groups,) T, I], one tensor [B, (groups,) T, O])."""
        raise NotImplementedError

    def layout(self, gradient, kernel_shape):
        """gradient [..., n, (groups,) I, O] -> [..., *kernel_shape]; the lead is [] or [B]."""
        raise NotImplementedError

    def push(self, kernel):
        """[B]: inner product of `e` and the layer's linear map with another kernel."""
        raise NotImplementedError

    def pull(self, weights, kernel_shape):
        """sum_i weights_i G_i by one ordinary kernel gradient, or None if there is no faster way than the factors."""
        return None

    def masked(self, keep):
        """The same with zeros in the rows where `keep` [B] is False."""
        return self._with(parts.zero_rows(self.a, keep), parts.zero_rows(self.e, keep))

    def times(self, a, e):
        """The same with the rows of input and gradient multiplied by a [B] and e [B]."""
        return self._with(self.a * parts.rows(a, self.a), self.e * parts.rows(e, self.e))

    def _with(self, a, e):
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.a, other.e = a, e
        return other

    def product(self, tap, e):
        """sum_t tap_t e_t^T: [B, (groups,) T, I], [B, (groups,) T, O] -> [B, (groups,) I, O]."""
        return tf.matmul(tap, e, transpose_a=True)


def linear_part(variable, maps):
    """The part of a kernel `variable` that was used in the calls `maps`, in its cheapest form."""
    part = Factored(variable, maps)
    return part.kept() if part.fits else part.scaled()


class Outer:
    """The matrix of a dense layer, and its bias perhaps, used once on a [B, I]: G_i = a_i e_i^T, and e_i."""

    def __init__(self, variables, a, e):
        self.variables, self._a, self._e = variables, a, e
        self._one = float(len(variables) > 1)  # what the bias adds to the inner product of two inputs

    def squares(self):
        a, one, e, unit = self._scaled()
        return scaling.product((parts.square_sum(a) + one * one) * parts.square_sum(e), unit, unit)

    def dot(self, directions, weights):
        a, one, e, unit = self._scaled()
        found = tf.matmul(a, tf.cast(directions[0], a.dtype))
        if self._one:
            found += one[:, None] * tf.cast(directions[1], found.dtype)
        return tf.reduce_sum(found * e, 1) * tf.cast(scaling.product(weights, unit), e.dtype)

    def gram(self, weights):
        a, one, e, unit = self._scaled()
        e *= parts.rows(scaling.product(weights, unit), e)
        inputs = tf.matmul(a, a, transpose_b=True) + one[:, None] * one
        return inputs * tf.matmul(e, e, transpose_b=True)

    def _scaled(self):
        """Input, the bias' own input [B] and gradient, divided by powers of two; and the product of these [B]."""
        a_unit, e_unit = scaling.unit(self._a), scaling.unit(self._e)
        if self._one:
            a_unit = tf.maximum(a_unit, 1)
        a_inverse, e_inverse = scaling.inverse(a_unit), scaling.inverse(e_unit)
        a, e = self._a * parts.rows(a_inverse, self._a), self._e * parts.rows(e_inverse, self._e)
        return a, self._one * a_inverse, e, scaling.product(a_unit, e_unit)

    def weighted_sum(self, weights, keep):
        e = parts.zero_rows(self._e, keep) * parts.rows(weights, self._e)
        kernel = tf.matmul(parts.zero_rows(self._a, keep), e, transpose_a=True)
        return [kernel, tf.reduce_sum(e, 0)] if self._one else [kernel]

    def materialize(self):
        kernels = self._a[:, :, None] * self._e[:, None, :]
        return [kernels, self._e] if self._one else [kernels]


class Kept(parts.Stored):
    """The blocks of every G_i: a list of n tensors [B, (groups,) I, O]."""

    def __init__(self, variable, blocks, layout):
        self.variables, self._blocks, self._layout = [variable], blocks, layout
        self._flat = [tf.reshape(block, [-1, parts.size(block.shape[1:])]) for block in blocks]

    def dot(self, directions, weights):
        return parts.Stored(self.variables, self.materialize()).dot(directions, weights)

    def weighted_sum(self, weights, keep):
        weights = tf.cast(weights, self._flat[0].dtype)[None]
        sums = [tf.matmul(weights, parts.zero_rows(block, keep)) for block in self._flat]
        sums = tf.stack([tf.reshape(s, block.shape[1:]) for s, block in zip(sums, self._blocks)])
        return [self._layout(sums, self.variables[0].shape)]

    def materialize(self):
        return [self._layout(tf.stack(self._blocks, 1), self.variables[0].shape)]


class Factored:
    """A kernel used at several positions, or in several calls, as its factors, which were divided by `units`."""

    def __init__(self, variable, maps, units=(1.0, 1.0)):
        self.variables, self._maps, self._units = [variable], maps, units
        self._taps, self._e = _concatenate([linear.factors() for linear in maps])
        inputs, outputs, time = self._taps[0].shape[-1], self._e.shape[-1], self._e.shape[-2]
        n = len(self._taps)
        # with an unknown number of positions the choice falls to a tf.cond, and nothing is kept
        self.fits = time is not None and n * inputs * outputs <= time * (inputs + outputs)
        steps = tf.shape(self._e)[-2] if time is None else time
        # that many inputs at a time have gradients no larger than the factors
        self._slice = steps * (inputs + outputs) // (n * outputs) + 1
        self._ghost = 2 * steps * (n * inputs + outputs) < n * inputs * outputs

    def kept(self):
        """The same with the blocks computed."""
        return Kept(self.variables[0], self._blocks(), self._maps[0].layout)

    def _blocks(self):
        return [self._maps[0].product(tap, self._e) for tap in self._taps]

    def scaled(self):
        """The same with the factors divided by powers of two, for each example the same in all calls."""
        a, e = (scaling.unit(*(getattr(m, name) for m in self._maps)) for name in "ae")
        inverses = scaling.inverse(a), scaling.inverse(e)
        return Factored(self.variables[0], [m.times(*inverses) for m in self._maps], (a, e))

    def squares(self):
        a, e = (tf.add_n([parts.square_sum(getattr(m, name)) for m in self._maps]) for name in "ae")
        bound = self._maps[0].reach * a * e  # (sum_t |a_t| |e_t|)^2 is no larger
        if isinstance(self._ghost, bool):
            found = self._ghost_squares(bound) if self._ghost else self._direct_squares()
        else:
            found = tf.cond(self._ghost, lambda: self._ghost_squares(bound), self._direct_squares)
        return scaling.product(parts.slack(found, bound), *self._units, *self._units)

    def _direct_squares(self):
        return tf.add_n([parts.square_sum(block) for block in self._blocks()])

    def _ghost_squares(self, bound):
        inner = tf.add_n([tf.matmul(tap, tap, transpose_b=True) for tap in self._taps])
        inner *= tf.matmul(self._e, self._e, transpose_b=True)
        found = tf.reduce_sum(inner, list(range(1, inner.shape.rank)))
        return parts.guarded(found, bound, self._one_by_one)

    def _one_by_one(self):
        """[B]: the direct form, with the gradient of one example at a time."""

        def one(factors):
            *taps, e = factors
            return tf.add_n([tf.reduce_sum(tf.square(tf.matmul(tap, e, transpose_a=True))) for tap in taps])

        return tf.map_fn(one, [*self._taps, self._e], fn_output_signature=self._e.dtype, parallel_iterations=1)

    def dot(self, directions, weights):
        found = tf.add_n([linear.push(directions[0]) for linear in self._maps])
        return found * self._weights(weights)

    def _weights(self, weights):
        return tf.cast(scaling.product(weights, *self._units), self._e.dtype)

    def gram(self, weights):
        inputs, e = self._taps[0].shape[-1], self._e * parts.rows(self._weights(weights), self._e)

        def step(start, total):
            part = [tf.matmul(tap[..., start : start + self._slice], e, transpose_a=True) for tap in self._taps]
            flat = tf.reshape(tf.stack(part, 1), [tf.shape(total)[0], -1])
            return start + self._slice, total + tf.matmul(flat, flat, transpose_b=True)

        count = tf.shape(self._e)[0]
        start = (tf.constant(0), tf.zeros([count, count], self._e.dtype))
        return tf.while_loop(lambda start, _: start < inputs, step, start)[1]

    def weighted_sum(self, weights, keep):
        shape, weights = self.variables[0].shape, self._weights(weights)
        maps = self._maps if keep is None else [linear.masked(keep) for linear in self._maps]
        sums = [linear.pull(weights, shape) for linear in maps]
        if any(s is None for s in sums):
            taps, e = (self._taps, self._e) if keep is None else _concatenate([m.factors() for m in maps])
            e *= parts.rows(weights, e)
            blocks = tf.stack([tf.reduce_sum(maps[0].product(tap, e), 0) for tap in taps])
            return [maps[0].layout(blocks, shape)]
        return [tf.add_n(sums)]

    def materialize(self):
        return Factored(self.variables[0], [m.times(*self._units) for m in self._maps]).kept().materialize()


def _concatenate(factors):
    """Factors of several calls of one layer -> the factors of one, with all their positions in a row."""
    if len(factors) == 1:
        return factors[0]
    taps = [tf.concat(calls, -2) for calls in zip(*(taps for taps, _ in factors))]
    return taps, tf.concat([e for _, e in factors], -2)
