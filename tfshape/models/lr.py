"""Multinomial logistic regression."""

import keras

from tfshape.models.registry import layer_seeds


def lr(input_shape, num_classes, seed):
    """Flatten, then one dense layer of logits. Takes inputs of any rank."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten(name="features")(inputs)
    init = keras.initializers.GlorotUniform(next(layer_seeds(seed)))
    return keras.Model(inputs, keras.layers.Dense(num_classes, kernel_initializer=init, name="logits")(x), name="lr")
