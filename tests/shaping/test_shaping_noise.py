"""The noise is Gaussian, of the stated size, and independent across steps, replicas and variables.

Every statistical test draws from a fixed key and cannot flake. Bounds of five standard deviations fail sound noise for
6 keys in 10^7, Kolmogorov-Smirnov tests for one in 10^4, and the largest of many correlations for 4 in 10^5.
"""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from shaping_helpers import CROSS_ENTROPY, AfterBatch, Capture, batch, dense_model, flat, update

import tfshape as ts
from tfshape.shaping import noise

S = ts.shaping
KEY = (20260801, 7)
N = 400_000
SIGMAS = 5.0  # a standard normal lies beyond with probability 6e-7


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_moments_distribution_and_tails(dtype):
    z = noise.normals(N, KEY, 0, dtype=dtype).numpy().astype("float64")
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean() - mean) < SIGMAS * math.sqrt(variance / N), power
    assert stats.kstest(z, "norm").pvalue > 1e-4
    for bound in (2.0, 3.0, 4.0):
        share = math.erfc(bound / math.sqrt(2))
        assert abs((np.abs(z) > bound).sum() - share * N) < SIGMAS * math.sqrt(share * N) + 1


def test_far_tails_reach_beyond_five_and_a_half_deviations():
    z = np.concatenate([noise.normals(4_000_000, KEY, i).numpy() for i in range(5)])
    expected = len(z) * math.erfc(5.0 / math.sqrt(2))
    assert abs((np.abs(z) > 5.0).sum() - expected) < SIGMAS * math.sqrt(expected)
    assert np.isfinite(z).all()


def test_neighbours_halves_and_streams_are_independent():
    first, second = (noise.normals(N, KEY, i).numpy().astype("float64") for i in (0, 1))
    other_key = noise.normals(N, (KEY[0] + 1, KEY[1]), 0).numpy()
    half = N // 2
    pairs = {
        "steps": (first, second),
        "keys": (first, other_key),
        "neighbours": (first[:-1], first[1:]),
        "halves": (first[:half], first[half:]),
        "a step and the next, one on": (first[1:], second[:-1]),
    }
    for name, (a, b) in pairs.items():
        for f in (lambda v: v, lambda v: v**2 - 1, np.abs, np.sign):
            u, v = f(a) - f(a).mean(), f(b) - f(b).mean()
            assert abs((u * v).mean() / (u.std() * v.std())) < SIGMAS / math.sqrt(len(a)), name


def test_a_pair_that_shares_its_bits_has_a_uniform_angle():
    z = noise.normals(N, KEY, 3).numpy()
    angle = np.arctan2(z[1::2], z[::2]) / math.pi
    assert stats.kstest(angle, "uniform", args=(-1, 2)).pvalue > 1e-4
    radius = z[::2] ** 2 + z[1::2] ** 2
    assert stats.kstest(radius, "expon", args=(0, 2)).pvalue > 1e-4


@pytest.mark.parametrize("dtype, error", [("float32", 3e-7), ("float64", 1e-15)])
def test_the_series_are_sine_and_cosine(dtype, error):
    x = np.linspace(-0.5, 0.5, 10_001).astype(dtype)
    terms = noise.TERMS[tf.as_dtype(dtype)]
    np.testing.assert_allclose(x * noise._series(x**2, 1, terms), np.sin(math.pi * x.astype("float64")), atol=error)
    np.testing.assert_allclose(noise._series(x**2, 0, terms), np.cos(math.pi * x.astype("float64")), atol=error)


