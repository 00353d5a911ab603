"""One trial of an experiment, in a worker: its poison and its victims, taken from the study's cache where they are."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

from tfshape import archive, atomic, datasets, evaluation, imports, poison, strict_json
from tfshape.evaluation import accounting, victims
from tfshape.models import predict
from tfshape.studies import looks, pictures, study
from tfshape.studies.cache import Cache, read_arrays
from tfshape.training import stacking


def run(config: dict, trial: int, folder: str | None) -> dict:
    """Runs one trial of an experiment.

    Args:
        config: `Experiment.to_dict()`, without `trials`.
        trial: its number, from 0.
        folder: of the study, which keeps what trials share; None: nothing is kept.

    Returns:
        Dict: `rows`, one a victim, as `victims.train_and_measure` gives them; `seed`, the victims'; `poisons`, one for
        each that was met: its count, the defense it was adapted to or None, its file in the cache and, of the first
        trial, its `artifacts` as `looks.look` gives them; `crafted`, how many of them were made by this trial and not
        found in the cache.
    """
    return stacked(config, [trial], folder)[0]


def stacked(config: dict, trials: list[int], folder: str | None) -> list[dict]:
    """Runs several trials of an experiment, whose victims train side by side as far as they can: see `stacking.can`.

    Arguments as in `run`, but for `trials`, a list. Returns a list with what `run` returns for each.
    """
    works = [Work(config, trial, folder) for trial in trials]
    rows: list[list[dict]] = [[] for _ in works]
    for victim in works[0].victims:
        _train_together([work for work in works if not work.knows(*victim)], *victim)
        for work, found in zip(works, rows):
            found.append(work.row(*victim))
    return [
        {"rows": found, "seed": work.setting.seed("victim"), "poisons": work.poisons, "crafted": work.crafted}
        for work, found in zip(works, rows)
    ]


run.stacked = stacked  # type: ignore[attr-defined]


def _train_together(works, count, name, data):
    """Trains the victims of one kind of several trials, for `Work.row` to find them."""
    if len(works) < 2 or not stacking.can(works[0].setting, works[0].choice(name)):
        return
    choice = works[0].choice(name)
    examples = [work.examples(count, name, data)[:2] for work in works]
    if len({len(y) for _, y in examples}) > 1:
        return
    start, e = time.perf_counter(), works[0].setting.experiment
    models = [work.setting.new_victim() for work in works]
    seeds, scheme = [work.setting.seed("victim") for work in works], accounting.sampling(e, choice.shaper)
    shapers, looks, checkpoints = [choice.shaper] * len(works), None, [None] * len(works)
    if victims.looked_at(works[0].setting, choice, data):
        pairs = [victims.looks(work.setting, work.aims(count, name, data)) for work in works]
        checkpoints, looks = ([pair[place] for pair in pairs] for place in (0, 1))
    stacking.train(models, shapers, victims.recipe(e), seeds, examples, scheme, looks=looks)
    seconds = (time.perf_counter() - start) / len(works)
    for work, model, (x, y), found in zip(works, models, examples, checkpoints):
        trained = functools.partial(predict, model), None, None, found
        victims.remember(work.known, choice, data, x, y, trained, seconds)


class Work:
    """A trial at work. `victims` are what `row` is to be called with."""

    def __init__(self, config, trial, folder):
        self._plan, data = plan_of(config)
        self._cache, e = Cache(None if folder is None else f"{folder}/cache"), self._plan.settings[0].experiment
        # processes that train one victim together must not find different parts of their work done
        self._trained = Cache(None) if e.distribute == "multi_worker" else self._cache
        self._common = [study.RESULTS, *imports.contents(), data, trial]
        self._depends = {name: value for name, value in study.shared(config).items() if name not in study.COUNTS}
        self.setting = dataclasses.replace(self._plan.settings[0], trial=trial)
        weights = initial_weights(self.setting, data, self._cache)
        self.setting = dataclasses.replace(self.setting, initial_weights=weights)
        self.victims = evaluation.run.victims_of(e, self._plan.defenses, self._plan.counts)
        self.poisons, self.crafted, self._found, self.known = [], 0, {}, {}
        self._last: tuple[Any, Any] = None, None
        self._saved = None if self._plan.saved is None else self._plan.saved[trial]

    def row(self, count, name, data):
        """The row of one victim, trained now or by another trial that shares it."""

        def train():
            poisons, seconds = self._poisons(count, adapted)
            examples = self.examples(count, name, data)
            found = victims.train_and_measure(self.setting, choice, data, poisons, self.known, examples)
            return {**found, "count": count, "crafting_seconds": seconds}

        choice = self.choice(name)
        adapted = name if data == "adaptive" else None
        self._poisons(count, adapted)
        return self._trained.get("victims", self._key(count, name, data), train, _write, _read)[0]

    def choice(self, name):
        """The `Choice` of that name."""
        return self._plan.defenses[name]

    def knows(self, count, name, data):
        """Whether the row of a victim is there already."""
        path = self._trained.path("victims", self._key(count, name, data))
        return path is not None and path.exists()

    def examples(self, count, name, data):
        """What a victim trains on, x, y and is_poison; that of the last call is kept."""
        if self._last[0] != (count, name, data):
            poisons, _ = self._poisons(count, name if data == "adaptive" else None)
            self._last = (count, name, data), self.setting.examples(data, poisons)
        return self._last[1]

    def aims(self, count, name, data):
        """What a victim shall get wrong, and the intended classes."""
        poisons, _ = self._poisons(count, name if data == "adaptive" else None)
        aimed, _, intended = self.setting.aims(poisons)
        return aimed, intended

    def _key(self, count, name, data):
        return [*self._common, self._depends, count, name, data]

    def _poisons(self, count, adapted):
        """-> (`Poisons`, the seconds that crafting took, None if it was not done here)."""
        if self._saved is not None:
            return self._saved, None
        if (count, adapted) not in self._found:
            shaper, seconds = None if adapted is None else self._plan.defenses[adapted].shaper, []
            depends = {name: value for name, value in self._depends.items() if name not in study.OF_VICTIMS}
            key = [*self._common, depends, count, adapted]
            path = self._cache.path("poisons", key)
            shown = {"count": count, "adapted": adapted, "file": path and path.name}

            def craft():
                found, took = self.setting.craft(count, shaper)
                seconds.append(took)
                if path is not None:
                    take = functools.partial(pictures.take, self.setting, found)
                    self._cache.get("pictures", key, take, archive.write, read_arrays)
                return found

            load, save = poison.Poisons.load, lambda path, poisons: poisons.save(path)
            found, made = self._cache.get("poisons", key, craft, save, load)
            self.crafted += made
            if self.setting.trial == 0 and path is not None:
                look = functools.partial(looks.look, self.setting, found)
                shown["artifacts"] = self._cache.get("artifacts", key, look, _write, _read)[0]
            self.poisons.append(shown)
            self._found[count, adapted] = found, seconds[0] if seconds else None
        return self._found[count, adapted]


def initial_weights(setting, data, cache):
    """The weights of the clean model that victims of a `Setting` go on from, made once; None from scratch.

    data: the digest of its data. cache: the study's `Cache`.
    """
    e, names = setting.experiment, "w{:04}".format
    if e.scenario == "scratch":
        return None
    recipe = dataclasses.asdict(victims.initial_recipe(e))
    return cache.get(
        "initial",
        [study.RESULTS, *imports.contents(), data, setting.trial, e.model, recipe, e.seed],
        lambda: setting.initial_model.get_weights(),
        lambda path, weights: archive.write(path, {names(i): array for i, array in enumerate(weights)}),
        lambda path: list(read_arrays(path).values()),
    )[0]


def plan_of(config):
    """-> (the `Plan` of `Experiment.to_dict()` for one trial, the digest of its data); those of late are kept."""
    return _plan(strict_json.canonical(config))


@functools.lru_cache(maxsize=4)
def _plan(config):
    e = evaluation.Experiment.from_dict({**strict_json.loads(config), "trials": 1})
    dataset, data = _dataset(e.dataset, e.data_dir, e.classes)
    return evaluation.plan(e, dataset), data


@functools.lru_cache(maxsize=2)
def _dataset(name, data_dir, classes):
    dataset = datasets.load(name, data_dir=data_dir, classes=classes)
    return dataset, study.fingerprint(dataset)


def _write(path, value):
    atomic.write_text(path, strict_json.dumps(strict_json.sealed({"value": value})))


def _read(path):
    return strict_json.numbers(strict_json.unsealed(strict_json.loads(path.read_bytes()))["value"])
