"""Which elements are chosen: how many, how evenly, and what that depends on."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from poison_helpers import arrays, dataset, images, unknown

from tfshape import poison
from tfshape.poison import selection

MASK = (1 << 64) - 1


def splitmix64(key, index):
    """The published generator with plain integers: state key + index * gamma, then its finaliser."""
    z = (key + index * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_draw_is_splitmix64_of_the_index():
    import hashlib

    key = int.from_bytes(hashlib.sha256(b"purpose:-5").digest()[:8], "big")
    index = [0, 1, 2, 1000, 2**40, 2**62]
    expected = [splitmix64(key, i) >> 2 for i in index]
    assert selection.draw(-5, "purpose", tf.constant(index, tf.int64)).numpy().tolist() == expected


def test_draws_are_uniform_and_unrelated_between_seeds_and_purposes():
    index = tf.range(100_000, dtype=tf.int64)
    streams = [selection.draw(seed, purpose, index).numpy() / 2.0**62 for seed in (0, 1) for purpose in "ab"]
    for draws in streams:
        counts = np.histogram(draws, 100, (0, 1))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 99 + 6 * np.sqrt(2 * 99)  # chi-square, 99 degrees, 6 sigma
        assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.02
    correlations = np.corrcoef(streams)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.02


@settings(max_examples=100)
@given(size=st.integers(0, 300), rate=st.floats(0, 1), seed=st.integers(-(2**70), 2**70), data=st.data())
def test_exact_chooses_the_rounded_count_among_the_eligible(size, rate, seed, data):
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)
    count = round(rate * size)
    if count > eligible.sum():
        with pytest.raises(ValueError, match=f"{count} of {size}, but only {eligible.sum()} are"):
            selection.exact("who", rate, seed, size, tf.constant(eligible, tf.bool))
        return
    chosen = selection.exact("who", rate, seed, size, tf.constant(eligible, tf.bool)).numpy()
    assert chosen.shape == (size,) and chosen.sum() == count
    assert not (chosen & ~eligible).any()
    fewer = selection.exact("who", rate / 2, seed, size, tf.constant(eligible, tf.bool)).numpy()
    assert not (fewer & ~chosen).any()


def test_every_eligible_element_is_as_likely():
    size, eligible = 40, np.arange(40) % 2 == 0
    hits = sum(
        selection.exact("who", 0.1, seed, size, tf.constant(eligible)).numpy().astype(int) for seed in range(500)
    )
    assert hits[~eligible].sum() == 0
    expected = 500 * 4 / 20
    assert ((hits[eligible] - expected) ** 2 / expected).sum() < 19 + 6 * np.sqrt(2 * 19)


@pytest.mark.parametrize("rate", [0.0, 0.03, 1.0])
def test_the_coin_of_an_unknown_or_infinite_dataset_keeps_its_rate(rate):
    x, y = images(2000, (1,))
    finite = unknown(dataset(x, y)).apply(poison.flip_labels(rate, 4, seed=5, mark=True))
    infinite = dataset(x, y).repeat().apply(poison.flip_labels(rate, 4, seed=5, mark=True))
    assert finite.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert infinite.cardinality() == tf.data.INFINITE_CARDINALITY
    marks = arrays(finite)[2]
    assert np.array_equal(marks, arrays(infinite.take(2000))[2])
    assert abs(marks.mean() - rate) <= 5 * np.sqrt(rate * (1 - rate) / 2000)


def test_the_coin_respects_eligibility():
    x, y = images(2000, (1,))
    marked = arrays(unknown(dataset(x, y)).apply(poison.flip_labels(0.3, 4, classes=[2], mark=True)))
    assert set(y[marked[2]]) == {2}
    share = marked[2].sum() / (y == 2).sum()
    assert abs(share - 0.3) < 5 * np.sqrt(0.3 * 0.7 / (y == 2).sum())


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), "0.1", None, True])
def test_bad_rate(rate):
    with pytest.raises(ValueError, match="flip_labels: rate must be a number >= 0 and <= 1, got"):
        poison.flip_labels(rate, 4)


@pytest.mark.parametrize("seed", [0.5, "1", None, True])
def test_bad_seed(seed):
    with pytest.raises(ValueError, match="flip_labels: seed must be an integer, got"):
        poison.flip_labels(0.1, 4, seed=seed)
