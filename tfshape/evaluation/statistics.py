"""Confidence intervals of trials."""

import functools
import math

import numpy as np
from scipy import stats


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
