"""Max pooling that can be differentiated twice at little cost, for crafting through gradients."""

from __future__ import annotations

import keras
import tensorflow as tf


def with_cheap_second_derivatives(model: keras.Model) -> keras.Model:
    """A model like `model`, with new weights, whose max pooling over windows side by side is `MaxPooling`.

    TensorFlow differentiates the gradient of max pooling by an operation that takes as long as several convolutions, on
    one core. Models without such a layer, or that Keras cannot clone layer by layer, are given back as they are.
    """
    layered = getattr(model, "inputs", None)  # not a subclass with a `call` of its own
    if not layered or not any(map(_side_by_side, model.layers)):
        return model

    def clone(layer):
        kind = MaxPooling if _side_by_side(layer) else type(layer)
        return kind.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=clone)


class MaxPooling(keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` over windows [B, H, W, C] that do not overlap: the same values and gradients."""

    def call(self, inputs):
        return _pool(inputs, tuple(self.pool_size))


def _side_by_side(layer):
    return (
        type(layer) is keras.layers.MaxPooling2D
        and tuple(layer.strides) == tuple(layer.pool_size)
        and layer.padding == "valid"
        and layer.data_format == "channels_last"
    )


def _pool(x, size):
    window = {"ksize": [1, *size, 1], "strides": [1, *size, 1], "padding": "VALID"}

    @tf.custom_gradient
    def pool(x):
        largest = tf.raw_ops.MaxPool(input=x, **window)

        @tf.custom_gradient
        def spread(upstream):
            def gather(upstream):
                # of each window the one entry from which its maximum came: a mean over it and zeros
                chosen = tf.raw_ops.MaxPoolGrad(orig_input=x, orig_output=largest, grad=tf.ones_like(largest), **window)
                return size[0] * size[1] * tf.raw_ops.AvgPool(value=upstream * chosen, **window)

            return tf.raw_ops.MaxPoolGrad(orig_input=x, orig_output=largest, grad=upstream, **window), gather

        return largest, spread

    return pool(x)
