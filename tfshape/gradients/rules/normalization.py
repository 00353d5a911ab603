"""LayerNormalization and GroupNormalization, and BatchNormalization that uses its moving statistics."""

import contextlib

import keras
import tensorflow as tf

from tfshape.gradients import layers as layers_lib
from tfshape.gradients import parts, patch
from tfshape.gradients.rules import base
from tfshape.gradients.rules.dense import sum_calls

_KINDS = (keras.layers.LayerNormalization, keras.layers.GroupNormalization, keras.layers.BatchNormalization)


class Rule(base.Rule):
    """y = gamma * n(x) + beta, run with a copy of gamma and beta for each example.

    The gradients of those are the per-example gradients, from the backward pass itself; they are kept, being as small
    as one position of the activations. Group and batch normalisation are put as y = scale * x + offset with scale and
    offset the same at all positions, so that the backward pass sums over positions but once.
    """

    @staticmethod
    def matches(layer):
        return isinstance(layer, _KINDS) and not base.overrides(layer, _KINDS) and _axes(layer, 1 << 20) is not None

    @staticmethod
    def known(layer):
        return list(_weights(layer).values())

    def run(self, record, call, args, kwargs):
        layer = self.layer
        inputs, args, kwargs = base.first(args, kwargs)
        if not tf.is_tensor(inputs) or inputs.shape.rank is None:
            raise record.retry(layer)
        if hasattr(layer, "groups") and (None in inputs.shape[1:] or kwargs.get("mask") is not None):
            raise record.retry(layer)
        x = base.wide(inputs)
        copies = {}
        for name, variable in _weights(layer).items():
            if variable is not None:
                copies[name] = self._copies(variable, x)
                if self.has(variable):
                    record.watch(copies[name])
        if isinstance(layer, keras.layers.LayerNormalization):
            with _without_weights(layer):
                y = base.wide(record.invoke(call, (inputs, *args), kwargs))
            y = y * copies["gamma"] if "gamma" in copies else y
            y = y + copies["beta"] if "beta" in copies else y
        else:
            mean, scale = self._grouped(x) if hasattr(layer, "groups") else self._moving(x)
            scale = scale * copies["gamma"] if "gamma" in copies else scale
            offset = copies["beta"] - mean * scale if "beta" in copies else -mean * scale
            y = x * scale + offset
        self.calls.append(base.Call(None, [copies[name] for name in self._wanted()]))
        return tf.cast(y, inputs.dtype)

    def _wanted(self):
        return {name: variable for name, variable in _weights(self.layer).items() if self.has(variable)}

    def _copies(self, variable, x):
        """[B, ...]: the variable for each example, to multiply x with."""
        shape = [1] * x.shape.rank
        for axis, n in zip(_axes(self.layer, x.shape.rank), variable.shape):
            shape[axis] = n
        return tf.tile(
            tf.reshape(layers_lib.tensor(variable, x.dtype), shape), [tf.shape(x)[0], *[1] * (len(shape) - 1)]
        )

    def _grouped(self, x):
        """-> mean and 1 / standard deviation of each example's groups, to subtract from and multiply x with."""
        axis, groups = _axes(self.layer, x.shape.rank)[0], self.layer.groups
        shape = x.shape.as_list()
        apart = tf.reshape(x, [-1, *shape[1:axis], groups, shape[axis] // groups, *shape[axis + 1 :]])
        mean, variance = tf.nn.moments(apart, [n for n in range(1, len(shape) + 1) if n != axis], keepdims=True)
        ones = [1] * (len(shape) - 1)
        ones[axis - 1] = shape[axis]
        repeat = [1] * (len(shape) + 1)
        repeat[axis + 1] = shape[axis] // groups
        scale = tf.math.rsqrt(variance + self.layer.epsilon)
        return (tf.reshape(tf.tile(t, repeat), [-1, *ones]) for t in (mean, scale))

    def _moving(self, x):
        """The same from the moving statistics of a batch normalisation that is not training."""
        shape = [1] * x.shape.rank
        shape[_axes(self.layer, x.shape.rank)[0]] = -1
        mean, variance = (
            tf.reshape(layers_lib.tensor(v, x.dtype), shape)
            for v in (self.layer.moving_mean, self.layer.moving_variance)
        )
        return mean, tf.math.rsqrt(variance + self.layer.epsilon)

    def parts(self):
        variables = list(self._wanted().values())
        return [
            parts.Stored(variables, [sum_calls(map(base.wide, es)) for es in zip(*(c.gradients for c in self.calls))])
        ]


def _axes(layer, rank):
    """The axes that gamma and beta run along, or None if they are given in an order the rule does not follow."""
    axis = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    axes = [n % rank for n in axis]
    return axes if axes == sorted(axes) else None


def _weights(layer):
    """gamma and beta by name, None where there is none; waits while another thread has set them aside."""
    with patch.lock:
        return {"gamma": layer.gamma, "beta": layer.beta}


@contextlib.contextmanager
def _without_weights(layer):
    """The layer without its gamma and beta, for the length of one call; other threads wait."""
    attributes = vars(layer)
    with patch.lock:
        kept = {name: attributes[name] for name in ("gamma", "beta", "scale", "center") if name in attributes}
        attributes.update({name: None if name in ("gamma", "beta") else False for name in kept})
        try:
            yield
        finally:
            attributes.update(kept)
