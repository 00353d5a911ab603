"""What a study is to run: points, each a configuration and a number of trials; every trial has a key of its content."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from tfshape import checks, datasets, imports
from tfshape.evaluation import Experiment
from tfshape.studies.cache import digest

SCHEMA = 2  # of a study's store and files; 1, which has no checksums, is read too
RESULTS = 1  # of what a trial gives: raised by any change of the code after which the same configuration gives others
TRIAL = "tfshape.studies.trial:run"
COUNTS = ("num_poisons", "budget")  # attributes of an `Experiment` of which a victim met one
# Attributes of an `Experiment` that neither its poison nor its undefended victims depend on, and more of which its
# poison does not.
OF_DEFENSES = ("clip", "noise", "epsilon", "shaping", "defense", "adaptive", "controls")
OF_VICTIMS = ("engine", "num_microbatches", "sampling", "delta", "count_trials", "secure_noise", "distribute")


@dataclasses.dataclass(frozen=True)
class Point:
    """One configuration of a study.

    Attributes:
        config: dict of JSON values, which the trial function is given.
        trials: how many trials, >= 1.
        values: dict of the grid's axes to this point's values.
        inputs: a digest for each trial of what it reads beside its configuration, such as the data; () for none.
        group: JSON value; trials of one number whose points have the same share work.
    """

    config: dict
    trials: int
    values: dict = dataclasses.field(default_factory=dict)
    inputs: tuple = ()
    group: object = None

    def __post_init__(self):
        object.__setattr__(self, "trials", checks.integer("trials", self.trials, 1))


@dataclasses.dataclass(frozen=True)
class Study:
    """Trials to run, and what runs one.

    Attributes:
        folder: where the study lives; see `Store`.
        points: tuple of `Point`s.
        function: "module:name" of the function `(config, trial, folder) -> result` that runs one trial, in a worker
            process that can import it. `config` is the point's, `trial` counts from 0, `folder` is the study's, where
            `Cache` keeps what trials share. The result is a JSON value.
        imports: what workers import first, `tfshape.imports.Import`s: what this process has loaded.
    """

    folder: pathlib.Path
    points: tuple
    function: str = TRIAL
    imports: tuple = dataclasses.field(default_factory=imports.loaded)

    def __post_init__(self):
        object.__setattr__(self, "folder", pathlib.Path(self.folder))
        different = len({digest(point.config) for point in self.points}) == len(self.points)
        checks.require(
            "points", different and self.points, "one or more, of different configurations", len(self.points)
        )

    def key(self, point: Point, trial: int) -> str:
        """The key of a trial: a digest of its configuration, its number, its data, its imports and `RESULTS`."""
        inputs = point.inputs[trial] if point.inputs else None
        return digest([RESULTS, self.function, point.config, trial, inputs, *imports.contents(self.imports)])


def experiments(folder: str | os.PathLike, points: Iterable[tuple[dict, Experiment]]) -> Study:
    """The study of a grid of experiments.

    Args:
        folder: where the study lives.
        points: as `grid.points` gives them: (values, `Experiment`)s.

    Returns:
        A `Study`.

    Raises:
        ValueError: data that cannot be had.
    """
    fingerprint_of.cache_clear()  # a file or function of that name may be another by now
    found = []
    for values, e in points:
        words = "None or mirrored in a study, whose workers train victims of their own"
        checks.require("distribute", e.distribute != "multi_worker", words, e.distribute)
        config = e.of_a_trial()
        data, trials = fingerprint_of(e.dataset, e.data_dir, e.classes), e.trials
        inputs = (data,) * trials
        if e.poisons is not None:
            files = sorted(pathlib.Path(e.poisons).glob("*.npz"))
            checks.require("poisons", bool(files), "a folder with .npz files", e.poisons)
            inputs = tuple(digest([data, hashlib.sha256(file.read_bytes()).hexdigest()]) for file in files)
            trials = len(files)
        found.append(Point(config, trials, values, inputs, shared(config)))
    return Study(pathlib.Path(folder), tuple(found))


def check(points: Iterable[tuple[dict, Experiment]]) -> None:
    """Raises ValueError for what an experiment of a grid does not allow; trains nothing.

    points: as for `experiments`.
    """
    from tfshape import evaluation  # loads TensorFlow, which a driver that goes on with a study does without

    loaded = {}
    for _, e in points:
        name = (e.dataset, e.data_dir, e.classes)
        if name not in loaded:
            loaded = {name: datasets.load(e.dataset, data_dir=e.data_dir, classes=e.classes)}
        evaluation.plan(e, loaded[name])


def shared(config: dict[str, Any]) -> dict[str, Any]:
    """The part of an experiment's configuration that its poison and its undefended victims depend on."""
    return {name: value for name, value in config.items() if name not in OF_DEFENSES}


def fingerprint(dataset: datasets.Dataset) -> str:
    """A digest of the arrays of a `ts.datasets.Dataset`."""
    found = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for array in (split.x, split.y):
            found.update(f"{array.dtype}{array.shape}".encode())
            found.update(array.tobytes())
    return found.hexdigest()


@functools.lru_cache(maxsize=64)
def fingerprint_of(name, data_dir, classes):
    """The digest of a dataset, as `ts.datasets.load` takes it."""
    return fingerprint(datasets.load(name, data_dir=data_dir, classes=classes))
