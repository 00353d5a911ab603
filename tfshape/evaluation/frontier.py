"""Does a defense help beyond its lower accuracy? Its victims beside undefended ones, stopped at the same accuracy.

Every undefended victim is measured at checkpoints of its training. They give the curve of success against accuracy that
anybody gets by stopping early. `compare` reads it at the accuracy of a defense.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from tfshape.evaluation import statistics

_ROUNDING = 1e-9  # of a mean accuracy

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A defense beside undefended training that was stopped at its accuracy. Without a comparison, numbers are nan.

    Attributes:
        where: "on" the curve; "above" it, if no checkpoint is as accurate as the defense, which is compared with the
            most accurate one then; "below" it, if all checkpoints are more accurate; "no checkpoints".
        trials: the number of trials that both have.
        accuracy, success: of the defense, means over these trials.
        counted: whether success is true or false in each trial, not a rate.
        step: the step at which undefended training is stopped, in all trials.
        undefended_accuracy, undefended: its accuracy and success there, means over the trials.
        beyond: success - undefended; negative if the defense helps.
        low, high: its 95% interval.
        p_value: two-sided, of beyond = 0.
    """

    where: str
    trials: int
    accuracy: float = math.nan
    success: float = math.nan
    counted: bool = False
    step: float = math.nan
    undefended_accuracy: float = math.nan
    undefended: float = math.nan
    beyond: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan

    def columns(self) -> dict[str, float]:
        """The columns of a table: undefended_at_equal_accuracy, beyond_accuracy, its interval and its p-value."""
        return {
            "undefended_at_equal_accuracy": self.undefended,
            "beyond_accuracy": self.beyond,
            "beyond_accuracy_low": self.low,
            "beyond_accuracy_high": self.high,
            "beyond_accuracy_p": self.p_value,
        }


def compare(rows: Iterable[Row], undefended: Iterable[Row]) -> Comparison:
    """Compares a defense with undefended training that is stopped when it is as accurate as the defense.

    One stopping step serves all trials: the first at which the mean accuracy of the undefended victims reaches the mean
    accuracy of the defense, interpolated between checkpoints. Success at that step is paired with the defense's by
    trial. (Matching each trial by its own accuracy would mistake the noise of one accuracy for progress in training.)

    The interval is Newcombe's for paired proportions where success is true or false, and Student's of the paired
    differences for rates. The accuracies are known from these trials only, so it is widened by the largest change of
    the curve within the 95% interval of the difference in accuracy (squares added). The p-value is the larger of two:
    that of `statistics.sign_flip`, which for true or false is the exact McNemar test, and the one at which the interval
    would reach 0.

    Args:
        rows: of the defense's victims, one for each trial: mappings with "trial", "accuracy" and "success" (a bool, or
            a rate; for indiscriminate attacks use `harm`). Those without success are left out.
        undefended: of the undefended victims, with "trial" and "checkpoints": a list of (step, accuracy, success),
            the last one at the end of training. Steps that not all trials have are left out.

    Returns:
        A `Comparison`, over the trials that both have.
    """
    mine = {row["trial"]: row for row in rows if _is_number(row.get("accuracy")) and _is_number(row.get("success"))}
    steps, trials, points = _points(row for row in undefended if row["trial"] in mine)
    if not steps:
        return Comparison("no checkpoints", 0)
    accuracy = np.array([mine[trial]["accuracy"] for trial in trials], np.float64)
    success = np.array([mine[trial]["success"] for trial in trials], np.float64)
    counted = all(_is_bool(mine[trial]["success"]) for trial in trials)
    level, means = float(accuracy.mean()), points.mean(axis=0)
    known: dict[str, Any] = dict(trials=len(trials), accuracy=level, success=float(success.mean()), counted=counted)
    if level < means[0, 0] - _ROUNDING:
        return Comparison("below", **known)
    place = _place(means[:, 0], level)
    found, matched = _read(points, place), _read(means[None], place)[0]
    differences = success - found[:, 1]
    out = Comparison(
        "above" if level > means[:, 0].max() + _ROUNDING else "on",
        **known,
        step=float(np.interp(place, range(len(steps)), steps)),
        undefended_accuracy=float(matched[0]),
        undefended=float(matched[1]),
        beyond=float(differences.mean()),
    )
    if len(trials) < 2:
        return out
    low, high = (
        statistics.paired_proportions(success, found[:, 1]) if counted else statistics.mean_interval(differences)
    )
    rise, fall = _uncertainty(means, level, np.ptp(statistics.mean_interval(accuracy - found[:, 0])) / 2, matched[1])
    down, up = out.beyond - low, high - out.beyond
    wide_down, wide_up = math.hypot(down, rise), math.hypot(up, fall)
    p = statistics.sign_flip(differences)
    facing = wide_up if out.beyond < 0 else wide_down  # 0
    if facing > 0:
        law = stats.norm if counted else stats.t(len(trials) - 1)
        p = max(p, float(2 * law.sf(law.isf(0.025) * abs(out.beyond) / facing)))
    return dataclasses.replace(
        out, low=max(-1.0, out.beyond - wide_down), high=min(1.0, out.beyond + wide_up), p_value=p
    )


