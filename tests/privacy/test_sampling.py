"""Batches as the accountant assumes them: their sizes, their members, their padding, and the update they give."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

import tfshape as ts
from tfshape.privacy import sampling

N = 200


def numbers(count=N):
    return tf.data.Dataset.range(count).map(lambda i: (i, 10 * i))


def memberships(sampler, batch_size, epochs, seed, count=N):
    """Boolean [batches, count]; checks on the way what every batch must be."""
    batches, steps = sampler(numbers(count), batch_size, epochs, seed)
    assert int(batches.cardinality()) == epochs * steps and steps == count // batch_size
    table, shapes = [], set()
    for x, y, weight in batches:
        x, y, weight = x.numpy(), y.numpy(), weight.numpy()
        assert np.array_equal(y, 10 * x) and set(weight) <= {0.0, 1.0}
        real = x[weight == 1]
        assert len(set(real)) == len(real)
        table.append(np.isin(np.arange(count), real))
        shapes.add(len(x))
    assert len(shapes) == 1
    return np.array(table)


@pytest.fixture(scope="module")
def poisson_table():
    return memberships(sampling.poisson, 20, 400, seed=3)  # 4,000 batches, q = 0.1


def test_poisson_sizes_are_binomial(poisson_table):
    sizes = poisson_table.sum(axis=1)
    law = stats.binom(N, 0.1)
    edges = law.ppf(np.linspace(0, 1, 13)[1:-1]).astype(int)
    observed = np.bincount(np.searchsorted(edges, sizes), minlength=len(edges) + 1)
    expected = np.diff(np.concatenate([[0], law.cdf(edges), [1]])) * len(sizes)
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    shuffled = np.full_like(sizes, 20)  # what a sampler that only shuffles would give
    wrong = np.bincount(np.searchsorted(edges, shuffled), minlength=len(edges) + 1)
    assert stats.chisquare(wrong, expected).pvalue < 1e-10


def test_poisson_members_are_independent(poisson_table):
    batches, q = len(poisson_table), 0.1
    rates = poisson_table.mean(axis=0)
    assert np.abs(rates - q).max() < 5 * np.sqrt(q * (1 - q) / batches)
    scores = poisson_table - q
    across_examples = np.corrcoef(scores.T)[np.triu_indices(N, 1)]
    assert np.abs(across_examples).max() < 5.5 / np.sqrt(batches)
    assert stats.kstest(across_examples * np.sqrt(batches), "norm").pvalue > 1e-4
    for lag in (1, 2, 10):  # one example's batches, one after the other and one epoch on
        product = (scores[lag:] * scores[:-lag]).mean() / (q * (1 - q))
        assert abs(product) < 5 / np.sqrt(scores[lag:].size)


def test_balls_in_bins_uses_every_example_once_an_epoch():
    table = memberships(sampling.balls_in_bins, 20, 200, seed=5)
    epochs = table.reshape(200, 10, N)
    assert (epochs.sum(axis=1) == 1).all()
    bins = epochs.argmax(axis=1)
    assert stats.chisquare(np.bincount(bins.ravel(), minlength=10)).pvalue > 1e-3
    sizes = table.sum(axis=1)
    assert abs(sizes.var() / (N * 0.1 * 0.9) - 1) < 0.15  # binomial, where a shuffle has none
    assert abs(np.corrcoef(bins[:-1].ravel(), bins[1:].ravel())[0, 1]) < 5 / np.sqrt(bins[1:].size)


def test_batches_depend_on_the_seed_alone():
    for sampler in (sampling.poisson, sampling.balls_in_bins):
        tf.random.set_seed(1)
        first = memberships(sampler, 20, 2, seed=1)
        tf.random.set_seed(2)
        assert np.array_equal(first, memberships(sampler, 20, 2, seed=1))
        assert not np.array_equal(first, memberships(sampler, 20, 2, seed=2))
    assert not np.array_equal(memberships(sampling.poisson, 20, 2, 1), memberships(sampling.balls_in_bins, 20, 2, 1))


def test_sampling_shares_no_bits_with_the_noise_of_the_same_seed():
    from tfshape.shaping import noise

    drawn = memberships(sampling.poisson, 100, 1, seed=9)[0].astype(float)
    for stream in range(40):
        z = noise.normals(N, (9, 0), stream).numpy()
        assert abs(np.corrcoef(drawn, np.abs(z))[0, 1]) < 0.4 and abs(np.corrcoef(drawn, z)[0, 1]) < 0.4


def test_rows_keep_the_promised_probability():
    for n, batch, steps, truncation in [(6_000, 128, 460, 1e-18), (200, 20, 40, 1e-3), (50, 50, 10, 1e-9)]:
        count = sampling.rows(batch, n, steps, truncation)
        law = stats.binom(n, batch / n)
        assert steps * law.sf(count) <= truncation
        assert count == 1 or steps * law.sf(count - 1) > truncation
    assert sampling.rows(20, 200, 40, 0.0) == 200
    assert sampling.rows(20, 200, 40, 1e-3, physical=16) % 16 == 0


def test_truncation_happens_as_often_as_said():
    limit = sampling.rows(20, N, 400, truncation=0.999)
    batches, _ = sampling.poisson(numbers(), 20, 40, 7, truncation=0.999)
    assert {len(x) for x, _, _ in batches} == {limit}
    full = sum(float(tf.reduce_sum(weight)) == limit for *_, weight in batches)
    assert full <= 3 * 400 * stats.binom(N, 0.1).sf(limit - 1) + 3


def test_weights_of_the_data_stay():
    data = tf.data.Dataset.from_tensor_slices((np.arange(9), np.arange(9), np.arange(9, dtype=np.float32)))
    for sampler in (sampling.poisson, sampling.balls_in_bins):
        for x, _, weight in sampler(data, 3, 2, 0, truncation=0.0)[0]:
            count = int(tf.math.count_nonzero(weight))
            assert set(weight.numpy()[weight.numpy() > 0]) <= set(x.numpy()[: count + 1])


@pytest.mark.parametrize("sampler", [sampling.shuffle, sampling.poisson, sampling.balls_in_bins])
def test_elements_that_are_not_examples_are_refused(sampler):
    x, y = np.random.rand(40, 8).astype(np.float32), np.arange(40) % 4
    slices = tf.data.Dataset.from_tensor_slices
    marked = slices((x, y)).apply(ts.poison.flip_labels(0.05, 4, mark=True))
    with pytest.raises(ValueError, match=r"^data must be .*drops a mark such as is_poison, got .*bool"):
        sampler(marked, 8, 1, 0)
    with pytest.raises(ValueError, match=r"^data must be .*got dicts of image, label\. Make tuples"):
        sampler(slices({"image": x, "label": y}), 8, 1, 0)
    for elements in (x, (x,), (x, y, y, y), (x, y, y)):
        with pytest.raises(ValueError, match=r"^data must be a dataset of tuples \(x, y\)"):
            sampler(slices(elements), 8, 1, 0)
    with pytest.raises(ValueError, match="data must be a dataset with examples, got 0"):
        sampler(slices((x, y)).take(0), 8, 1, 0)
    model = ts.models.build("mlp", (8,), 4, seed=0)
    with pytest.raises(ValueError, match="drops a mark such as is_poison"):
        ts.training.fit(model, marked, ts.training.Recipe(epochs=1, batch_size=8), 0)


def test_rows_far_out_and_of_many_examples():
    for n, batch, truncation in [(60_000, 256, 1e-18), (1_000, 10, 1e-300), (10**9, 1_000, 1e-18)]:
        found = sampling.rows(np.int64(batch), np.int64(n), 100, truncation)
        beyond = np.arange(found + 1, min(n, found + 2_000) + 1)
        for limit, above in ((beyond, False), (np.append(found, beyond), True)):
            spilled = 100 * np.exp(special.logsumexp(stats.binom.logpmf(limit, n, batch / n)))
            assert (spilled > truncation) == above


class Capture(keras.callbacks.Callback):
    """What one step of SGD with rate 1 subtracted."""

    def on_train_begin(self, logs=None):
        self.before = [np.array(w) for w in self.model.model.get_weights()]

    def on_train_end(self, logs=None):
        self.update = [b - a for b, a in zip(self.before, self.model.model.get_weights())]


def update(x, y, weight, microbatch=None):
    model = ts.models.build("mlp", (6,), 3, seed=4)
    shaped = ts.shape(model, ts.shaping.Clip(0.1), batch_size=20, microbatch=microbatch)
    shaped.compile(keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    capture = Capture()
    options = {} if weight is None else {"sample_weight": weight}
    shaped.fit(x, y, batch_size=len(x), epochs=1, shuffle=False, verbose=0, callbacks=[capture], **options)
    return np.concatenate([part.ravel() for part in capture.update])


@pytest.mark.parametrize("sampler", [sampling.poisson, sampling.balls_in_bins])
def test_the_update_with_padding_is_the_update_without(sampler, rng):
    x, y = rng.normal(size=(N, 6)).astype(np.float32), rng.integers(0, 3, N)
    batches, _ = sampler(tf.data.Dataset.from_tensor_slices((x, y)), 20, 1, seed=8, physical=8)
    xs, ys, weight = (part.numpy() for part in next(iter(batches)))
    assert 0 < weight.sum() < len(weight) and len(xs) % 8 == 0
    real = weight == 1
    bare = update(xs[real], ys[real], None)
    assert np.abs(bare).max() > 1e-3
    np.testing.assert_allclose(update(xs, ys, weight), bare, atol=1e-6)
    np.testing.assert_allclose(update(xs, ys, weight, microbatch=8), bare, atol=1e-6)  # physical batches
    other = np.where(real[:, None], xs, 1e3).astype(np.float32)  # whatever stands in the padding
    np.testing.assert_allclose(update(other, ys, weight), bare, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 201}, "batch_size must be at most the number of examples, 200, got 201"),
        ({"batch_size": 0}, "batch_size"),
        ({"truncation": 1.0}, "truncation must be a number >= 0 and < 1, got 1.0"),
        ({"truncation": -0.1}, "truncation must be .*, got -0.1"),
        ({"physical": 0}, "physical must be an integer >= 1, got 0"),
    ],
)
def test_bad_values_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        sampling.poisson(numbers(), **{"batch_size": 20, "epochs": 1, "seed": 0, **options})
    with pytest.raises(ValueError, match="data must have an end"):
        sampling.balls_in_bins(numbers().repeat(), 20, 1, 0)


@pytest.mark.parametrize("name", sampling.SAMPLERS)
def test_a_feed_gives_the_batches_of_its_sampler_for_any_arrays_and_seed(name):
    rng, feed = np.random.default_rng(0), None
    for seed in (0, 7, 2**32 - 1):
        arrays = rng.normal(size=(53, 2)).astype(np.float32), rng.integers(0, 9, 53).astype(np.int32)
        expected, steps = sampling.SAMPLERS[name](tf.data.Dataset.from_tensor_slices(arrays), 8, 3, seed)
        feed = feed or sampling.Feed(name, arrays, 8, 3)
        feed.start(arrays, seed)
        assert (feed.steps, feed.batches.element_spec) == (steps, expected.element_spec)
        found, expected = list(feed.batches), list(expected)
        assert len(found) == len(expected) == 3 * steps
        for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
            np.testing.assert_array_equal(a, b)
        feed.stop()
