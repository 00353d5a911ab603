"""What the tests of the engine share: precision, seeds and small random batches."""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from per_example_reference import check, loop


@contextlib.contextmanager
def precision(floatx):
    """Layers made inside compute in `floatx`."""
    keras.backend.set_floatx(floatx)
    keras.mixed_precision.set_global_policy(floatx)
    try:
        yield
    finally:
        keras.backend.set_floatx("float32")
        keras.mixed_precision.set_global_policy("float32")


def randomize(model, seed=0):
    """Every weight random, those that start at zero or one too, so that no term of a gradient vanishes."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(np.asarray(variable) + 0.3 * rng.normal(size=variable.shape))
    return model


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(keras.backend.floatx())


def check_layers(floatx, make, x, mode="eager", seed=0, **options):
    """Every quantity for the model of the layers `make()` on a batch `x`, with a loss that pulls on every output."""
    with precision(floatx):
        keras.utils.set_random_seed(seed)
        x = x.astype(floatx) if x.dtype.kind == "f" else x
        model = keras.Sequential(make())
        y = normal(model(x).shape, seed + 1)
        randomize(model, seed)
        return check(model, x, y, mode=mode, seed=seed, reference=loop(model, masked_error, x, y), **options)


def masked_error(y_true, y_pred):
    """Mean squared error of one example over the steps that its Keras mask keeps; zero if there are none."""
    error = tf.reduce_mean((y_true - y_pred) ** 2, -1)
    mask = getattr(y_pred, "_keras_mask", None)
    if mask is None:
        return error
    keep = tf.cast(mask, error.dtype) * tf.ones_like(error)
    return tf.reduce_sum(error * keep, keepdims=True) / tf.maximum(tf.reduce_sum(keep), 1)
