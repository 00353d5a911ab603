"""LayerNormalization and GroupNormalization, and BatchNormalization that uses its moving statistics."""

import contextlib

import keras
import tensorflow as tf

from tfshape.gradients import layers as layers_lib
from tfshape.gradients import parts
from tfshape.gradients.rules import base
from tfshape.gradients.rules.dense import sum_calls

_KINDS = (keras.layers.LayerNormalization, keras.layers.GroupNormalization)


class Rule(base.Rule):
    """A layer y = gamma * n(x) + beta: n(x) comes from the layer itself, run without gamma and beta.

    Per-example gradients of gamma and beta are as small as one position of the activations, so they are kept.
    """

    @staticmethod
    def matches(layer):
        return isinstance(layer, (*_KINDS, keras.layers.BatchNormalization)) and not base.overrides(
            layer, (*_KINDS, keras.layers.BatchNormalization)
        )

    @staticmethod
    def known(layer):
        return [layer.gamma, layer.beta]

    def run(self, record, call, args, kwargs):
        layer = self.layer
        inputs, args, kwargs = base.first(args, kwargs)
        if not tf.is_tensor(inputs) or inputs.shape.rank is None:
            raise record.retry(layer)
        rank = inputs.shape.rank
        if isinstance(layer, keras.layers.BatchNormalization):
            mean, variance = (
                self._broadcast(v, rank, inputs.dtype) for v in (layer.moving_mean, layer.moving_variance)
            )
            normal = (inputs - mean) * tf.math.rsqrt(variance + tf.cast(layer.epsilon, inputs.dtype))
        else:
            with _plain(layer):
                normal = record.invoke(call, (inputs, *args), kwargs)
        outputs = normal
        if layer.gamma is not None:
            outputs *= self._broadcast(layer.gamma, rank, outputs.dtype)
        if layer.beta is not None:
            outputs += self._broadcast(layer.beta, rank, outputs.dtype)
        self.calls.append(base.Call(normal, [record.watch(outputs)]))
        return outputs

    def _axes(self, rank):
        axis = self.layer.axis
        return sorted(n % rank for n in (axis if isinstance(axis, (list, tuple)) else [axis]))

    def _broadcast(self, variable, rank, dtype):
        shape = [1] * rank
        for axis, n in zip(self._axes(rank), variable.shape):
            shape[axis] = n
        return tf.reshape(layers_lib.tensor(variable, dtype), shape)

    def parts(self):
        gamma, beta = self.layer.gamma, self.layer.beta
        variables, gradients = [], []
        for variable, terms in ((gamma, lambda n, e: n * e), (beta, lambda n, e: e)):
            if self.has(variable):
                variables.append(variable)
                gradients.append(sum_calls(self._reduce(terms(n, e)) for n, e in self.pairs()))
        return [parts.Stored(variables, gradients)]

    def _reduce(self, tensor):
        kept = self._axes(tensor.shape.rank)
        return tf.reduce_sum(tensor, [n for n in range(1, tensor.shape.rank) if n not in kept])


@contextlib.contextmanager
def _plain(layer):
    """The layer without its gamma and beta, for the length of one call."""
    attributes = vars(layer)
    kept = {name: attributes[name] for name in ("gamma", "beta", "scale", "center") if name in attributes}
    attributes.update({name: None if name in ("gamma", "beta") else False for name in kept})
    try:
        yield
    finally:
        attributes.update(kept)
