"""What differential privacy promises against poison: the most that any attacker with k examples can reach."""

from __future__ import annotations

import math
from typing import Any

from tfshape import checks
from tfshape.privacy import Training


def poisoning_bound(epsilon: float, delta: float, num_poisons: int, clean_success: float) -> float:
    """The largest attack success that any attacker with `num_poisons` examples can reach against such a mechanism.

    With p the success on clean data, and group privacy for k examples (epsilon_k = k epsilon, delta_k = delta
    (e^{k epsilon} - 1) / (e^epsilon - 1)), success is at most e^{epsilon_k} p + delta_k, and failure at least
    e^{-epsilon_k} (1 - p - delta_k); the less of the two bounds is returned.

    Args:
        epsilon: >= 0; delta: 0 <= delta <= 1. A guarantee for changing one example: if the attacker replaces examples,
            a guarantee for replacing one.
        num_poisons: examples the attacker controls, >= 0.
        clean_success: probability, 0 to 1, that the attacker's goal is met by training without any poison. An upper
            confidence limit gives an upper confidence limit.

    Returns:
        A probability, 0 to 1. Success means any event that is decided by the trained weights, or the mean over
        trainings of any score from 0 to 1.

    Raises:
        ValueError: for a value outside these ranges.

    Source: Ma, Zhu and Hsu 2019 (arXiv 1903.09860), theorem 1, for delta = 0; Vadhan 2017, lemma 2.2, for groups.
    """
    if checks.scalar(epsilon) != math.inf:
        epsilon = checks.real("epsilon", epsilon, 0)
    delta = checks.real("delta", delta, 0, 1)
    num_poisons = checks.integer("num_poisons", num_poisons, 0)
    clean_success = checks.real("clean_success", clean_success, 0, 1)
    total = num_poisons * epsilon
    if total > 700:
        return 1.0
    group_delta = delta * (math.expm1(total) / math.expm1(epsilon) if epsilon > 0 else num_poisons)
    return _success(total, group_delta, clean_success)


def poisoning_ceiling(
    noise_multiplier: float,
    batch_size: float,
    num_examples: int,
    steps: int,
    num_poisons: int,
    clean_success: float,
    sampling: str = "poisson",
    neighbors: str = "replace",
    **options: Any,
) -> float:
    """As `poisoning_bound`, but from the accountant at group size `num_poisons`, and the least over all epsilons.

    Tighter than k times the epsilon of one example, because the accountant knows how likely a batch holds several of
    the poisons. `neighbors`: "replace" if poisons take the place of examples, "add_remove" if they are inserted.
    `batch_size` and `steps` are those of the training without attack. Other arguments are attributes of `Training`.

    Source: group privacy by Ganesh 2024 (arXiv 2401.10294); the rest as `poisoning_bound`.
    """
    num_poisons = checks.integer("num_poisons", num_poisons, 0)
    clean_success = checks.real("clean_success", clean_success, 0, 1)
    options = {**options, "sampling": sampling, "neighbors": neighbors}
    run = Training(noise_multiplier, batch_size, num_examples, steps, group_size=max(num_poisons, 1), **options)
    if num_poisons == 0 or steps == 0:
        return float(clean_success)
    best = 1.0
    for epsilon in _epsilons():
        best = min(best, _success(epsilon, run.delta(epsilon), clean_success))
    return best


def certified_poisons(
    max_success: float,
    noise_multiplier: float,
    batch_size: float,
    num_examples: int,
    steps: int,
    clean_success: float,
    neighbors: str = "replace",
    **options: Any,
) -> int:
    """The most poisons with which no attacker can reach a success above `max_success` (0 to 1).

    The inverse of `poisoning_ceiling`, whose arguments the others are. Returns an int from 0 to `num_examples`.
    Raises ValueError for values out of range, and where `clean_success` exceeds `max_success` already.
    """
    max_success = checks.real("max_success", max_success, 0, 1)
    clean_success = checks.real("clean_success", clean_success, 0, max_success)
    num_examples = checks.integer("num_examples", num_examples, 1)
    plan = {"clean_success": clean_success, "neighbors": neighbors, **options}

    def safe(poisons):
        return poisoning_ceiling(noise_multiplier, batch_size, num_examples, steps, poisons, **plan) <= max_success

    low, high = 0, 1
    while high <= num_examples and safe(high):
        low, high = high, 2 * high
    high = min(high, num_examples + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if safe(middle) else (low, middle)
    return low


def _success(epsilon, delta, clean_success):
    above = math.exp(epsilon) * clean_success + delta
    below = 1 - math.exp(-epsilon) * max(0.0, 1 - clean_success - delta)
    return float(min(1.0, above, below))


def _epsilons():
    """0 and 40 more to 30, closer together where they are small; beyond, no bound says anything."""
    return [30 * (step / 40) ** 2 for step in range(41)]
