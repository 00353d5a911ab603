"""What `bin/sweep --status` says."""

from __future__ import annotations

import json
import os
import pathlib
import time

from tfshape.studies import cache
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
        counts, failed, driver = store.counts(), store.trials("failed"), _driver(folder)
        if driver is None:  # a driver that was killed left them so
            counts["waiting"] += counts.pop("running")
            counts["running"] = 0
        total, over = sum(counts.values()), counts["done"] + counts["failed"]
        lines = [f"{folder}: {over} of {total} trials over: {counts['done']} done, {counts['failed']} failed"]
        if driver:
            done = store.finished_since(driver["started"])
            state = words(counts["running"], counts["failed"], total - over, done, time.time() - driver["started"])
            lines.append(f"driver {driver['pid']} on {driver['host']} at work: {state}")
        elif driver is None and over < total:
            lines.append(f"{total - over} waiting, no driver at work; the command that began it goes on with it")
    for row in failed[:SHOWN]:
        lines.append(f"point {row['point']} trial {row['trial']} failed: {row['error'].splitlines()[0]}")
    if failed:
        lines.append("bin/sweep with --retry_failed tries failed trials again")
    return "\n".join(lines)


def _driver(folder):
    """What the driver at work says of itself, {} if it has not yet; None if there is none."""
    try:
        with cache.lock(folder / LOCK, wait=False):
            return None
    except BlockingIOError:
        return json.loads((folder / LOCK).read_text("utf-8") or "{}")
