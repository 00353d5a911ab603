"""Orient with trusted examples from a file, and the weights that a shaped model gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from shaping_helpers import CROSS_ENTROPY, Capture, batch, dense_model, example_gradients, flat

import tfshape as ts


@pytest.fixture
def trusted(tmp_path, rng):
    x, y = batch(rng, 6)
    np.savez(tmp_path / "trusted.npz", x=x, y=y)
    return str(tmp_path / "trusted.npz"), x, y


def expected(model, x, y, trusted, cosine, drop):
    """The weights by their definition, from gradients one example at a time."""
    gradients, reference = example_gradients(model, x, y), example_gradients(model, *trusted).mean(axis=0)
    cosines = gradients @ reference / np.linalg.norm(gradients, axis=1) / np.linalg.norm(reference)
    return np.where(cosines < cosine, 0 if drop else (1 + cosines) / (1 + cosine), 1.0), gradients


@pytest.mark.parametrize("drop", [False, True])
def test_weights_and_update_follow_the_gradient_of_the_trusted_examples(rng, trusted, drop):
    path, *clean = trusted
    model = dense_model()
    x, y = batch(rng, 16)
    shaped = ts.shape(model, ts.shaping.parse(f"orient(0.1, reference={path!r}, drop={drop})"))
    capture = Capture(model.trainable_variables)
    shaped.compile(capture, loss=CROSS_ENTROPY)
    weights, gradients = expected(model, x, y, clean, 0.1, drop)
    assert 2 < (weights < 1).sum() < 14
    found = ts.gradients.per_example(model, CROSS_ENTROPY, x, y)
    np.testing.assert_allclose(shaped.example_weights(found), weights, rtol=1e-4, atol=1e-6)
    shaped.fit(x, y, batch_size=16, epochs=1, verbose=0)
    np.testing.assert_allclose(flat(capture.captured), weights @ gradients / 16, rtol=1e-4, atol=1e-6)


def test_the_reference_moves_with_the_model(rng, trusted):
    path, *clean = trusted
    model = dense_model()
    x, y = batch(rng, 16)
    shaped = ts.shape(model, ts.shaping.Orient(0.1, reference=path))
    shaped.compile(keras.optimizers.SGD(1.0), loss=CROSS_ENTROPY)
    shaped.fit(x, y, batch_size=8, epochs=5, verbose=0)
    weights, _ = expected(model, x, y, clean, 0.1, False)
    found = ts.gradients.per_example(model, CROSS_ENTROPY, x, y)
    np.testing.assert_allclose(shaped.example_weights(found), weights, rtol=1e-4, atol=1e-6)


def test_it_has_the_sensitivity_of_what_stands_before_it_and_round_trips(trusted):
    shaping = ts.shaping.parse(f"clip(0.5)|orient(0.1, reference={trusted[0]!r})|noise(1.0)")
    assert shaping.sensitivity == 0.5 and shaping.noise_multiplier == 1.0
    assert ts.shaping.parse(str(shaping)) == shaping
    assert ts.shape(dense_model(), shaping, microbatch=4).microbatch == 4


def test_files_that_are_not_trusted_examples_are_refused_in_a_line(tmp_path):
    np.savez(tmp_path / "other.npz", z=np.zeros(3))
    np.savez(tmp_path / "uneven.npz", x=np.zeros((3, 4)), y=np.zeros(2))
    np.savez(tmp_path / "pickle.npz", x=np.array([None]), y=np.zeros(1))
    for name in ("missing", "other", "uneven", "pickle"):
        with pytest.raises(ValueError, match=f"{name}.npz") as error:
            ts.shaping.Orient(reference=str(tmp_path / f"{name}.npz"))
        assert "\n" not in str(error.value)


def test_weights_of_a_chain_with_state_are_those_of_the_next_step(rng):
    model = dense_model()
    x, y = batch(rng, 8)
    shaped = ts.shape(model, ts.shaping.AdaptiveClip(initial=0.3, learning_rate=0.5, count_stddev=0.0))
    shaped.compile(keras.optimizers.SGD(0.0), loss=CROSS_ENTROPY)
    norms = np.linalg.norm(example_gradients(model, x, y), axis=1)
    found = ts.gradients.per_example(model, CROSS_ENTROPY, x, y)
    np.testing.assert_allclose(shaped.example_weights(found), 0.3 / np.maximum(norms, 0.3), rtol=1e-5)
    shaped.fit(x, y, batch_size=8, epochs=1, verbose=0)
    clip = 0.3 * np.exp(-0.5 * ((norms <= 0.3).mean() - 0.5))
    np.testing.assert_allclose(shaped.example_weights(found), clip / np.maximum(norms, clip), rtol=1e-5)
    bad = ts.gradients.per_example(model, CROSS_ENTROPY, tf.where(x == x[0], np.nan, x), y)
    assert shaped.example_weights(bad)[0] == 0
