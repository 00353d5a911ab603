"""Crafts the poison of an experiment's trials in parallel, and saves one file for each trial."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from tfshape import folders, graphs, imports
from tfshape.evaluation.run import Plan
from tfshape.studies import driver
from tfshape.studies.single import Failures
from tfshape.studies.trial import plan_of

FUNCTION = "tfshape.studies.crafting:one"


def craft(
    plan: Plan,
    folder: pathlib.Path,
    runner: Any,
    at_once: int = 1,
    progress: Callable[[int, int, str], object] | None = None,
) -> None:
    """Saves the poison of every trial whose file is not there yet.

    Args:
        plan: of an experiment with one number of poisons.
        folder: where files go, such as trial-000.npz.
        runner: as for `ts.studies.run`.
        at_once: up to how many trials are crafted together, by the attack's `craft_together`.
        progress: called as `progress(done, total, words)`.

    Raises:
        ValueError, Failed: as `ts.evaluate` does.
    """
    of_all = FUNCTION, folder, plan.settings[0].experiment.of_a_trial(), imports.loaded()
    trials, store, tasks = range(len(plan.settings)), Failures(), []
    for first in trials[::at_once]:
        group = list(trials[first : first + at_once])
        if not all(path(folder, trial).exists() for trial in group):  # all of it depends on what it is crafted with
            tasks.append(driver.make_task(*of_all, trials=group, keys=group))
    driver.drive(store, runner, tasks, progress)
    store.raise_failures()


def one(config: dict, trial: int, folder: str) -> None:
    """Crafts and saves the poison of one trial, in a worker; arguments as of `trial.run`."""
    several(config, [trial], folder)


def several(config: dict, trials: list[int], folder: str) -> list[None]:
    """As `one`, for trials that are crafted together."""
    plan, _ = plan_of(config)
    e = plan.settings[0].experiment
    shapers = [choice.shaper for choice in plan.defenses.values() if choice.shaper is not None]
    shaper = shapers[0] if e.adaptive and shapers else None
    settings = [dataclasses.replace(plan.settings[0], trial=trial) for trial in trials]
    problems = [setting.problem(plan.counts[0], shaper) for setting in settings]
    attack = settings[0].attack
    with graphs.collectable():
        found = [attack.craft(problems[0])] if len(problems) == 1 else attack.craft_together(problems)
    for trial, poisons in zip(trials, found):
        if not path(folder, trial).exists():
            poisons.save(path(folder, trial))
    return [None] * len(trials)


one.stacked = several  # type: ignore[attr-defined]


def path(folder: str | pathlib.Path, trial: int) -> pathlib.Path:
    """The file of a trial's poison. Raises ValueError for a link."""
    return folders.inside(folder, f"trial-{trial:03}.npz")
