"""Noise from the operating system's generator: Gaussian, of the stated size, on a grid, and never the same."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfshape as ts
from tfshape.shaping import noise


class Capture(keras.callbacks.Callback):
    def __init__(self, watched):
        super().__init__()
        self.watched, self.updates, self.last = watched, [], self._flat(watched)

    def _flat(self, watched):
        return np.concatenate([np.ravel(w) for w in watched.get_weights()])

    def on_train_batch_end(self, batch, logs=None):
        now = self._flat(self.watched)
        self.updates.append(self.last - now)
        self.last = now


def train(shaping, steps=60, **options):
    """[steps, parameters]: what each step of SGD at rate 1 subtracted, all rows being padding."""
    base = ts.models.build("lr", (5,), 3, seed=0)
    base.set_weights([0 * w for w in base.get_weights()])
    shaped = ts.shape(base, ts.shaping.parse(shaping), batch_size=4, **options)
    shaped.compile(keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.zeros((4 * steps, 5), np.float32), np.zeros(4 * steps, np.int64)
    capture = Capture(base)
    shaped.fit(x, y, sample_weight=np.zeros(len(x)), batch_size=4, verbose=0, callbacks=[capture])
    return np.array(capture.updates), shaped


def test_noise_in_training_has_the_stated_size_and_never_repeats():
    updates, _ = train("clip(0.5)|noise(2.0)", steps=400, secure_noise=True)
    z = updates.ravel() * 4 / (0.5 * 2.0)
    assert stats.kstest(z, "norm").pvalue > 1e-5  # not seeded: one failure in 100,000
    assert abs((updates[1:] * updates[:-1]).mean()) < 6 * (0.25**2) / np.sqrt(updates[1:].size)
    assert len(np.unique(updates)) > 0.99 * updates.size
    again, _ = train("clip(0.5)|noise(2.0)", steps=2, secure_noise=True)
    assert np.isin(again, updates).sum() <= 3  # of 36 float32 numbers, one coincides by chance in one run of 200


def test_sums_lie_on_a_grid_that_does_not_depend_on_them():
    values = tf.constant(np.random.default_rng(0).normal(size=2_000) * 1e-3)
    for stddev in (1.0, 0.3, 5e-4):
        (summed,), extra = noise.add_secure([values], stddev, extra=3)
        step = 2.0 ** (np.floor(np.log2(stddev)) - 30)
        assert np.array_equal(np.round(summed / step), summed / step)
        assert extra.shape == (3,)
        assert 0.9 < np.std(summed - values) / stddev < 1.1
        low_bits = np.asarray(summed / step).astype(np.int64) % 16  # every residue alike: no holes to read
        assert stats.chisquare(np.bincount(low_bits, minlength=16)).pvalue > 1e-6


def test_without_the_grid_the_values_show_in_the_bits():
    """What the grid is for: float noise plus a value leaves the value's own bits in the sum."""
    value = np.float64(0.1)
    drawn = noise._system_normals(20_000)
    plain = (drawn + value).astype(np.float64)
    (summed,), _ = noise.add_secure([tf.fill([20_000], value)], 1.0)
    fine = 2.0**-52
    assert (np.round(plain / fine) != plain / fine).any()
    assert np.array_equal(np.round(np.asarray(summed) * 2.0**30), np.asarray(summed) * 2.0**30)


def test_bits_come_from_the_operating_system(monkeypatch):
    monkeypatch.setattr(os, "urandom", lambda count: bytes([7]) * count)
    first, second = noise._system_normals(11), noise._system_normals(11)
    assert len(first) == 11 and np.array_equal(first, second) and len(np.unique(first)) == 2


def test_tails_and_moments():
    z = noise._system_normals(400_000)
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (4, 3, 96)]:
        assert abs((z**power).mean() - mean) < 6 * np.sqrt(variance / len(z))
    assert stats.kstest(z, "norm").pvalue > 1e-6 and np.abs(z).max() > 4


def test_adaptive_clip_and_saving(tmp_path):
    updates, shaped = train("adaptive_clip(initial=0.5)|noise(1.0)", secure_noise=True)
    assert np.isfinite(updates).all()
    assert shaped.get_config()["secure_noise"] is True
    shaped.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").secure_noise is True


def test_a_seed_is_refused():
    with pytest.raises(ValueError, match=r"seed must be None with secure_noise.*got 3"):
        ts.shape(ts.models.build("lr", (5,), 3), ts.shaping.dp_sgd(), seed=3, secure_noise=True)
