"""Small classifiers: logistic regression, a perceptron, and convolutional networks.

`cnn` is that of Hong et al. (arXiv 2002.11497). Every layer draws its initial weights from a seed of its own.
"""

import keras

from tfshape.models.registry import layer_seeds, require_image


def lr(input_shape, num_classes, seed):
    """Flatten, then one dense layer of logits. Takes inputs of any rank."""
    inputs, dense, _ = _start(input_shape, seed)
    x = keras.layers.Flatten(name="features")(inputs)
    return keras.Model(inputs, dense(num_classes, "logits")(x), name="lr")


def mlp(input_shape, num_classes, seed):
    """Two hidden layers of 256 units with relu. Takes inputs of any rank."""
    inputs, dense, _ = _start(input_shape, seed)
    x = keras.layers.Flatten()(inputs)
    x = dense(256, "hidden", "relu")(x)
    x = dense(256, "features", "relu")(x)
    return keras.Model(inputs, dense(num_classes, "logits")(x), name="mlp")


def cnn(input_shape, num_classes, seed):
    """conv16-conv32-maxpool-fc256 with relu; 3x3 kernels without padding, 2x2 pooling. Takes images."""
    require_image("cnn", input_shape, smallest=6)
    inputs, dense, conv = _start(input_shape, seed)
    x = conv(16, "conv1")(inputs)
    x = conv(32, "conv2")(x)
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D()(x))
    x = dense(256, "features", "relu")(x)
    return keras.Model(inputs, dense(num_classes, "logits")(x), name="cnn")


def small_cnn(input_shape, num_classes, seed):
    """conv16-maxpool-conv32-maxpool-fc64 with relu; 3x3 kernels without padding, 2x2 pooling. Takes images."""
    require_image("small_cnn", input_shape, smallest=10)
    inputs, dense, conv = _start(input_shape, seed)
    x = inputs
    for filters, name in ((16, "conv1"), (32, "conv2")):
        x = keras.layers.MaxPooling2D()(conv(filters, name)(x))
    x = dense(64, "features", "relu")(keras.layers.Flatten()(x))
    return keras.Model(inputs, dense(num_classes, "logits")(x), name="small_cnn")


def _start(input_shape, seed):
    """The input, and makers of dense layers and of convolutions with relu."""
    seeds = layer_seeds(seed)

    def dense(units, name, activation=None):
        init = keras.initializers.GlorotUniform(next(seeds))
        return keras.layers.Dense(units, activation, kernel_initializer=init, name=name)

    def conv(filters, name):
        init = keras.initializers.GlorotUniform(next(seeds))
        return keras.layers.Conv2D(filters, 3, activation="relu", kernel_initializer=init, name=name)

    return keras.Input(input_shape), dense, conv
