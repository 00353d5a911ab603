"""What an experiment is to do, checked: its data, defenses, numbers of poisons and trials."""

from __future__ import annotations

import dataclasses
import pathlib

from tfshape import attacks, checks, datasets, models, poison
from tfshape.defenses import choices
from tfshape.evaluation import victims
from tfshape.evaluation.experiment import Experiment, require_engine


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
