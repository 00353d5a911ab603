"""What `bin/sweep --status` says."""

from __future__ import annotations

import os
import pathlib
import time

from tfshape import checks, folders
from tfshape.studies.driver import LOCK, words
from tfshape.studies.store import Store

SHOWN = 5  # errors


def status(folder: str | os.PathLike) -> str:
    """The state of a study in words, a line each; reads only.

    Args:
        folder: of the study.

    Raises:
        ValueError: there is no study, or its store cannot be read.
    """
    folder = pathlib.Path(folder)
    with Store(folder) as store:
        counts, failed, driver = store.counts(), store.trials("failed"), folders.holder(folders.inside(folder, LOCK))
        if driver is None:  # a driver that was killed left them so
            counts["waiting"] += counts.pop("running")
            counts["running"] = 0
        total, over = sum(counts.values()), counts["done"] + counts["failed"]
        lines = [f"{folder}: {over} of {total} trials over: {counts['done']} done, {counts['failed']} failed"]
        if driver:
            done = store.finished_since(driver["started"])
            state = words(counts["running"], counts["failed"], total - over, done, time.time() - driver["started"])
            lines.append(f"driver {driver['pid']} on {checks.escaped(driver['host'])} at work: {state}")
        elif driver is None and over < total:
            lines.append(f"{total - over} waiting, no driver at work; the command that began it goes on with it")
    for row in failed[:SHOWN]:
        first = checks.escaped(str(row["error"]).partition("\n")[0])
        lines.append(f"point {row['point']} trial {row['trial']} failed: {first}")
    if failed:
        lines.append("bin/sweep with --retry_failed tries failed trials again")
    return "\n".join(lines)
