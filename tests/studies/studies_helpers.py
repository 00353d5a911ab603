"""Trial functions for tests of studies, run in worker processes that have this folder on their path."""

import errno
import os
import pathlib
import time

import numpy as np


def nothing(config, trial, folder):
    return None


def tiny(config, trial, folder):
    """A few milliseconds of work whose result depends on all that it is given."""
    time.sleep(config.get("seconds", 0.02))
    numbers = np.random.default_rng([config["seed"], trial]).normal(size=100)
    return {"mean": float(numbers.mean()), "largest": float(numbers.max())}


def moody(config, trial, folder):
    """Fails, dies or takes memory as its configuration says, and leaves a trace of each try."""
    with open(pathlib.Path(folder) / "tries", "a") as file:
        file.write(f"{trial}\n")
    mood = config["moods"][trial]
    if mood == "fail" and not (pathlib.Path(folder) / "mended").exists():
        raise RuntimeError(f"trial {trial} is moody")
    if mood == "full" and not (pathlib.Path(folder) / "mended").exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{folder}/cache")
    if mood == "die":
        os._exit(3)
    if mood == "die once" and not (pathlib.Path(folder) / f"died-{trial}").exists():
        (pathlib.Path(folder) / f"died-{trial}").touch()
        os._exit(3)
    if mood == "grow":
        held = []
        while True:
            held.append(np.ones(1 << 21))
            time.sleep(0.01)
    return trial
