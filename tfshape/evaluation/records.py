"""Records of an experiment: one for each trained victim, and one for each defense, made of its victims'."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

from tfshape import checks, strict_json
from tfshape.evaluation.experiment import Experiment

SCHEMA = 3  # of results without checksums: 2, which are read too
_KINDS: dict[str, tuple] = {
    **{"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,), "list": (list,)},
    "None": (type(None),),
}  # of a field's type: which its values have in JSON


@dataclasses.dataclass(frozen=True)
class VictimRecord:
    """One trained victim: a line of `trials.jsonl`.

    Attributes:
        trial: its number, from 0.
        defense: what it trained under, "none" if undefended.
        data: "poison"; "adaptive", poison crafted against this defense; or "control", the same without the attack.
        engine: who computed its shaped updates; None without shaping.
        num_poisons: how many poisoned examples there were.
        inserted: whether any of them was added to the training set.
        num_examples: how many examples it trained on.
        accuracy: on clean test examples.
        class_accuracy: the same for each class; None for one without test examples.
        sampling: how its batches were drawn.
        delta, epsilon: its privacy.
        epsilon_if_poisson: epsilon if its batches had been drawn by Poisson sampling.
        seconds: that its training took.
        attack: which attack made the poison, of saved poison only; otherwise None.
        dropped: how many examples the defense removed; None if it removes none.
        dropped_poison, poison: how many of these, and how many of all examples, were poison.
        certified_accuracy: the share of test examples that no such poison can change; None without a certificate.
        target_index, true_label, intended_label, predicted_label: of a targeted attack: which test example is the
            target, its class, the attacker's and the victim's; otherwise None.
        success: whether the attack succeeded, or on which share of test examples; None for indiscriminate attacks.
        count: how many poisons were asked for; None for saved poison.
        crafting_seconds: that crafting the poison took; None if it was there already.
        checkpoints: [steps, accuracy, success] at about twenty moments of the training, the last at its end; only of
            undefended victims, and on one device. Looking at a victim takes a quarter to a half of its training's time.
    """

    trial: int
    defense: str
    data: str
    engine: str | None
    num_poisons: int
    inserted: bool
    num_examples: int
    accuracy: float
    class_accuracy: list
    sampling: str
    delta: float
    epsilon: float
    epsilon_if_poisson: float
    seconds: float
    attack: str | None = None
    dropped: int | None = None
    dropped_poison: int | None = None
    poison: int | None = None
    certified_accuracy: float | None = None
    target_index: Any = None
    true_label: int | None = None
    intended_label: int | None = None
    predicted_label: int | None = None
    success: bool | float | None = None
    count: int | None = None
    crafting_seconds: float | None = None
    checkpoints: list | None = None

    @property
    def key(self) -> tuple[int, int | None, str, str]:
        """What tells the victims of an experiment apart: trial, count, defense, data."""
        return self.trial, self.count, self.defense, self.data

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON has it. What does not apply to this victim is left out."""
        always = {"engine", "count", "crafting_seconds", *(["target_index"] if self.intended_label is not None else [])}
        return {name: value for name, value in vars(self).items() if value is not None or name in always}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> VictimRecord:
        """The record that `to_dict` gave, or JSON of it. Other keys are ignored, as a later version may add some.

        Raises:
            ValueError: a key is missing or its value is of another type; the message names it.
        """
        row = {name: checks.scalar(value) for name, value in strict_json.numbers(found).items()}
        accuracies = row.get("class_accuracy")
        if isinstance(accuracies, list):  # in files of schema 2, NaN
            row["class_accuracy"] = accuracies = [None if value != value else value for value in accuracies]
            _require("class_accuracy", all(value is None or type(value) in _KINDS["float"] for value in accuracies))
        for name, kinds, required in _fields():
            _require(name, type(row[name]) in kinds or not kinds if name in row else not required)
        _require("checkpoints", all(map(_is_checkpoint, row.get("checkpoints") or ())))
        return cls(**{name: row[name] for name, *_ in _fields() if name in row})


@functools.lru_cache(maxsize=1)
def _fields():
    """Of each field of a `VictimRecord`: name, types of its values, () for any, and whether JSON must have it."""
    return [
        (
            field.name,
            tuple(kind for word in str(field.type).split(" | ") for kind in _KINDS.get(word, ())),
            field.default is dataclasses.MISSING or field.name == "count",
        )
        for field in dataclasses.fields(VictimRecord)
    ]


def _is_checkpoint(value):
    kinds = (int,), _KINDS["float"], (bool, int, float, type(None))
    return isinstance(value, list) and len(value) == 3 and all(type(part) in kind for part, kind in zip(value, kinds))


def _require(name, good):
    if not good:
        raise ValueError(f"it is not the row of a victim: {name}")


@dataclasses.dataclass(frozen=True, eq=False)
class DefenseRecord:
    """What columns of `results.csv` are computed from: the victims of one defense and number of poisons.

    Attributes:
        experiment: the `ts.Experiment`.
        victims: its `VictimRecord`s, in the order of training.
        undefended: those of undefended training on as many poisons; () if there was none. See `pairs`.
    """

    experiment: Experiment
    victims: tuple[VictimRecord, ...]
    undefended: tuple[VictimRecord, ...] = ()

    @property
    def first(self) -> VictimRecord:
        """One victim, for what all of them share."""
        return self.victims[0]

    @functools.cached_property
    def poison(self) -> list[VictimRecord]:
        """The victims of poison that was not crafted against the defense."""
        return self.on("poison")

    @functools.cached_property
    def control(self) -> list[VictimRecord]:
        """The victims without the attack."""
        return self.on("control")

    def on(self, data: str) -> list[VictimRecord]:
        """The victims of one kind of data, "poison", "adaptive" or "control"."""
        return [victim for victim in self.victims if victim.data == data]


def defenses(experiment: Experiment, victims: Iterable[VictimRecord]) -> list[DefenseRecord]:
    """A `DefenseRecord` for each defense and number of poisons, in the order of their first victims."""
    groups: dict[tuple, list[VictimRecord]] = {}
    for victim in victims:
        groups.setdefault((victim.count, victim.defense), []).append(victim)
    return [
        DefenseRecord(experiment, tuple(found), tuple(groups.get((count, "none"), ())))
        for (count, _), found in groups.items()
    ]


def pairs(ours: Iterable[VictimRecord], theirs: Iterable[VictimRecord]) -> list[tuple[VictimRecord, VictimRecord]]:
    """Victims of the same trial, one of `ours` and one of `theirs`, which share seeds, target and poison."""
    of_trial = {victim.trial: victim for victim in theirs}
    return [(victim, of_trial[victim.trial]) for victim in ours if victim.trial in of_trial]
