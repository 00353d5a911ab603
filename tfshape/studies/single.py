"""Runs one experiment with the trials, runners and cache of a study, and writes its results to files."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from tfshape import evaluation, folders, imports, strict_json
from tfshape.evaluation import Experiment, Results, accounting
from tfshape.evaluation.results import POISONS
from tfshape.provenance import provenance
from tfshape.studies import driver
from tfshape.studies.local import InProcess
from tfshape.studies.study import TRIAL
from tfshape.training import distribution

LOCK = ".lock"  # in a folder of results, while a run writes to it


class Failed(RuntimeError):
    """Trials ended by errors that are no bad values; what the others gave is kept."""


def evaluate(
    experiment: Experiment,
    output_dir: str | os.PathLike | None = None,
    progress: Callable[[int, int, str], object] | None = None,
    runner: Any = None,
) -> Results:
    """Runs all trials of an experiment.

    In each trial the attack crafts its poison once for every number of poisons; every defense then trains one victim
    on it and, as a control, one on the same examples unperturbed (or without what was inserted or relabelled). If the
    experiment is adaptive, each shaped victim meets poison crafted against its shaping too. All victims of a trial
    share their target and their seed.

    Args:
        experiment: a `ts.Experiment`.
        output_dir: where results are written as they come (see `Results`), and continued from if an earlier run of the
            same experiment was interrupted; None keeps them in memory. Of several processes that train victims together
            the leading one alone writes.
        progress: called as `progress(done, total, words)`, counting trials.
        runner: where trials run: None, one after the other in this process; or `ts.studies.Local(workers)`, in
            processes of one thread each, which needs an `output_dir`. The numbers do not depend on how many workers
            there are.

    Returns:
        `Results`.

    Raises:
        ValueError: for a value that is not allowed, while another run writes to `output_dir`, or for damaged files
            in it; no file has been changed then.
        OSError: if `output_dir` cannot be written; before any work is done.
        Failed: trials failed in processes of their own; in this one, what they raise is raised.
    """
    e = experiment
    distribution.strategy(e.distribute)  # before TensorFlow has computed anything
    plan = evaluation.plan(e)
    runner = InProcess() if runner is None or e.distribute is not None else runner
    with contextlib.ExitStack() as stack:
        directory = None
        if output_dir is not None and distribution.leads(e.distribute):
            directory = pathlib.Path(output_dir)
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(folders.alone(folders.inside(directory, LOCK), "output_dir", output_dir))
        results = Results(e, directory, provenance())
        rows = _Rows(results, plan)
        driver.drive(rows, runner, rows.tasks(), progress)
        rows.raise_failures()
    for name, choice in plan.defenses.items():
        mine = [row for row in results.trials if row["defense"] == name]
        results.statements[name] = accounting.statement(e, choice, mine)
    return results


class Failures:
    """A store that remembers nothing but the errors of trials."""

    def __init__(self):
        self._failures = []

    def counts(self):
        return {"done": 0}

    def save(self, started=(), finished=(), failed=(), waiting=()):
        self._failures += [(trial, error) for trial, _, error in failed]

    def raise_failures(self):
        """Raises the first error: ValueError for a bad value, else `Failed`."""
        for trial, error in self._failures:
            kind, _, words = error.partition("\n")[0].partition(": ")
            if kind == "ValueError":
                raise ValueError(words)
            raise Failed(f"trial {trial} failed: {error}")


class _Rows(Failures):
    """The store of an experiment: trials whose victims are all in its `Results` are done."""

    def __init__(self, results, plan):
        super().__init__()
        self._results, self._folder = results, results.directory
        self._victims = evaluation.run.victims_of(results.experiment, plan.defenses, plan.counts)
        self._left = [trial for trial in range(len(plan.settings)) if self._missing(trial)]
        self._done = len(plan.settings) - len(self._left)
        if self._folder is not None:
            folders.inside(self._folder, "cache")

    def _missing(self, trial):
        missing = any(self._results.find(trial, *victim) is None for victim in self._victims)
        return distribution.from_leader(self._results.experiment.distribute, missing)

    def tasks(self):
        of_all = TRIAL, self._folder, self._results.experiment.of_a_trial(), imports.loaded()
        return [driver.make_task(*of_all, trials=[trial], keys=[trial]) for trial in self._left]

    def counts(self):
        return {"done": self._done}

    def save(self, started=(), finished=(), failed=(), waiting=()):
        super().save(failed=failed)
        for trial, _, result in finished:
            result = strict_json.numbers(result)
            for entry in result["poisons"] if self._folder is not None else ():
                self._show(trial, entry)
            found = ((row, (trial, row["count"], row["defense"], row["data"])) for row in result["rows"])
            self._results.add(*(row for row, victim in found if self._results.find(*victim) is None))

    def _show(self, trial, entry):
        """Puts poison from the cache where people look for it."""
        name = f"trial-{trial:03}"
        if len(self._results.experiment.counts) > 1:
            name += f"-{entry['count']}"
        if entry["adapted"] is not None:
            name += "-" + "".join(c if c.isalnum() or c == "." else "_" for c in entry["adapted"])
        path = folders.inside(self._folder, POISONS, f"{name}.npz")
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            source = folders.inside(self._folder, "cache", "poisons", entry["file"])
            try:
                os.link(source, path)
            except OSError:  # not every file system can
                shutil.copyfile(source, path)