def test_variables_large_and_small_and_the_extra_numbers_are_independent():
    tensors = [tf.zeros(shape) for shape in [(300, 200), (200, 300), (7,), (60_000,), (5, 3), (30_000,)]]
    draws = []
    for stream in (0, 1):
        parts, extra = noise.like(tensors, 0.5, KEY, tf.constant(stream, tf.int64), extra=30_000)
        assert [part.shape for part in parts] == [tensor.shape for tensor in tensors]
        draws += [np.ravel(part) / 0.5 for part in parts] + [np.asarray(extra)]
    for i, a in enumerate(draws):
        assert abs(a.mean()) < SIGMAS / math.sqrt(len(a))
        assert abs(a.std() - 1) < SIGMAS / math.sqrt(2 * len(a)) or len(a) < 100
        for b in draws[i + 1 :]:
            both = min(len(a), len(b))
            assert abs((a[:both] * b[:both]).mean()) < SIGMAS / math.sqrt(both)
            assert len(np.intersect1d(a, b)) < 100  # of which a few are equal by chance


def noises(shaped, steps, rows=4):
    """[steps, P]: B times the updates of a model whose examples are all padding, so that only noise is left."""
    optimizer = Capture(shaped.model.trainable_variables)
    shaped.compile(optimizer, loss=CROSS_ENTROPY)
    found = []
    callback = AfterBatch(lambda: found.append(flat(optimizer.captured)))
    x, y = np.zeros([rows * steps, 4], "float32"), np.zeros([rows * steps], "int64")
    shaped.fit(x, y, sample_weight=np.zeros(len(x)), batch_size=rows, callbacks=[callback], verbose=0)
    return np.stack(found) * rows


@pytest.mark.parametrize("microbatch", [None, 2])
def test_every_coordinate_of_the_update_has_the_stated_noise(microbatch):
    z = noises(ts.shape(dense_model(), S.dp_sgd(0.5, 3.0), microbatch=microbatch, seed=5), 400) / 1.5
    steps, coordinates = z.shape
    assert np.abs(z.mean(0)).max() < SIGMAS / math.sqrt(steps)
    # Bounds per coordinate, shared out over the coordinates (Bonferroni).
    low, high = stats.chi2.ppf([5e-7 / coordinates, 1 - 5e-7 / coordinates], steps)
    assert low < (z**2).sum(0).min() and (z**2).sum(0).max() < high
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4
    across_variables = np.corrcoef(z.T)[np.triu_indices(coordinates, 1)]
    assert np.abs(across_variables).max() < 5.5 / math.sqrt(steps)
    for lag in range(1, 11):
        assert abs((z[lag:] * z[:-lag]).mean()) < SIGMAS / math.sqrt(z[lag:].size), lag


def test_noise_comes_on_top_of_the_shaped_sum(rng):
    model, (x, y) = dense_model(), batch(rng, 6)
    clean = update(ts.shape(model, S.Clip(0.5)), x, y)
    noisy = update(ts.shape(model, S.dp_sgd(0.5, 2.0), seed=9), x, y)
    z = (noisy - clean) * 6 / (2.0 * 0.5)
    again = update(ts.shape(model, S.dp_sgd(0.5, 2.0), seed=9, batch_size=60), x, y)
    np.testing.assert_allclose((again - clean * 6 / 60) * 60 / (2.0 * 0.5), z, rtol=1e-3, atol=1e-3)
    assert 0.5 < z.std() < 1.6


def test_a_fixed_stddev_and_an_adaptive_bound():
    fixed = noises(ts.shape(dense_model(), S.parse("krum()|noise(stddev=0.7)"), seed=1), 100)
    assert abs(fixed.std() / 0.7 - 1) < SIGMAS / math.sqrt(2 * fixed.size)
    # Padding adds nothing to the count, so b is 1/2 but for its noise, and with quantile 0 the bound shrinks.
    adaptive = ts.shape(dense_model(), S.parse("adaptive_clip(0, count_stddev=0.0)|noise(2.0)"), seed=1)
    z = noises(adaptive, 100) / (2 * np.exp(-0.2 * 0.5 * np.arange(100)))[:, None]
    assert abs(z.std() - 1) < SIGMAS / math.sqrt(2 * z.size)


