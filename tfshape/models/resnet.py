"""Residual networks for small images (He et al. 2016, arXiv 1512.03385, section 4.2), with group normalisation.

Batch normalisation makes one example's gradient depend on the other examples of the batch, so that no bound on a
single example's influence holds; group normalisation (Wu & He 2018, arXiv 1803.08494) looks at one example only.
"""

import keras

from tfshape.models.registry import layer_seeds, require_image

GROUPS = 8


def resnet20(input_shape, num_classes, seed):
    """Three stages of three two-layer blocks, 16, 32 and 64 channels wide; the last two stages start with stride 2.

    A shortcut that changes the shape is a strided 1x1 convolution (option B of the paper).
    """
    require_image("resnet20", input_shape, smallest=4)
    seeds = layer_seeds(seed)

    def conv(x, width, size, stride):
        init = keras.initializers.HeNormal(next(seeds))
        return keras.layers.Conv2D(width, size, stride, "same", use_bias=False, kernel_initializer=init)(x)

    def norm(x):
        return keras.layers.GroupNormalization(GROUPS)(x)

    def relu(x):
        return keras.layers.ReLU()(x)

    inputs = keras.Input(input_shape)
    x = relu(norm(conv(inputs, 16, 3, 1)))
    for width, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, 1, 1):
            shortcut = x if stride == 1 else conv(x, width, 1, stride)
            x = relu(norm(conv(x, width, 3, stride)))
            x = norm(conv(x, width, 3, 1))
            x = relu(keras.layers.Add()([x, shortcut]))
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    init = keras.initializers.GlorotUniform(next(seeds))
    outputs = keras.layers.Dense(num_classes, kernel_initializer=init, name="logits")(x)
    return keras.Model(inputs, outputs, name="resnet20")
