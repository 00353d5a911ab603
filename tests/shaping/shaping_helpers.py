"""What the tests of shaping share: small models, gradients one example at a time, and the update of one step."""

import keras
import numpy as np
import tensorflow as tf

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
KERAS3 = int(keras.__version__.split(".")[0]) >= 3


class Capture(keras.optimizers.SGD):
    """Notes the update it is given, and leaves the weights alone."""

    def __init__(self, variables):
        super().__init__(0.0)
        self.captured = [tf.Variable(tf.zeros(v.shape, v.dtype)) for v in variables]

    def apply_gradients(self, grads_and_vars, **kwargs):
        for (gradient, _), captured in zip(grads_and_vars, self.captured):
            captured.assign(gradient)


class AfterBatch(keras.callbacks.Callback):
    """Calls a function after every training step."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_train_batch_end(self, batch, logs=None):
        self.function()


def dense_model(seed=0, inputs=4, outputs=3, **options):
    layers = keras.layers
    init = [keras.initializers.GlorotUniform(seed=seed + i) for i in range(2)]
    return keras.Sequential(
        [
            keras.Input([inputs]),
            layers.Dense(5, activation="tanh", kernel_initializer=init[0], **options),
            layers.Dense(outputs, kernel_initializer=init[1], **options),
        ]
    )


def conv_model(seed=0):
    layers = keras.layers
    init = [keras.initializers.GlorotUniform(seed=seed + i) for i in range(3)]
    return keras.Sequential(
        [
            keras.Input([6, 6, 2]),
            layers.Conv2D(4, 3, activation="relu", kernel_initializer=init[0]),
            layers.Conv2D(4, 3, strides=2, padding="same", kernel_initializer=init[1]),
            layers.Flatten(),
            layers.Dense(3, kernel_initializer=init[2]),
        ]
    )


def two_outputs():
    inputs = keras.Input([4])
    hidden = keras.layers.Dense(5, activation="tanh", kernel_initializer=keras.initializers.GlorotUniform(1))(inputs)
    outs = [keras.layers.Dense(3, name=name)(hidden) for name in ("left", "right")]
    return keras.Model(inputs, outs)


def batch(rng, rows, shape=(4,), classes=3, dtype="float32"):
    return rng.normal(size=[rows, *shape]).astype(dtype) * 2, rng.integers(0, classes, rows)


def flat(tensors):
    return np.concatenate([np.reshape(np.asarray(tensor), [-1]) for tensor in tensors])


def example_gradients(model, x, y, weights=None, loss=None):
    """[B, P]: the gradient of each example, by one backward pass each."""
    loss = loss or (lambda t, p: keras.losses.sparse_categorical_crossentropy(t, p, from_logits=True))
    rows = []
    for i in range(len(x)):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(loss(y[i : i + 1], model(x[i : i + 1], training=True)))
            value *= 1.0 if weights is None else weights[i]
        variables = [v.value if KERAS3 else v for v in model.trainable_variables]
        rows.append(flat(tape.gradient(value, variables)))
    return np.stack(rows)


def clipped(gradients, clip):
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return gradients * np.minimum(1, clip / np.maximum(norms, 1e-30))


def update(shaped, x, y, sample_weight=None, loss=CROSS_ENTROPY, compile_options=None, **fit):
    """The update of one step over the whole of x, y, as a flat vector."""
    optimizer = Capture(shaped.model.trainable_variables)
    shaped.compile(optimizer, loss=loss, **(compile_options or {}))
    rows = len(tf.nest.flatten(x)[0])
    shaped.fit(x, y, sample_weight=sample_weight, batch_size=rows, shuffle=False, verbose=0, **fit)
    return flat(optimizer.captured)


def contrastive(y_true, y_pred):
    unit = tf.nn.l2_normalize(y_pred, 1)
    alike = tf.matmul(unit, unit, transpose_b=True)
    return keras.losses.sparse_categorical_crossentropy(tf.range(tf.shape(y_pred)[0]), alike, from_logits=True)


class BatchMean(keras.layers.Layer):
    def call(self, inputs):
        return inputs - tf.reduce_mean(inputs, 0, keepdims=True)


class RunningMean(keras.layers.Layer):
    def build(self, shape):
        self.mean = self.add_weight(name="mean", shape=(shape[-1],), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.mean.assign(0.9 * self.mean + 0.1 * tf.reduce_mean(inputs, 0))
        return 1.0 * inputs


class MixesItself(keras.Model):
    def __init__(self):
        super().__init__(name="outer")
        self.first, self.last = keras.layers.Dense(5, name="first"), keras.layers.Dense(3, name="last")

    def call(self, inputs):
        hidden = self.first(inputs)
        return self.last(hidden - tf.reduce_mean(hidden, 0))


def sequences(rng):
    return rng.integers(0, 9, [6, 5]), rng.integers(0, 3, 6)


def attention():
    tokens = keras.Input([5], dtype="int32")
    hidden = keras.layers.Embedding(9, 4, mask_zero=True)(tokens)
    hidden = keras.layers.LayerNormalization()(
        hidden + keras.layers.MultiHeadAttention(2, 2, dropout=0.2)(hidden, hidden)
    )
    return keras.Model(tokens, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(hidden)))
