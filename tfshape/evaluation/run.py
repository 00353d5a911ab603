"""Runs an experiment: trial by trial, every victim on the same poison."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

from tfshape import attacks, checks, datasets, folders, graphs, models, poison
from tfshape.defenses import choices
from tfshape.evaluation import accounting, victims
from tfshape.evaluation.experiment import Experiment, require_engine
from tfshape.evaluation.results import POISONS, Results
from tfshape.provenance import provenance
from tfshape.training import distribution

LOCK = ".lock"  # in a folder of results, while a run writes to it


def evaluate(
    experiment: Experiment,
    output_dir: str | os.PathLike | None = None,
    progress: Callable[[int, int, str], object] | None = None,
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
        progress: called as `progress(done, total, words)` before each piece of work, and after the last.

    Returns:
        `Results`.

    Raises:
        ValueError: for a value that is not allowed, while another run writes to `output_dir`, or for damaged files
            in it; no file has been changed then.
        OSError: if `output_dir` cannot be written; before any work is done.
    """
    distribution.strategy(experiment.distribute)  # before TensorFlow has computed anything
    e, prepared = experiment, plan(experiment)
    with contextlib.ExitStack() as stack:
        directory = None
        if output_dir is not None and distribution.leads(e.distribute):
            directory = pathlib.Path(output_dir)
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(folders.alone(folders.inside(directory, LOCK), "output_dir", output_dir))
        return _run(e, prepared, Results(e, directory, provenance()), progress)


def _run(e: Experiment, prepared: Plan, results: Results, progress: Any) -> Results:
    saved, defenses = prepared.saved, prepared.defenses
    work = victims_of(e, defenses, prepared.counts)
    trials = len(prepared.settings)
    total, done, note = trials * len(work), 0, progress or (lambda done, total, words: None)
    for trial, shared in enumerate(prepared.settings):
        setting = dataclasses.replace(shared)  # its models and arrays live as long as the trial
        crafted: dict = {}
        known: dict = {}
        graphs.free()
        for count, name, data in work:
            missing = results.find(trial, count, name, data) is None
            if distribution.from_leader(e.distribute, missing):
                adapted = name if data == "adaptive" else None
                if (count, adapted) not in crafted:
                    note(done, total, f"trial {trial + 1} of {trials}: crafting")
                    crafted[count, adapted] = (
                        _crafted(setting, count, adapted and defenses[name], results.directory)
                        if saved is None
                        else (saved[trial], None)
                    )
                poisons, seconds = crafted[count, adapted]
                note(done, total, f"trial {trial + 1} of {trials}: training {name} on {data}")
                row = victims.train_and_measure(setting, defenses[name], data, poisons, known)
                results.add({**row, "count": count, "crafting_seconds": seconds})
            done += 1
    note(total, total, "done")
    for name, choice in defenses.items():
        rows = [row for row in results.trials if row["defense"] == name]
        results.statements[name] = accounting.statement(e, choice, rows)
    return results


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked experiment: `dataset`, `defenses` (name to `Choice`), `counts` of poisons, `settings` (a
    `victims.Setting` a trial), and `saved`, the trials' `Poisons` or None if they are to be crafted."""

    dataset: datasets.Dataset
    defenses: dict
    counts: tuple
    settings: tuple
    saved: list | None


