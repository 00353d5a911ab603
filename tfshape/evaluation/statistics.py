"""Confidence intervals and tests of trials, also of two rows that share their trials."""

import functools
import math

import numpy as np
from scipy import stats

_Z = float(stats.norm.ppf(0.975))
_MOST_SUMS = 2**14  # of the exact sign-flip test
_DRAWS = 50_000  # of the other one


def wilson(successes, trials):
    """95% Wilson score interval of a success rate (Wilson 1927): `(low, high)` in [0, 1]; (nan, nan) for no trials."""
    return _wilson(int(successes), int(trials)) if trials else (math.nan, math.nan)


@functools.lru_cache(maxsize=4096)  # SciPy takes a millisecond for each, and a study has thousands of rows
def _wilson(successes, trials):
    interval = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


@functools.lru_cache(maxsize=4096)
def _quantile(freedom):
    return stats.t.ppf(0.975, freedom)


def mean_interval(values):
    """95% Student t interval of a mean: `(low, high)`; (nan, nan) for fewer than two values."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return math.nan, math.nan
    half = _quantile(len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def paired_proportions(first, second):
    """95% interval of the difference between two success rates that share their trials.

    Method 10 of Newcombe 1998 (Statistics in Medicine 17:2635-2650): Wilson intervals of both rates, combined with the
    correlation of the pairs.

    Args:
        first, second: [n], the outcome of each trial: 0 or 1, or a probability of success in between, which counts
            as that share of a success.

    Returns:
        `(low, high)` of mean(first) - mean(second); (nan, nan) for no trials.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    n = len(first)
    if not n:
        return math.nan, math.nan
    rates = np.array([first.mean(), second.mean()])
    middle = (rates + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(rates * (1 - rates) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    (down_1, down_2), (up_1, up_2) = rates - (middle - half), middle + half - rates
    both = float(first @ second)
    only_first, only_second = n * rates[0] - both, n * rates[1] - both
    product = both * (n - both - only_first - only_second) - only_first * only_second
    scale = math.sqrt(max(0.0, np.prod(rates * (1 - rates)))) * n**2
    if product > 0:
        product = max(product - n / 2, 0.0)
    correlation = product / scale if scale > 1e-9 else 0.0
    low = math.sqrt(max(0.0, down_1**2 - 2 * correlation * down_1 * up_2 + up_2**2))
    high = math.sqrt(max(0.0, up_1**2 - 2 * correlation * up_1 * down_2 + down_2**2))
    difference = float(rates[0] - rates[1])
    return max(-1.0, difference - low), min(1.0, difference + high)


def sign_flip(differences):
    """Two-sided p-value of paired differences: how often random signs give a sum as far from 0.

    For differences of -1, 0 and 1 it is the exact McNemar test (McNemar 1947). It is exact for those, whatever their
    number, and for 14 of any sizes; beyond that it counts 50,000 seeded draws.

    Args:
        differences: [n], of two rows in each trial.

    Returns:
        A number in (0, 1]; nan for no trials.
    """
    differences = np.asarray(differences, np.float64)
    if not len(differences):
        return math.nan
    sizes = np.abs(differences[differences != 0])
    observed = abs(differences.sum()) - 1e-9
    sums: np.ndarray = np.zeros(1)  # all that signs can give
    shares: np.ndarray = np.ones(1)  # how probable each is
    for size in sizes:
        both = np.round([sums + size, sums - size], 10)
        sums, where = np.unique(both, return_inverse=True)
        shares = np.bincount(where.ravel(), np.tile(shares / 2, 2))
        if len(sums) > _MOST_SUMS:
            return _drawn(sizes, observed)
    return float(min(1.0, shares[np.abs(sums) >= observed].sum()))


def _drawn(sizes, observed):
    rng, sums = np.random.default_rng(0), np.zeros(_DRAWS)
    for size in sizes:
        sums += size * rng.choice((-1, 1), _DRAWS)
    return float((1 + (np.abs(sums) >= observed).sum()) / (1 + _DRAWS))


def holm(p_values):
    """p-values corrected for their number (Holm 1979), in the same order; nan stays nan and is not counted.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    out = np.full(len(p), math.nan)
    order = [place for place in np.argsort(p, kind="stable") if not math.isnan(p[place])]
    least = 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p[place]))
        out[place] = least
    return out.tolist()
