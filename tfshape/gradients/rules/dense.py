"""Dense and EinsumDense."""

import math

import keras
import tensorflow as tf

from tfshape.gradients import linear, parts
from tfshape.gradients.rules import base


class Rule(base.Rule):
    """Dense on [B, I] or [B, ..., I]."""

    outer = True  # whether a kernel used on [B, I] is a matrix

    @staticmethod
    def matches(layer):
        return isinstance(layer, keras.layers.Dense) and not base.overrides(layer, [keras.layers.Dense])

    @staticmethod
    def known(layer):
        return [layer.kernel, layer.bias]

    def parts(self):
        found, pairs = [], self.pairs()
        if len(pairs) == 1 and pairs[0][0].shape.rank == 2 and self.has(self.layer.kernel) and self.outer:
            wanted = [v for v in self.known(self.layer) if self.has(v)]
            return [linear.Outer(wanted, *pairs[0])]
        if self.has(self.layer.kernel):
            found.append(linear.linear_part(self.layer.kernel, self.maps(pairs)))
        if self.has(self.layer.bias):
            shape = self.layer.bias.shape
            found.append(parts.Stored([self.layer.bias], [sum_calls(base.unbroadcast(e, shape) for _, e in pairs)]))
        return found

    def maps(self, pairs):
        return [DenseMap(a, e) for a, e in pairs]


class EinsumRule(Rule):
    """EinsumDense whose equation starts with the batch axis in input and output, and sums nothing out beside."""

    outer = False

    @staticmethod
    def matches(layer):
        return isinstance(layer, keras.layers.EinsumDense) and not base.overrides(layer, [keras.layers.EinsumDense])

    def run(self, record, call, args, kwargs):
        inputs = base.first(args, kwargs)[0]
        if inputs.shape.rank is None or labels(self.layer.equation, inputs.shape.rank) is None:
            raise record.retry(self.layer)
        return super().run(record, call, args, kwargs)

    def maps(self, pairs):
        return [EinsumMap(a, e, self.layer.equation) for a, e in pairs]


def sum_calls(gradients):
    gradients = list(gradients)
    return tf.add_n(gradients) if len(gradients) > 1 else gradients[0]


class DenseMap(linear.LinearMap):
    def factors(self):
        return [_steps(self.a)], _steps(self.e)

    def layout(self, gradient, kernel_shape):
        return tf.squeeze(gradient, -3)

    def push(self, kernel):
        return inner(tf.tensordot(self.a, tf.cast(kernel, self.a.dtype), 1), self.e)

    def pull(self, weights, kernel_shape):
        a = tf.reshape(self.a, [-1, kernel_shape[0]])
        e = tf.reshape(self.e * parts.rows(weights, self.e), [-1, kernel_shape[1]])
        return tf.matmul(a, e, transpose_a=True)


def _steps(tensor):
    """[B, ..., N] -> [B, T, N]."""
    time = _product(tensor.shape[1:-1])
    lead = [tf.shape(tensor)[0], -1] if time is None else [-1, time]
    return tf.reshape(tensor, [*lead, tensor.shape[-1]])


def inner(a, b):
    """[B]: inner products of a [B, ...] and b [B, ...]."""
    return tf.reduce_sum(a * b, list(range(1, a.shape.rank)))


def labels(equation, rank):
    """The labels of an einsum for an input of `rank`, or None if it is not linear in the way the rule needs.

    -> (input, kernel, output) with the ellipsis spelled out.
    """
    x, rest = equation.replace(" ", "").split(",")
    kernel, y = rest.split("->")
    if "..." in x:
        free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in equation]
        spelled = "".join(free[: rank - len(x) + 3])
        x, y = x.replace("...", spelled), y.replace("...", spelled)
    distinct = all(len(set(term)) == len(term) for term in (x, kernel, y))
    summed_elsewhere = set(x) - set(kernel) - set(y) or set(kernel) - set(x) - set(y)
    if not distinct or summed_elsewhere or x[:1] != y[:1] or x[0] in kernel or len(x) != rank:
        return None
    return x, kernel, y


class EinsumMap(linear.LinearMap):
    """Labels of the kernel found in the input only are contracted (i), in the output only produced (o), in both
    independent groups (g); the others but the batch are positions (t)."""

    def __init__(self, a, e, equation):
        super().__init__(a, e)
        self._equation = equation
        x, kernel, y = self._labels = labels(equation, a.shape.rank)
        self._g = [c for c in kernel if c in x and c in y]
        self._i = [c for c in kernel if c in x and c not in y]
        self._o = [c for c in kernel if c in y and c not in x]
        self._t = [c for c in x[1:] if c in y and c not in kernel]

    def _sizes(self, term, tensor, wanted):
        return [tensor.shape[term.index(c)] for c in wanted]

    def _cut(self, tensor, term, last):
        """[B, (groups,) T, last]."""
        order = [0] + [term.index(c) for c in self._g + self._t + last]
        groups = [_product(self._sizes(term, tensor, self._g))] if self._g else []
        time = _product(self._sizes(term, tensor, self._t))
        lead, time = (tf.shape(tensor)[0], -1) if time is None else (-1, time)
        shape = [lead, *groups, time, _product(self._sizes(term, tensor, last))]
        return tf.reshape(tf.transpose(tensor, order), shape)

    def factors(self):
        x, _, y = self._labels
        return [self._cut(self.a, x, self._i)], self._cut(self.e, y, self._o)

    def layout(self, gradient, kernel_shape):
        kernel = self._labels[1]
        sizes = dict(zip(kernel, kernel_shape))
        order = self._g + self._i + self._o
        lead = gradient.shape.rank - (4 if self._g else 3)
        shape = [-1] * lead + [sizes[c] for c in order]
        places = list(range(lead)) + [lead + order.index(c) for c in kernel]
        return tf.transpose(tf.reshape(gradient, shape), places)

    def push(self, kernel):
        return inner(tf.einsum(self._equation, self.a, tf.cast(kernel, self.a.dtype)), self.e)

    def pull(self, weights, kernel_shape):
        x, kernel, y = self._labels
        return tf.einsum(f"{x},{y}->{kernel}", self.a, self.e * parts.rows(weights, self.e))


def _product(sizes):
    return None if None in list(sizes) else math.prod(sizes)
