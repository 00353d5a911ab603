"""Intervals against published figures and by their coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from tfshape.evaluation import statistics


def test_wilson_against_newcombe_1998():
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3 (score).
    for successes, trials, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        assert statistics.wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)
    assert all(math.isnan(value) for value in statistics.wilson(0, 0))


def test_mean_interval_covers(rng):
    inside = 0
    for _ in range(1000):
        low, high = statistics.mean_interval(rng.normal(2.0, 3.0, size=5))
        inside += low <= 2.0 <= high
    assert 920 <= inside <= 975  # binomial(1000, 0.95) leaves this with probability < 1e-4
    assert all(math.isnan(value) for value in statistics.mean_interval(np.array([1.0])))


def test_paired_proportions_against_published_intervals():
    # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables (2017), chapter 8: the airway data of
    # Bentur et al. 2009 and the consolidation data of Cavo et al. 2012; of Newcombe's square-and-add method.
    for cells, low, high in [((1, 1, 7, 12), -0.507, -0.026), ((59, 6, 16, 80), -0.1186, -0.0046)]:
        first, second = np.repeat([1, 1, 0, 0], cells), np.repeat([1, 0, 1, 0], cells)
        assert statistics.paired_proportions(first, second) == pytest.approx((low, high), abs=5e-4)
        assert statistics.paired_proportions(second, first) == pytest.approx((-high, -low), abs=5e-4)


def test_paired_proportions_at_the_edges():
    assert all(math.isnan(value) for value in statistics.paired_proportions([], []))
    low, high = statistics.paired_proportions([1] * 20, [0] * 20)
    assert -1 <= low < high == 1 and low > 0.7
    low, high = statistics.paired_proportions([0] * 20, [0] * 20)
    assert low == -high and 0.1 < high < 0.25
    low, high = statistics.paired_proportions([1, 0, 1, 0] * 5, [0.5] * 20)
    assert low == pytest.approx(-high)


@pytest.mark.parametrize(("both", "first", "second"), [(0.3, 0.2, 0.2), (0.05, 0.3, 0.05), (0.6, 0.05, 0.05)])
def test_paired_proportions_cover(rng, both, first, second):
    cells = np.array([(1, 1), (1, 0), (0, 1), (0, 0)])
    inside = 0
    for _ in range(1000):
        pairs = cells[rng.choice(4, size=20, p=[both, first, second, 1 - both - first - second])]
        low, high = statistics.paired_proportions(*pairs.T)
        inside += low <= first - second <= high
    assert inside >= 925


def test_sign_flip_is_the_exact_mcnemar_test():
    for less, more, ties in [(8, 1, 11), (0, 6, 14), (5, 5, 0), (30, 14, 100)]:
        differences = [-1] * less + [1] * more + [0] * ties
        assert statistics.sign_flip(differences) == pytest.approx(stats.binomtest(less, less + more).pvalue)
    assert statistics.sign_flip([0, 0]) == 1 and math.isnan(statistics.sign_flip([]))


def test_sign_flip_of_any_numbers(rng):
    for size in (5, 12, 40):
        differences = rng.normal(0.3, 1.0, size)
        expected = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=20_000)
        assert statistics.sign_flip(differences) == pytest.approx(expected.pvalue, abs=0.01)
        assert statistics.sign_flip(differences) == statistics.sign_flip(differences)


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.6, 0.9]) == [1.0, 1.0]
    first, second, third = statistics.holm([0.02, math.nan, 0.03])
    assert (first, third) == pytest.approx((0.04, 0.04)) and math.isnan(second)
    assert statistics.holm([]) == []
