"""Epsilon of DP-SGD, and the noise, delta and steps that go with one, computed on dp_accounting.

Every function takes the attributes of `Training` by name: `epsilon(1.0, 128, 6_000, 460, 1e-5, sampling="shuffle")`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tfshape import checks
from tfshape.privacy.training import Training, probability


def epsilon(
    noise_multiplier: float,
    batch_size: int,
    num_examples: int,
    steps: int,
    delta: float,
    sampling: str = "poisson",
    **options: Any,
) -> float:
    """Epsilon at `delta` of `steps` DP-SGD updates.

    Args:
        noise_multiplier, batch_size, num_examples, steps, sampling: attributes of `Training`.
        delta: probability, 0 < delta < 1.
        options: its other attributes: neighbors, group_size, count_trials, truncation.

    Returns:
        Epsilon as a float, never below the truth; inf where the noise is 0 (and steps are not).

    Raises:
        ValueError: for a value outside their ranges.

    Source: Abadi et al. 2016 (arXiv 1607.00133) for DP-SGD. For "poisson", privacy loss distributions as in Doroshenko
    et al. 2022 (arXiv 2207.04380), or Rényi DP (Mironov et al. 2019, arXiv 1908.10530) where epsilon exceeds 30;
    for "shuffle", the Gaussian mechanism once for each epoch (Balle and Wang 2018, arXiv 1805.06530, theorem 8); for
    "balls_in_bins", the loss of Chua et al. 2025, computed without sampling. The docs page privacy.md tells more.
    """
    return Training(noise_multiplier, batch_size, num_examples, steps, sampling, **options).epsilon(delta)


def delta_for(
    epsilon: float,
    noise_multiplier: float,
    batch_size: int,
    num_examples: int,
    steps: int,
    sampling: str = "poisson",
    **options: Any,
) -> float:
    """The delta at which those steps have `epsilon` (>= 0). Other arguments, and what is raised, as in `epsilon`."""
    return Training(noise_multiplier, batch_size, num_examples, steps, sampling, **options).delta(epsilon)


def noise_for(
    epsilon: float,
    batch_size: int,
    num_examples: int,
    steps: int,
    delta: float,
    sampling: str = "poisson",
    **options: Any,
) -> float:
    """The least noise multiplier, to a part in 1,000, at which those steps have at most `epsilon` (> 0) at `delta`.

    Other arguments as in the function `epsilon`. Raises ValueError as it does, and where no noise up to 1e6 suffices.
    """
    epsilon, delta = checks.real("epsilon", epsilon, 0, above=True), probability("delta", delta)
    run = Training(1.0, batch_size, num_examples, steps, sampling, **options)

    target = epsilon * (1 - 1e-6)  # deltas are a hair off where epsilon is computed by another code

    def enough(noise):
        return dataclasses.replace(run, noise_multiplier=noise).delta(target) <= delta

    low, high = 0.5, 1.0
    while not enough(high):
        low, high = high, 2 * high
        checks.require("epsilon", high < 1e6, "one that a noise multiplier up to 1e6 reaches", epsilon)
    while low > 1e-3 and high == 1.0 and enough(low):
        low, high = low / 2, low
    while high - low > 1e-3 * high:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def steps_for(
    epsilon: float,
    noise_multiplier: float,
    batch_size: int,
    num_examples: int,
    delta: float,
    sampling: str = "poisson",
    **options: Any,
) -> int:
    """The most steps, up to 2**40, that have at most `epsilon` (>= 0) at `delta`; other arguments as in `epsilon`."""
    epsilon, delta = checks.real("epsilon", epsilon, 0), probability("delta", delta)
    run = Training(noise_multiplier, batch_size, num_examples, 1, sampling, **options)
    target = epsilon * (1 - 1e-6)

    def fits(steps):
        return dataclasses.replace(run, steps=steps).delta(target) <= delta

    # Shuffled examples and balls are spent by the epoch: the last one that is paid for can be used to its end.
    unit = 1 if sampling == "poisson" else int(run.num_examples // run.batch_size)
    low, high = 0, 1
    while fits(high * unit):
        low, high = high, 2 * high
        if high * unit > 2**40:
            return low * unit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * unit) else (low, middle)
    return low * unit


def joint_noise(noise_multiplier: float, count_stddev: float) -> float:
    """The noise multiplier of a sum and of the noisy count that an adaptive clip releases along with it.

    `(noise_multiplier⁻² + (2 count_stddev)⁻²)^(-1/2)`, for noise of `count_stddev` on the count of unclipped examples,
    each counted as ±1/2; both >= 0. `ts.shaping.AdaptiveClip` has it in its `noise_multiplier` already.
    Source: Andrew et al. 2021 (arXiv 1905.03871), theorem 1. Raises ValueError for values out of range.
    """
    noise_multiplier = checks.real("noise_multiplier", noise_multiplier, 0)
    count_stddev = checks.real("count_stddev", count_stddev, 0)
    if not noise_multiplier or not count_stddev:
        return 0.0
    return (noise_multiplier**-2 + (2 * count_stddev) ** -2) ** -0.5
