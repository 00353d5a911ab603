"""Max pooling for crafting: Keras' values, gradients and second derivatives, ties included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfshape as ts
from tfshape.attacks import gradient_matching, pooling


def derivatives(model, x, y, direction):
    """The logits, the weights' gradient and the derivative by x of its product with `direction`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        gradient = gradient_matching.loss_gradient(model, model.trainable_variables, x, y)
        product = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(gradient, direction)])
    return [model(x), *gradient, tape.gradient(product, x)]


@pytest.mark.parametrize("name", ["small_cnn", "cnn"])
@pytest.mark.parametrize("compiled", [False, True])
def test_all_derivatives_are_those_of_keras(rng, name, compiled):
    model = ts.models.build(name, (13, 14, 1), 4, seed=3)
    other = pooling.with_cheap_second_derivatives(model)
    assert [layer.name for layer in other.layers[1:]] == [layer.name for layer in model.layers[1:]]
    other.set_weights(model.get_weights())
    x = rng.random((6, 13, 14, 1), np.float32)
    x[:2], x[2, 3:9] = 0.5, 0  # windows whose entries are equal
    y = np.array([0, 1, 2, 3, 0, 1])
    direction = [tf.constant(rng.normal(size=w.shape), tf.float32) for w in model.trainable_variables]
    run = tf.function(derivatives) if compiled else derivatives
    for found, wanted in zip(run(other, tf.constant(x), y, direction), run(model, tf.constant(x), y, direction)):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_what_is_frozen_stays_so_and_other_pooling_is_left_alone(rng):
    layers = [
        keras.layers.MaxPooling2D(3, name="side_by_side"),
        keras.layers.MaxPooling2D(2, strides=1, name="overlapping"),
        keras.layers.MaxPooling2D(2, padding="same", name="padded"),
        keras.layers.Flatten(),
        keras.layers.Dense(5, trainable=False),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential([keras.Input((13, 14, 2)), *layers])
    other = pooling.with_cheap_second_derivatives(model)
    assert [isinstance(layer, pooling.MaxPooling) for layer in other.layers[:3]] == [True, False, False]
    assert len(other.trainable_variables) == 2 and len(other.weights) == 4
    other.set_weights(model.get_weights())
    x = rng.random((3, 13, 14, 2), np.float32)
    np.testing.assert_array_equal(other(x), model(x))


def test_models_without_it_are_given_back():
    for name in ("mlp", "lr"):
        model = ts.models.build(name, (8, 8, 1), 3)
        assert pooling.with_cheap_second_derivatives(model) is model

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.pool = keras.layers.MaxPooling2D()

        def call(self, x):
            return self.pool(x)

    own = Own()
    assert pooling.with_cheap_second_derivatives(own) is own
