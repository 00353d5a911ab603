"""kill -9 of drivers and workers at random moments: no trial is lost, none is repeated, the results are the same."""

import importlib.util
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from tfshape import studies

pytestmark = pytest.mark.one_stack

HERE = pathlib.Path(__file__).resolve().parent
RUNNERS = ("local", "ray") if importlib.util.find_spec("ray") else ("local",)  # Ray is an extra
TRIALS, KILLS = 200, 50
DRIVER = """
import sys
from tfshape import studies
folder, runner, seconds = sys.argv[1:]
points = tuple(studies.Point({"seed": seed, "seconds": float(seconds)}, 50, {"seed": seed}) for seed in range(4))
runner = studies.Local(workers=2) if runner == "local" else studies.OnRay(workers=2)
print(studies.run(studies.Study(folder, points, "studies_helpers:tiny"), runner))
"""


def start(folder, runner, seconds):
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder), runner, str(seconds)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def descendants(pid):
    """The processes below one: (number, command line)s."""
    parents, commands = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        except (ValueError, OSError):
            continue
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return [(child, commands[child]) for child in found]


def workers(pid):
    return [
        child for child, text in descendants(pid) if "tfshape.studies import worker" in text or text.startswith("ray::")
    ]


def finished(folder):
    if not (folder / "study.sqlite").exists():
        return {}
    try:
        with studies.Store(folder) as store:
            return {row["key"]: (row["finished"], row["attempts"]) for row in store.trials("done")}
    except ValueError:  # killed while it was made
        return {}


def rows(folder):
    with studies.Store(folder) as store:
        return list(store.results())


@pytest.mark.slow
@pytest.mark.parametrize("runner", RUNNERS)
def test_fifty_kills_lose_nothing_and_repeat_nothing(tmp_path, runner):
    chance = random.Random(7)
    killed, victims = tmp_path / "killed", []
    seconds = 0.3 if runner == "local" else 0.6
    driver, seen = start(killed, runner, seconds), {}
    while len(victims) < KILLS:
        time.sleep(chance.uniform(0.02, 1.2))
        ready = workers(driver.pid) if driver.poll() is None else []
        before = finished(killed)
        assert all(before[key] == entry for key, entry in seen.items())  # what was finished has not been touched
        seen = before
        assert len(seen) < TRIALS, f"the study was over after {len(victims)} kills"
        if driver.poll() is not None:
            raise AssertionError(driver.stderr.read())
        victim = "worker" if ready and chance.random() < 0.5 else "driver"
        if victim == "driver" and not ready and chance.random() < 0.9:
            continue  # most drivers get as far as having workers, which on Ray takes seconds
        os.kill(chance.choice(ready) if victim == "worker" else driver.pid, signal.SIGKILL)
        victims.append(victim)
        if victim == "driver":
            driver.wait()
            driver.stderr.close()
            driver = start(killed, runner, seconds)
    assert driver.wait(600) == 0
    assert min(victims.count("worker"), victims.count("driver")) > 10

    whole = tmp_path / "whole"
    assert start(whole, "local", seconds / 100).wait(300) == 0
    with studies.Store(killed) as store:
        assert store.check() == "ok"
        assert store.counts() == {"waiting": 0, "running": 0, "done": TRIALS, "failed": 0}
        assert len({row["key"] for row in store.trials()}) == len(store.trials()) == TRIALS
    assert [(point, trial) for point, trial, _ in rows(killed)] == [(p, t) for p in range(4) for t in range(50)]
    assert rows(killed) == rows(whole)
    assert len((killed / "trials.csv").read_text().splitlines()) == 1 + TRIALS
