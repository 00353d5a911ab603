"""Crafted examples whose positions cancel: the digits that inner products lose must not let them past a clip."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients_helpers import normal
from selection import most_slow

from tfshape.gradients import per_example

L = keras.layers
CLIP = 0.3


class Times(L.Layer):
    """Multiplies position t by `factors[t]`, so that the gradients of the layer below have those sizes."""

    def __init__(self, factors):
        super().__init__()
        self._factors = np.reshape(factors, [1, -1, 1]).astype("float32")

    def call(self, x):
        return x * self._factors


def cancelling(rows, time, width, scale):
    """[rows, time, width]: v + d, -v, v, -v, ... with |v| = scale and |d| about 1."""
    v = scale * normal((rows, 1, width), 1) / np.sqrt(width)
    x = np.tile(v, (1, time, 1)) * np.resize([1.0, -1.0], time)[:, None]
    x[:, 0] += normal((rows, width), 2)
    return x.astype("float32")


def dense(scale):
    layers = [L.Dense(32, use_bias=False), L.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((4, 64)), *layers]), cancelling(3, 4, 64, scale)


def dense_unknown_length(scale):
    layers = [L.Dense(32, use_bias=False), L.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((None, 64)), *layers]), cancelling(3, 4, 64, scale)


def einsum(scale):
    layers = [L.EinsumDense("btd,de->bte", (None, 32)), L.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((4, 64)), *layers]), cancelling(3, 4, 64, scale)


def convolution(scale):
    layers = [L.Conv1D(48, 1, use_bias=False), L.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((4, 64)), *layers]), cancelling(3, 4, 64, scale)


def convolution_direct(scale):
    layers = [L.Conv1D(16, 3, padding="same", use_bias=False), L.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((8, 16)), *layers]), cancelling(3, 8, 16, scale)


class Unknown(L.Layer):
    """A dense layer that no rule knows."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 32), initializer="glorot_uniform", name="kernel")

    def call(self, x):
        return x @ self.kernel


def without_a_rule(scale):
    layers = [Unknown(), L.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((4, 64)), *layers]), cancelling(3, 4, 64, scale)


def recurrent(scale):
    layers = [L.SimpleRNN(8, activation=None, return_sequences=True), L.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((4, 64)), *layers]), cancelling(3, 4, 64, scale)


def normalization(scale):
    factors = np.resize([scale, -scale], 8)
    factors[0] += 1
    layers = [L.LayerNormalization(), Times(factors), L.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((8, 16)), *layers]), np.tile(normal((3, 1, 16), 5), (1, 8, 1))


def depthwise(scale):
    layers = [L.DepthwiseConv2D(3, padding="same", depth_multiplier=2), L.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((4, 4, 8)), *layers]), cancelling(3, 16, 8, scale).reshape(3, 4, 4, 8)


def separable(scale):
    layers = [L.SeparableConv2D(8, 3, padding="same"), L.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((4, 4, 8)), *layers]), cancelling(3, 16, 8, scale).reshape(3, 4, 4, 8)


def transposed(scale):
    layers = [L.Conv2DTranspose(8, 3, padding="same", use_bias=False), L.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((4, 4, 8)), *layers]), cancelling(3, 16, 8, scale).reshape(3, 4, 4, 8)


def embedding(scale):
    factors = np.resize([scale, -scale], 4)
    factors[0] += 1
    layers = [L.Embedding(7, 16), Times(factors), L.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((4,), dtype="int32"), *layers]), np.full((3, 4), 5)


def long_embedding(scale):
    factors = np.resize([scale, -scale], 80)
    factors[0] += 1
    layers = [L.Embedding(7, 16), Times(factors), L.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((80,), dtype="int32"), *layers]), np.full((3, 80), 5)


MODELS = [dense, dense_unknown_length, einsum, convolution, convolution_direct, embedding, long_embedding]
MODELS += [without_a_rule, recurrent, normalization, depthwise, separable, transposed]


@pytest.mark.parametrize("scale", most_slow([0.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7], 0.0, 1e3, 1e6))
@pytest.mark.parametrize("make", MODELS)
def test_no_contribution_exceeds_the_clip(make, scale):
    keras.utils.set_random_seed(0)
    model, x = make(scale)
    y = 100 * normal((len(x), model.output_shape[-1]), 3)

    @tf.function
    def contribution(x, y, row):
        g = per_example(model, "mean_squared_error", x, y)
        weights = CLIP / tf.maximum(g.norms, CLIP)
        return g.weighted_sum(weights * tf.one_hot(row, len(weights)))

    for row in range(len(x)):
        sums = contribution(tf.constant(x), tf.constant(y), tf.constant(row))
        assert np.sqrt(sum(np.sum(np.square(np.float64(s))) for s in sums)) <= CLIP * 1.0005


@pytest.mark.parametrize("make", MODELS)
def test_the_others_in_the_batch_keep_their_norms(make):
    keras.utils.set_random_seed(0)
    model, x = make(1e6)
    y = normal((len(x), model.output_shape[-1]), 3)
    if x.dtype == "float32":
        x[1] = normal(x.shape[1:], 4)
        g = per_example(model, "mean_squared_error", x, y)
        alone = per_example(model, "mean_squared_error", x[1:2], y[1:2])
        np.testing.assert_allclose(g.norms[1], alone.norms[0], rtol=1e-5)
        exact = np.sqrt(sum(np.sum(np.square(np.float64(m[1]))) for m in g.materialize()))
        np.testing.assert_allclose(g.norms[1], exact, rtol=1e-5)
