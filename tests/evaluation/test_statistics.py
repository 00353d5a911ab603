"""Intervals against published figures and by their coverage."""

import math

import numpy as np
import pytest

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