def plan(experiment: Experiment, dataset: datasets.Dataset | None = None) -> Plan:
    """The `Plan` of an experiment. Raises ValueError for a value that is not allowed; trains nothing.

    dataset: the experiment's `ts.datasets.Dataset` if it is at hand; None: load it.
    """
    e = experiment
    require_engine(e.engine)
    recipe = victims.recipe(e)
    checks.choice("model", e.model, models.names())
    attack = attacks.parse(e.attack) if e.poisons is None else None  # before the data, which take time
    if dataset is None:
        dataset = datasets.load(e.dataset, data_dir=e.data_dir, classes=e.classes)
    saved = None if e.poisons is None else _saved(e.poisons, dataset)
    attack = attack or _attack_of(saved)
    size = len(dataset.train)
    trained_on = e.finetune_examples or size
    checks.require(
        "finetune_examples", trained_on <= size, f"at most the {size} training examples", e.finetune_examples
    )
    fits = recipe.batch_size <= trained_on
    checks.require("batch_size", fits, f"1 to the {trained_on} training examples", recipe.batch_size)
    if saved is None:
        attacks.check_target_rule(e.target_rule, dataset)
    defenses = choices.choices(e, size)
    counts = e.count(trained_on) if saved is None else (None,)
    if attack.kind == "backdoor":
        others = (dataset.test.y != attack.target_class).any()
        checks.require("dataset", others, "one with test examples outside the attack's target class", e.dataset)
    models.build(e.model, dataset.input_shape, dataset.num_classes)
    trials = e.trials if saved is None else len(saved)
    settings = tuple(victims.Setting(e, dataset, attack, trial) for trial in range(trials))
    if saved is None:
        for count in counts:
            settings[0].check(count)
    return Plan(dataset, defenses, counts, settings, saved)


def victims_of(experiment: Experiment, defenses: dict, counts: tuple) -> list[tuple[int, str, str]]:
    """The victims of a trial, in their order: [(number of poisons, name of the defense, data)]."""
    found = []
    for count in counts:
        for name, choice in defenses.items():
            kinds = ["poison"]
            kinds += ["adaptive"] if experiment.adaptive and choice.shaper is not None else []
            kinds += ["control"] if experiment.controls else []
            found += [(count, name, data) for data in kinds]
    return found


def _crafted(setting, count, choice, directory):
    """Poison and the seconds it took; read from `directory` if an interrupted run left it there.

    choice: the `Choice` the attacker adapts to, or None.
    """
    name = f"trial-{setting.trial:03}"
    if len(setting.experiment.counts) > 1:
        name += f"-{count}"
    if choice is not None:
        name += "-" + "".join(c if c.isalnum() or c == "." else "_" for c in choice.name)
    path = None if directory is None else folders.inside(directory, POISONS, f"{name}.npz")
    if path is not None and path.exists():
        return poison.Poisons.load(path), None
    poisons, seconds = setting.craft(count, None if choice is None else choice.shaper)
    if path is not None:
        path.parent.mkdir(exist_ok=True)
        poisons.save(path)
    return poisons, seconds


def _saved(folder, dataset):
    """The poisons of a folder, in the order of their file names."""
    paths = sorted(pathlib.Path(folder).glob("*.npz"))
    checks.require("poisons", bool(paths), "a folder with .npz files of poison", folder)
    size, shape, classes = len(dataset.train), tuple(dataset.input_shape), dataset.num_classes
    saved = [poison.Poisons.load(path, size).astype("float32") for path in paths]
    for path, found in zip(paths, saved):
        labels = [*found.y, *found.target_y, *found.intended_y]
        fits = found.num_examples == size and found.x.shape[1:] == shape and max(labels, default=0) < classes
        words = f"poison for {size} training examples of shape {shape} in {classes} classes, as {dataset.name} has them"
        checks.require("poisons", fits, words, str(path))
    return saved


class _Foreign:
    """The attack behind saved poison, of which nothing more need be known."""

    def __init__(self, kind):
        self.kind = kind


def _attack_of(saved):
    names = {poisons.attack for poisons in saved}
    for name in names & set(attacks.names()):
        kind = attacks.get(name)
        if kind.kind == "backdoor":  # its trigger is needed at test time
            checks.require("poisons", len(names) == 1, "those of one backdoor attack", name)
            options = {key: value for key, value in saved[0].config.items() if key in kind.__dataclass_fields__}
            return kind(**options)
    return _Foreign("targeted" if all(len(poisons.target_y) for poisons in saved) else "indiscriminate")