def test_the_count_of_an_adaptive_clip_is_noised():
    shaped = ts.shape(dense_model(), S.parse("adaptive_clip(0.5, learning_rate=1.0, count_stddev=2.0)"), seed=3)
    shaped.compile("sgd", loss=CROSS_ENTROPY)
    logs = []
    clip = shaped.non_trainable_weights[0]
    callback = AfterBatch(lambda: logs.append(math.log(float(np.asarray(clip)))))
    x, y = np.zeros([4 * 500, 4], "float32"), np.zeros([4 * 500], "int64")
    shaped.fit(x, y, sample_weight=np.zeros(len(x)), batch_size=4, callbacks=[callback], verbose=0)
    z = -np.diff(logs) * 4 / 2.0
    assert abs(z.mean()) < SIGMAS / math.sqrt(len(z))
    assert abs(z.std() - 1) < SIGMAS / math.sqrt(2 * len(z))


def test_a_seed_repeats_and_its_absence_does_not():
    def draw(seed):
        return noises(ts.shape(dense_model(), S.dp_sgd(1.0, 1.0), seed=seed), 2)

    np.testing.assert_array_equal(draw(1), draw(1))
    assert np.abs(draw(1) - draw(2)).min() > 0
    tf.random.set_seed(0)
    first = draw(None)
    tf.random.set_seed(0)
    assert np.abs(first - draw(None)).min() > 0


def test_setting_weights_back_does_not_repeat_unseeded_noise():
    shaped = ts.shape(dense_model(), S.dp_sgd(1.0, 1.0))
    weights = shaped.get_weights()
    first = noises(shaped, 1)
    shaped.set_weights(weights)
    assert np.abs(first - noises(shaped, 1)).min() > 0
    seeded = ts.shape(dense_model(), S.dp_sgd(1.0, 1.0), seed=1)
    weights = seeded.get_weights()
    first = noises(seeded, 1)
    assert np.abs(first - noises(seeded, 1)).min() > 0
    seeded.set_weights(weights)
    np.testing.assert_array_equal(first, noises(seeded, 1))


@pytest.mark.parametrize("dtype, far", [(tf.float32, 6.8), (tf.float64, 9.5)])
def test_extreme_bits_give_finite_numbers(monkeypatch, dtype, far):
    monkeypatch.setattr(noise, "_pairs", noise._pairs.python_function)  # not what was compiled before
    for pick in ("min", "max"):

        def extreme(shape, seed, minval, maxval, dtype, alg, pick=pick):
            return tf.fill(shape, tf.constant(getattr(dtype, pick), dtype))

        monkeypatch.setattr(tf.random, "stateless_uniform", extreme)
        z = noise.normals(1000, KEY, 0, dtype=dtype).numpy()
        assert np.isfinite(z).all()
        assert np.abs(z).max() > far - 0.1 if pick == "min" else np.abs(z).max() < 1e-3
        assert np.abs(z).max() < far


def test_the_operating_system_gives_the_key(monkeypatch):
    monkeypatch.setattr("os.urandom", lambda count: b"\x01" * count)
    assert noise.entropy_key() == (0x0101010101010101, 0x0101010101010101)
    z = noise.normals(1000, (2**63 - 1, 2**63 - 1), 5).numpy()
    assert abs(z.std() - 1) < SIGMAS / math.sqrt(2000)


@pytest.mark.parametrize("stddev", [1e-35, 1e-25, 1e25, 1e35])
def test_noise_of_any_size(stddev):
    """Its square is zero or infinite in float32; the noise is not."""
    ordinary = noise.normals(1000, KEY, 0).numpy()
    np.testing.assert_allclose(noise.normals(1000, KEY, 0, stddev).numpy() / np.float32(stddev), ordinary, rtol=1e-5)
    (secure,), _ = noise.add_secure([tf.zeros(4000)], stddev)
    assert np.std(np.float64(secure)) == pytest.approx(stddev, rel=0.1)
