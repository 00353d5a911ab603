"""Multilayer perceptron."""

import keras

from tfshape.models.registry import layer_seeds


def mlp(input_shape, num_classes, seed):
    """Two hidden layers of 256 units with relu. Takes inputs of any rank."""
    seeds = layer_seeds(seed)

    def dense(units, name, activation=None):
        init = keras.initializers.GlorotUniform(next(seeds))
        return keras.layers.Dense(units, activation=activation, kernel_initializer=init, name=name)

    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten()(inputs)
    x = dense(256, "hidden", "relu")(x)
    x = dense(256, "features", "relu")(x)
    return keras.Model(inputs, dense(num_classes, "logits")(x), name="mlp")
