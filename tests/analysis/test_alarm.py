"""The smoke alarm's false-alarm rate is what it says, whatever the scores; and it smells smoke."""

import numpy as np
import pytest

import tfshape as ts

alarm = ts.analysis.smoke_alarm


def clean_scores(rng, size):
    """Scores that depend on each other and have ties and heavy tails."""
    base = rng.standard_t(1, size)
    return {"a": base, "b": -base + rng.normal(size=size), "ties": rng.integers(0, 3, size), "same": np.zeros(size)}


@pytest.mark.parametrize("grouped", [False, True])
def test_on_clean_data_it_fires_as_often_as_it_says(rng, grouped):
    fired, runs = 0, 400
    for seed in range(runs):
        trusted = rng.permutation(np.arange(120) < 30)
        groups = rng.integers(0, 3, 120) if grouped else None
        scores = clean_scores(rng, 120)
        if grouped:  # groups need not be alike, nor trusted alike often, for a rate that holds
            trusted[groups == 2] &= rng.random((groups == 2).sum()) < 0.5
            scores["a"] += 3 * groups
        found = alarm(scores, trusted, groups, 0.1, permutations=19, seed=seed)
        fired += found.fired
        assert found.fired == (found.p_value <= 0.1) and (found.fired or not len(found.suspicious))
    # 4 standard deviations of a binomial about the rate: exact, not merely conservative
    assert abs(fired / runs - 0.1) < 4 * np.sqrt(0.1 * 0.9 / runs)


@pytest.mark.parametrize(("count", "shift", "grouped"), [(60, 8.0, False), (800, 1.0, False), (60, 3.0, True)])
def test_few_extreme_and_many_shifted_examples_are_both_found(rng, count, shift, grouped):
    trusted = rng.permutation(np.arange(2000) < 400)
    groups = rng.integers(0, 10, 2000) if grouped else None
    scores = clean_scores(rng, 2000)
    scores["good"] = rng.normal(size=2000)
    bad = rng.choice(np.flatnonzero(~trusted & (groups == 4 if grouped else True)), count, replace=False)
    scores["good"][bad] += shift
    found = alarm(scores, trusted, groups)
    assert found.fired and found.score == "good"
    assert np.isin(found.suspicious, bad).sum() > len(found.suspicious) - 2 * found.expected - 10
    assert (np.diff(scores["good"][found.suspicious]) <= 0).all() and not trusted[found.suspicious].any()
    assert not grouped or (groups[found.suspicious] == 4).all()


def test_the_p_values_are_those_of_random_labels(rng):
    """How often so many clean examples lie above the j-th trusted one, and how many do in the mean."""
    from tfshape.analysis.alarm import _tests

    size, count, runs = 200, 40, 2000
    edges = []
    for _ in range(runs):
        trusted = rng.permutation(np.arange(size) < count)
        (test,) = _tests({"s": rng.normal(size=size)}, trusted, [np.arange(size)], rng)
        edges.append(test.edges(trusted))
    above = np.array(edges) - (test.steps - 1)
    np.testing.assert_allclose(above.mean(0), (size - count) * test.steps / (count + 1), rtol=0.1)
    for quantile in (0.5, 0.9):
        limits = np.quantile(above, quantile, axis=0, method="higher").astype(int)
        np.testing.assert_allclose((above >= limits).mean(0), test.p_values(limits + test.steps - 1), atol=0.05)


def test_the_same_seed_says_the_same(rng):
    scores, trusted = clean_scores(rng, 100), rng.permutation(np.arange(100) < 20)
    assert alarm(scores, trusted, seed=3).p_value == alarm(scores, trusted, seed=3).p_value


def test_nan_counts_as_lowest(rng):
    trusted = np.arange(100) < 50
    found = alarm({"s": np.where(trusted, 0.0, np.nan)}, trusted)
    assert not found.fired and found.p_value > 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trusted": np.arange(10) < 1}, "trusted must be .*, got 1 of 10"),
        ({"trusted": np.ones(10, bool)}, "trusted must be .*, got 10 of 10"),
        ({"trusted": np.arange(10)}, "trusted must be one bool per example"),
        ({"false_alarm_rate": 0}, "false_alarm_rate must be a number > 0 and < 1, got 0"),
        ({"permutations": 50}, "permutations must be 99 or more, got 50"),
        ({"scores": {"a": np.zeros(9)}}, "scores must have a number for each of 10"),
    ],
)
def test_bad_values_are_refused(change, words):
    options = {"scores": {"a": np.zeros(10)}, "trusted": np.arange(10) < 5, **change}
    with pytest.raises(ValueError, match=words):
        alarm(**options)
