"""Convolutional networks: that of Hong et al. (arXiv 2002.11497), and a small one."""

import keras

from tfshape.models.registry import layer_seeds, require_image


def cnn(input_shape, num_classes, seed):
    """conv16-conv32-maxpool-fc256 with relu; 3x3 kernels without padding, 2x2 pooling. Takes images."""
    require_image("cnn", input_shape, smallest=6)
    seeds = layer_seeds(seed)

    def init():
        return keras.initializers.GlorotUniform(next(seeds))

    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(16, 3, activation="relu", kernel_initializer=init(), name="conv1")(inputs)
    x = keras.layers.Conv2D(32, 3, activation="relu", kernel_initializer=init(), name="conv2")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(256, activation="relu", kernel_initializer=init(), name="features")(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, kernel_initializer=init(), name="logits")(x), name="cnn")


def small_cnn(input_shape, num_classes, seed):
    """conv16-maxpool-conv32-maxpool-fc64 with relu; 3x3 kernels without padding, 2x2 pooling. Takes images."""
    require_image("small_cnn", input_shape, smallest=10)
    seeds = layer_seeds(seed)

    def init():
        return keras.initializers.GlorotUniform(next(seeds))

    inputs = x = keras.Input(input_shape)
    for filters, name in ((16, "conv1"), (32, "conv2")):
        x = keras.layers.Conv2D(filters, 3, activation="relu", kernel_initializer=init(), name=name)(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dense(64, "relu", kernel_initializer=init(), name="features")(keras.layers.Flatten()(x))
    outputs = keras.layers.Dense(num_classes, kernel_initializer=init(), name="logits")(x)
    return keras.Model(inputs, outputs, name="small_cnn")
