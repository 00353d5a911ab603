"""What columns of `results.csv` are computed by: functions of a `DefenseRecord`."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import numpy as np

from tfshape.evaluation import accounting, frontier, statistics
from tfshape.evaluation.records import DefenseRecord, VictimRecord, pairs


def mean(victims: Iterable[VictimRecord], name: str) -> float:
    """The mean of an attribute over the victims that have it."""
    values = [value for victim in victims if (value := getattr(victim, name)) is not None]
    return float(np.mean(values)) if values else math.nan


def accuracy(defense: DefenseRecord, data: str) -> tuple[float, float, float]:
    """Mean accuracy on clean test examples, and its interval."""
    victims = defense.on(data)
    low, high = np.clip(statistics.mean_interval([victim.accuracy for victim in victims]), 0, 1)
    return mean(victims, "accuracy"), low, high


def _wins(defense, data):
    return [victim.success for victim in defense.on(data) if victim.success is not None]


def _binary(wins):
    return all(isinstance(win, bool) for win in wins)


def successes(defense: DefenseRecord, data: str) -> float:
    """In how many trials the attack succeeded; NaN where that is a share."""
    wins = _wins(defense, data)
    return sum(wins) if wins and _binary(wins) else math.nan


def success_rate(defense: DefenseRecord, data: str) -> tuple[float, float, float]:
    """The attack success rate, and its interval."""
    wins = _wins(defense, data)
    interval = statistics.wilson(sum(wins), len(wins)) if _binary(wins) else statistics.mean_interval(wins)
    low, high = np.clip(interval, 0, 1)
    return sum(wins) / len(wins) if wins else math.nan, low, high


def accuracy_loss(defense: DefenseRecord) -> tuple[float, float, float]:
    """Mean accuracy without the attack less that with it, in pairs, and its interval."""
    losses = [clean.accuracy - victim.accuracy for victim, clean in pairs(defense.poison, defense.control)]
    return (float(np.mean(losses)) if losses else math.nan, *statistics.mean_interval(losses))


def of_classes(victims: Iterable[VictimRecord]) -> list[float]:
    """The mean accuracy of each class over victims; NaN for a class without test examples."""
    accuracies = np.array([victim.class_accuracy for victim in victims], np.float64)
    return [float(found.mean()) if (found := column[~np.isnan(column)]).size else math.nan for column in accuracies.T]


def worst_class(defense: DefenseRecord) -> float:
    """The least mean accuracy of any class."""
    return min((mean for mean in of_classes(defense.poison) if not math.isnan(mean)), default=math.nan)


def ratio(defense: DefenseRecord, part: str, whole: str) -> float:
    """One sum over the victims of a defense that removes examples, divided by another."""
    victims = [victim for victim in defense.poison if victim.dropped is not None]
    total = sum(getattr(victim, whole) for victim in victims)
    return sum(getattr(victim, part) for victim in victims) / total if total else math.nan


@functools.lru_cache(maxsize=1)  # several columns are of one comparison
def at_equal_accuracy(defense: DefenseRecord) -> frontier.Comparison:
    """A defense beside undefended training stopped at its accuracy; without numbers for undefended training itself."""
    if defense.first.defense == "none":
        return frontier.Comparison("undefended", 0)
    theirs = [victim for victim in defense.undefended if victim.data == "poison"]
    rows, undefended = ([vars(victim) for victim in victims] for victims in (defense.poison, theirs))
    if defense.first.success is None:
        rows = frontier.harm(rows, map(vars, defense.control))
        undefended = frontier.harm(undefended, (vars(v) for v in defense.undefended if v.data == "control"))
    return frontier.compare(rows, undefended)


def ceiling(defense: DefenseRecord) -> float:
    """The certified ceiling of a defense's success rate, from what its controls show of success by chance."""
    first, controls = defense.first, defense.control
    if first.success is None:
        return math.nan
    if not math.isfinite(first.epsilon) or not controls:
        return 1.0
    from tfshape import shaping  # loads TensorFlow

    # a share of test examples is bounded as a probability is; its trials count one each
    wins = math.ceil(sum(victim.success or 0 for victim in controls))
    found = (first.num_examples, first.num_poisons, first.inserted, wins, len(controls))
    return accounting.ceiling(defense.experiment, shaping.parse(first.defense), *found)