def curve(undefended: Iterable[Row]) -> list[dict[str, float]]:
    """The curve of stopping early, to draw: one point for each step that all trials have.

    Args:
        undefended: as for `compare`.

    Returns:
        Dicts of step, accuracy, success (means over the trials), success_low and success_high (their 95% interval:
        Wilson where success is true or false, else Student's) and trials, in the order of the steps.
    """
    undefended = list(undefended)
    steps, trials, points = _points(undefended)
    counted = all(_is_bool(success) for row in undefended for *_, success in row.get("checkpoints") or ())
    out = []
    for place, step in enumerate(steps):
        wins = points[:, place, 1]
        low, high = statistics.wilson(wins.sum(), len(wins)) if counted else statistics.mean_interval(wins)
        means = {"accuracy": float(points[:, place, 0].mean()), "success": float(wins.mean())}
        out.append({"step": step, **means, "success_low": low, "success_high": high, "trials": len(trials)})
    return out


def harm(rows: Iterable[Row], controls: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows of an indiscriminate attack in the form that `compare` and `curve` take.

    Accuracy under such an attack is what the attack lowers, so two victims of equal accuracy under attack cannot tell
    what a defense is worth. They are matched by their accuracy *without* the attack instead: "accuracy" becomes that
    of the control, and "success" what the attack takes from it. Checkpoints are paired by step in the same way.

    Args:
        rows: of the victims under attack, one for each trial.
        controls: of the same defense without the attack; trials without one are left out.

    Returns:
        Dicts of trial, accuracy, success and, where both victims have them, checkpoints.
    """
    clean = {row["trial"]: row for row in controls}
    out = []
    for row in rows:
        control = clean.get(row["trial"])
        if control is None:
            continue
        accuracy = control["accuracy"]
        found = {"trial": row["trial"], "accuracy": accuracy, "success": accuracy - row["accuracy"]}
        ours, theirs = ({step: value for step, value, *_ in r.get("checkpoints") or ()} for r in (row, control))
        steps = [step for step in ours if step in theirs and _is_number(ours[step]) and _is_number(theirs[step])]
        if steps:
            found["checkpoints"] = [(step, theirs[step], theirs[step] - ours[step]) for step in steps]
        out.append(found)
    return out


def _points(rows):
    """Rows with checkpoints -> the steps that all of them have, their trials, and accuracy and success at those steps,
    [trials, steps, 2]."""
    curves = {}
    for row in rows:
        found = {step: pair for step, *pair in row.get("checkpoints") or () if all(map(_is_number, pair))}
        if found:
            curves[row["trial"]] = found
    trials = sorted(curves)
    steps = sorted(set.intersection(*map(set, curves.values()))) if curves else []
    return steps, trials, np.array([[curves[trial][step] for step in steps] for trial in trials], np.float64)


def _place(accuracy, level):
    """Where a series first reaches `level`, between its indices; the index of its maximum if it never does."""
    reached = np.flatnonzero(accuracy >= level - _ROUNDING)
    if not len(reached):
        return float(np.argmax(accuracy))
    after = int(reached[0])
    if not after or accuracy[after] <= level:
        return float(after)
    return after - (accuracy[after] - level) / (accuracy[after] - accuracy[after - 1])


def _read(points, place):
    """Points [n, steps, 2] between two steps: [n, 2]."""
    before = int(place)
    after, share = min(before + 1, points.shape[1] - 1), place - before
    return (1 - share) * points[:, before] + share * points[:, after]


def _uncertainty(means, level, margin, success):
    """How far the curve's mean success rises above and falls below `success` where its accuracy is within `margin`."""
    near = means[np.abs(means[:, 0] - level) <= margin, 1]
    ends = (_read(means[None], _place(means[:, 0], level + shift))[0, 1] for shift in (-margin, margin))
    reached = [success, *near, *ends]
    return max(reached) - success, success - min(reached)


def _is_number(value):
    return value is not None and math.isfinite(value)


def _is_bool(value):
    return isinstance(value, (bool, np.bool_))
