"""Per-example gradients of a few variables, in whatever form is cheapest to keep.

A part answers, for the variables it covers and the B examples of the batch,

    squares() [B]        squared norm of each example's gradient, float64
    dot(directions, weights) [B]  inner product of weights_i g_i with a list of tensors like the variables
    gram(weights) [B, B] inner products of weights_i g_i between the examples
    weighted_sum(weights, keep)  list like the variables, sum_i weights_i g_i; rows where `keep` [B] is False are left
                         out even if they are NaN (`keep` None: all rows are finite)
    materialize()        list of [B, *variable.shape]

No square is smaller than the true one but for rounding, whatever the magnitudes: numbers are brought near one by
`scaling` before they are squared. The weights of `dot` and `gram` are float64. What underflows in a weighted sum is
left out, which makes the contribution of an example smaller.
"""

import numpy as np
import tensorflow as tf

from tfshape.gradients import scaling


def rows(weights, like):
    """weights [B] with axes of one appended, to multiply `like` [B, ...]."""
    weights = tf.reshape(weights, [-1] + [1] * (like.shape.rank - 1))
    return weights if weights.dtype == tf.bool else tf.cast(weights, like.dtype)


def zero_rows(tensor, keep):
    """tensor [B, ...] with zeros where `keep` [B] is False."""
    return tensor if keep is None else tf.where(rows(keep, tensor), tensor, tf.zeros_like(tensor))


def square_sum(tensor):
    """Sum of squares over all axes but the first."""
    return tf.reduce_sum(tf.square(tensor), list(range(1, tensor.shape.rank)))


# a squared norm this many times eps below what it is the sum of is computed anew; leaves 4 digits of the norm
_LOST = 1e-4


def guarded(squares, bound, direct):
    """Squared norms [B] that are sums of inner products, with those that cancellation spoils replaced by `direct()`.

    bound [B]: what `squares` would be if nothing cancelled; their error is a small multiple of eps * bound.
    """
    lost = squares * _LOST < bound * _eps(squares)
    return tf.cond(tf.reduce_any(lost), lambda: tf.where(lost, direct(), squares), lambda: squares)


def slack(squares, bound):
    """`squares` [B] and what rounding may add to the gradient when the weighted sum computes it a second time."""
    return squares + bound * (4 * _eps(squares)) ** 2


def _eps(tensor):
    return np.finfo(tensor.dtype.as_numpy_dtype).eps


class Stored:
    """Per-example gradients that are kept: those of small variables, never more than the layer's activations."""

    def __init__(self, variables, gradients):
        """gradients: list of [B, *variable.shape], or of any shape with as many entries."""
        self.variables = variables
        self._flat = [tf.reshape(g, [-1, size(v.shape)]) for g, v in zip(gradients, variables)]

    def squares(self):
        flat, unit = self._scaled()
        return scaling.product(tf.add_n([square_sum(g) for g in flat]), unit, unit)

    def dot(self, directions, weights):
        flat, unit = self._scaled()
        found = [tf.linalg.matvec(g, tf.cast(tf.reshape(d, [-1]), g.dtype)) for g, d in zip(flat, directions)]
        return tf.add_n(found) * tf.cast(scaling.product(weights, unit), found[0].dtype)

    def gram(self, weights):
        flat, unit = self._scaled()
        flat = [g * rows(scaling.product(weights, unit), g) for g in flat]
        return tf.add_n([tf.matmul(g, g, transpose_b=True) for g in flat])

    def _scaled(self):
        """The gradients divided by a power of two [B], and that."""
        unit = scaling.unit(*self._flat)
        return [g * rows(scaling.inverse(unit), g) for g in self._flat], unit

    def weighted_sum(self, weights, keep):
        sums = [tf.matmul(tf.cast(weights, g.dtype)[None], zero_rows(g, keep)) for g in self._flat]
        return [tf.reshape(s, v.shape) for s, v in zip(sums, self.variables)]

    def materialize(self):
        return [tf.reshape(g, [-1, *v.shape]) for g, v in zip(self._flat, self.variables)]


def size(shape):
    """Number of entries."""
    count = 1
    for n in shape:
        count *= n
    return count


def merge(parts):
    """Parts whose variables are disjoint. Parts that share a variable are materialised and added up."""
    seen: set[int] = set()
    shared = False
    for part in parts:
        ids = {id(v) for v in part.variables}
        shared |= bool(seen & ids)
        seen |= ids
    if not shared:
        return parts
    variables: dict[int, tf.Variable] = {}
    sums: dict[int, tf.Tensor] = {}
    for part in parts:
        for variable, gradient in zip(part.variables, part.materialize()):
            key = id(variable)
            variables[key] = variable
            sums[key] = sums[key] + gradient if key in sums else gradient
    return [Stored(list(variables.values()), list(sums.values()))]
