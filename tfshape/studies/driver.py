"""The driver: hands trials to a runner and puts what comes back into the store."""

from __future__ import annotations

import collections
import dataclasses
import errno
import os
import pathlib
import time
from collections.abc import Callable, Iterable
from typing import Any

from tfshape import checks, folders, imports, strict_json
from tfshape.studies import cache, files
from tfshape.studies.store import Store
from tfshape.studies.study import Study

LOCK = "driver.lock"
ATTEMPTS = 3  # how often a trial is tried whose worker dies
_WAIT_SECONDS = 0.5


def run(
    study: Study,
    runner: Any,
    retry_failed: bool = False,
    stack: int = 1,
    progress: Callable[[int, int, str], object] | None = None,
) -> dict[str, int]:
    """Runs the trials of a study that are not done, and writes its files.

    However this process or its workers end, what was finished stays: the same call goes on from there. Trials that
    raise, or whose workers die `ATTEMPTS` times, are recorded with their error and do not stop the others.

    Args:
        study: a `Study`; its folder is made if need be.
        runner: `Local(…)` or `OnRay(…)`.
        retry_failed: whether trials that failed before are tried again.
        stack: up to how many trials of a point run as one task, 1 to 1000, by the trial function's `stacked`, a
            function of (config, trials, folder), if it has one.
        progress: called as `progress(done, total, words)`, counting what this run has to do.

    Returns:
        Dict of status ("done", "failed", "waiting", "running") to how many trials have it.

    Raises:
        ValueError: another driver is at work on the folder, it holds another study, or a file of it is damaged or a
            link; nothing has been changed then.
        OSError: the folder cannot be written, or the disk is full; the same call resumes when there is room.
    """
    stack = checks.integer("stack", stack, 1, 1000)
    study.folder.mkdir(parents=True, exist_ok=True)
    lock, _ = (folders.inside(study.folder, name) for name in (LOCK, "cache"))
    with folders.alone(lock, "study", study.folder), Store(study.folder, create=True) as store:
        keys = store.plan(study)
        store.note(function=study.function, imports=strict_json.dumps(imports.record(study.imports)))
        if retry_failed:
            store.retry_failed()
        drive(store, runner, _tasks(study, store, keys, stack), progress)
        files.write(study.folder, store)
        return store.counts()


def _tasks(study, store, keys, stack):
    """The waiting trials as tasks, in the order to run them: those first that share no work with one before."""
    waiting = {row["key"] for row in store.trials("waiting")}
    ranks: collections.Counter[str | None] = collections.Counter()
    keys, tasks = iter(keys), []
    for point in study.points:
        mine = [(trial, key) for trial, key in zip(range(point.trials), keys) if key in waiting]
        for start in range(0, len(mine), stack):
            trials, names = zip(*mine[start : start + stack])
            group = cache.digest([point.group, trials[0]]) if point.group is not None else None
            of_all = (study.function, study.folder, point.config, study.imports)
            task = make_task(*of_all, trials=list(trials), keys=list(names))
            tasks.append((ranks[group], task))
            ranks[group] += group is not None
    return [task for _, task in sorted(tasks, key=lambda entry: entry[0])]


def make_task(
    function: str,
    folder: pathlib.Path | None,
    config: dict[str, Any],
    imported: Iterable[imports.Import],
    trials: list[int],
    keys: list,
) -> dict[str, Any]:
    """A task as `worker.execute` takes it, with the `keys` by which a store knows its trials."""
    where = None if folder is None else str(folder.resolve())
    found = [dataclasses.asdict(one) for one in imported]
    return {"function": function, "folder": where, "imports": found, "config": config, "trials": trials, "keys": keys}


def drive(store: Any, runner: Any, tasks: list[dict], progress: Callable[[int, int, str], object] | None) -> None:
    """Runs tasks to their ends: the one loop that trials run in.

    Args:
        store: has `counts()` and `save(started, finished, failed, waiting)`, as a `Store`.
        runner: `InProcess()`, `Local(…)` or `OnRay(…)`.
        tasks: a list, of `make_task`.
        progress: as for `run`.
    """
    waiting = collections.deque(tasks)
    deaths: collections.Counter[str] = collections.Counter()
    total, done, failed, start = sum(len(task["keys"]) for task in tasks), 0, 0, time.monotonic()
    outcomes: list = []
    running, before = 0, store.counts()["done"]
    if not tasks:
        return
    with runner:
        while True:
            full = None
            events: dict[str, list] = {"started": [], "finished": [], "failed": [], "waiting": []}
            for task, replies, death in outcomes:
                running -= len(task["keys"])
                if death is None:
                    for key, reply in zip(task["keys"], replies):
                        if "full" in reply:  # no fault of the trial's
                            full = reply["full"]
                            events["waiting"].append(key)
                            continue
                        name = "failed" if "error" in reply else "finished"
                        events[name].append((key, reply["seconds"], reply.get("error", reply.get("result"))))
                    continue
                deaths.update(task["keys"])
                for trial, key in zip(task["trials"], task["keys"]):
                    if deaths[key] < ATTEMPTS:
                        waiting.append({**task, "trials": [trial], "keys": [key]})
                        events["waiting"].append(key)
                    else:
                        events["failed"].append((key, None, f"{death}, {ATTEMPTS} times"))
            while waiting and runner.free() > 0 and full is None:
                task = waiting.popleft()
                runner.submit(task)
                events["started"] += task["keys"]
                running += len(task["keys"])
            if any(events.values()):
                store.save(**events)
            if full is not None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), full)
            failed += len(events["failed"])
            done += len(events["failed"]) + len(events["finished"])
            if progress is not None:
                progress(done, total, words(running, failed, total - done, done, time.monotonic() - start, before))
            if done == total:
                return
            outcomes = runner.wait(_WAIT_SECONDS)


def words(running: int, failed: int, left: int, done: int, seconds: float, before: int = 0) -> str:
    """The state of a run in words; `done` trials took it `seconds`, and `left` are to come."""
    parts = [f"{running} running, {failed} failed"]
    if left and done:
        parts.append(f"{_span(left * seconds / done)} left")
    if before:
        parts.append(f"{before} were done before")
    return ", ".join(parts)


def _span(seconds):
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
