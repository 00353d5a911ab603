"""A shaped model saves and loads as any Keras model does, its shapers' state with it."""

import forked
import keras
import numpy as np
import pytest
from shaping_helpers import CROSS_ENTROPY, batch, conv_model, dense_model, flat

import tfshape as ts

S = ts.shaping
SHAPING = "orient(0.1, reference='momentum')|adaptive_clip(0.6)|noise(1.0)"


def trained(rng, **options):
    x, y = batch(rng, 12)
    shaped = ts.shape(dense_model(), S.parse(SHAPING), batch_size=4, microbatch=2, **options)
    shaped.compile(keras.optimizers.Adam(0.01), loss=CROSS_ENTROPY, metrics=["accuracy"])
    shaped.fit(x, y, batch_size=4, epochs=2, verbose=0)
    return shaped, x, y


def test_keras_file_round_trip(rng, tmp_path):
    shaped, x, y = trained(rng, seed=4)
    shaped.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", safe_mode=True)
    assert loaded.shaping == shaped.shaping
    assert (loaded.batch_size, loaded.microbatch, loaded.seed) == (4, 2, 4)
    for a, b in zip(shaped.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(shaped.predict(x, verbose=0), loaded.predict(x, verbose=0))
    # Training goes on where it was: optimizer, momentum, bound and noise alike.
    for model in (shaped, loaded):
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for a, b in zip(shaped.get_weights(), loaded.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_weights_file_round_trip(rng, tmp_path):
    shaped, x, _ = trained(rng)
    shaped.save_weights(tmp_path / "m.weights.h5")
    other = ts.shape(dense_model(seed=9), S.parse(SHAPING))
    other.build((None, 4))
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(other.predict(x, verbose=0), shaped.predict(x, verbose=0))
    for a, b in zip(shaped.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_unseeded_noise_differs_after_loading(rng, tmp_path):
    shaped, x, y = trained(rng)
    shaped.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for model in (shaped, loaded):
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert np.abs(flat(shaped.model.get_weights()) - flat(loaded.model.get_weights())).max() > 1e-5


@pytest.mark.parametrize("text", ["clip(1.0)|noise(1.0)", "geometric_median()", "per_layer_clip(1.0)"])
def test_the_original_is_all_there_is_to_save_without_state(tmp_path, text):
    shaped = ts.shape(conv_model(), S.parse(text))
    assert len(shaped.get_weights()) == len(shaped.model.get_weights())
    shaped.model.save(tmp_path / "m.keras")
    plain = keras.models.load_model(tmp_path / "m.keras")
    for a, b in zip(shaped.get_weights(), plain.get_weights()):
        np.testing.assert_array_equal(a, b)


PLAIN = """
import sys
import keras, numpy as np
model = keras.models.load_model("m.keras", safe_mode=True)
np.save("y.npy", model.predict(np.load("x.npy"), verbose=0))
model.fit(np.load("x.npy"), np.zeros(12), verbose=0)  # it is compiled as it was when it was saved
assert not any(name.split(".")[0] == "tfshape" for name in sys.modules)
"""


def test_what_was_shaped_loads_where_there_is_no_tfshape(rng, tmp_path):
    shaped, x, _ = trained(rng)
    model = shaped.model
    model.compile("sgd", loss=CROSS_ENTROPY)
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", x)
    done = forked.code(tmp_path, PLAIN)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), shaped.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_checkpoint_callback_and_clone(rng, tmp_path):
    x, y = batch(rng, 8)
    shaped = ts.shape(dense_model(), S.dp_sgd(1.0, 1.0))
    shaped.compile("sgd", loss=CROSS_ENTROPY)
    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), monitor="loss")
    shaped.fit(x, y, batch_size=4, verbose=0, callbacks=[checkpoint])
    assert keras.models.load_model(tmp_path / "best.keras").shaping == shaped.shaping
    clone = type(shaped).from_config(shaped.get_config())
    assert clone.shaping == shaped.shaping and clone.model is not shaped.model
