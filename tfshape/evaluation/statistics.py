"""Confidence intervals of trials."""

import math

import numpy as np
from scipy import stats


def wilson(successes, trials):
    """95% Wilson score interval of a success rate (Wilson 1927): `(low, high)` in [0, 1]; (nan, nan) for no trials."""
    if not trials:
        return math.nan, math.nan
    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values):
    """95% Student t interval of a mean: `(low, high)`; (nan, nan) for fewer than two values."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
