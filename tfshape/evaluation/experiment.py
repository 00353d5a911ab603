"""What to run, as one frozen and checked value."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Iterable
from typing import Any

from tfshape import checks

ENGINES = ("fast", "tensorflow_privacy")
SCENARIOS = ("scratch", "finetune", "transfer")
KNOWLEDGE = ("white_box", "grey_box", "black_box")
SAMPLING = ("shuffle", "poisson", "balls_in_bins")
DISTRIBUTE = ("mirrored", "multi_worker")

_FINETUNE = ("finetune_examples", "finetune_learning_rate", "finetune_batch_size", "finetune_epochs")
_COUNT = (1, 10**9)
_RATE = (0, 1e6, True, False)
_REALS = {  # low, high, and whether these are excluded
    "budget": (0, 1, True, False),
    "eps": (0, 1, True, False),
    "clip": (0, 1e30, True, False),
    "noise": (0, 1e6, False, False),
    "epsilon": (0, 1e6, True, False),
    "delta": (0, 1, True, True),
    "learning_rate": _RATE,
    "finetune_learning_rate": _RATE,
}
_INTEGERS = {
    "trials": (1, 100_000),
    "count_trials": (1, 10**6),
    "epochs": (1, 10**6),
    "finetune_epochs": (1, 10**6),
    **dict.fromkeys(("batch_size", "finetune_batch_size", "finetune_examples", "num_microbatches"), _COUNT),
    "seed": (0, 2**32 - 1),
}
_CHOICES = {
    "scenario": SCENARIOS,
    "knowledge": KNOWLEDGE,
    "engine": ENGINES,
    "sampling": SAMPLING,
    "distribute": DISTRIBUTE,
}
_SWITCHES = ("adaptive", "secure_noise", "controls")


_INSTEAD = {  # of an attribute, if it is given: which others are left out
    "defense": ("shaping", "clip", "noise", "epsilon"),
    "shaping": ("clip", "noise", "epsilon"),
    "epsilon": ("noise",),
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An attack, a victim, a defense, and how often to try.

    Attributes:
        attack: name of an attack, with options if need be: `"gradient_matching(restarts=2)"`.
        poisons: folder of `Poisons` files to evaluate, ours or foreign, one a trial in the order of their names, in
            place of crafting; None: craft.
        dataset, data_dir, classes: as `ts.datasets.load` takes them.
        model: a name in `ts.models.names()`.
        scenario: "scratch", victims start from random weights; "finetune", from a model trained on the clean data;
            "transfer", they freeze all of that but its last layer, and train that anew.
        knowledge: "white_box", the attacker has the model that victims start from; "grey_box", knows its architecture;
            "black_box", attacks with models of another, `surrogate_model`. None: white_box for finetune and transfer,
            grey_box for scratch.
        adaptive: whether each shaped victim also meets poison that was crafted against its own shaping.
        finetune_examples: how many training examples, as many of every class as can be, finetune and transfer go on
            with; None: all.
        finetune_learning_rate, finetune_batch_size, finetune_epochs: how they go on; None: as the clean model trained.
        num_poisons: count of poisoned training examples, >= 1, or several counts to try on the same trials; or None and
        budget: their share of the training set, 0 < budget <= 1.
        eps: l-inf bound of a perturbation, 0 < eps <= 1, inputs being in [0, 1].
        target_rule: how a targeted attack's target is drawn, see `ts.attacks.choose_target`.
        trials: independent repetitions, 1 to 100,000, each with a target, poison and victims of its own.
        clip: l2 bound of an example's gradient, > 0; noise: noise multiplier, >= 0. Together DP-SGD.
        epsilon: privacy to reach, > 0, by as much noise as it takes; in place of noise.
        shaping: another defense in words, `"clip(1.0)|noise(0.1)"`; in place of clip, noise and epsilon. "none" for
            none.
        defense: several, with commas between: shapings, and names of `ts.defenses`; in place of shaping. Undefended
            training always comes first.
        engine: who computes the defended update: "fast", `ts.shape`; "tensorflow_privacy", its DP-Keras optimizers.
        num_microbatches: only for engine tensorflow_privacy: groups whose mean gradients are clipped; None for every
            example by itself.
        optimizer, learning_rate, batch_size, epochs: how victims, or the clean models they go on from, train, see
            `ts.training.Recipe`.
        sampling: how batches of shaped training are drawn, "shuffle", "poisson" or "balls_in_bins"; None: poisson where
            there is noise, else shuffle. All other training shuffles.
        delta: at which epsilon is reported, 0 < delta < 1.
        count_trials: how many trainings on these data the reported epsilon is for, >= 1.
        secure_noise: noise from the operating system's cryptographic generator instead of the seed.
        distribute: how each victim trains on several devices at once, by tf.distribute: "mirrored", on those of this
            machine; "multi_worker", on those of all processes that TF_CONFIG names, each of which runs this experiment.
            None: on one. Needs engine fast and shapers that weigh examples one by one; `batch_size` is of all replicas
            together.
        controls: whether each victim is paired with one trained without the attack (unperturbed base examples).
        seed: from which every random draw of the experiment derives, >= 0.

    Raises:
        ValueError: naming the attribute, its value and what is allowed, such as None beside another that stands in its
            place. NumPy scalars are numbers.
    """

    attack: str = "gradient_matching"
    poisons: str | None = None
    dataset: str = "fashion_mnist_mini"
    data_dir: str | None = None
    classes: tuple | None = None
    model: str = "mlp"
    scenario: str = "scratch"
    knowledge: str | None = None
    surrogate_model: str | None = None
    adaptive: bool = False
    finetune_examples: int | None = None
    finetune_learning_rate: float | None = None
    finetune_batch_size: int | None = None
    finetune_epochs: int | None = None
    num_poisons: int | tuple | None = None
    budget: float = 0.05
    eps: float = 32 / 255
    target_rule: str = "runner_up"
    trials: int = 10
    clip: float = 1.0
    noise: float = 1.0
    epsilon: float | None = None
    shaping: str | None = None
    defense: str | None = None
    engine: str = ENGINES[0]
    num_microbatches: int | None = None
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    batch_size: int = 128
    epochs: int = 10
    sampling: str | None = None
    delta: float = 1e-5
    count_trials: int = 1
    secure_noise: bool = False
    distribute: str | None = None
    controls: bool = True
    seed: int = 0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is not None:
                object.__setattr__(self, field.name, _checked(field.name, value))
        for name, others in _INSTEAD.items():
            for other in others if getattr(self, name) is not None else ():
                value = getattr(self, other)
                checks.require(other, value == _DEFAULTS[other], f"left out with {name}", value)
        if self.knowledge is None:
            object.__setattr__(self, "knowledge", "grey_box" if self.scenario == "scratch" else "white_box")
        theirs = self.engine == "tensorflow_privacy"
        fits = {
            "surrogate_model": (self.knowledge == "black_box", "unless knowledge is black_box"),
            **dict.fromkeys(_FINETUNE, (self.scenario != "scratch", "for scenario scratch")),
            "distribute": (not theirs, "with engine tensorflow_privacy"),
            "num_microbatches": (theirs, "unless engine is tensorflow_privacy"),
        }
        for name, (allowed, words) in fits.items():
            value = getattr(self, name)
            checks.require(name, value is None or allowed, f"None {words}", value)
        shuffled = not theirs or self.sampling in (None, "shuffle")
        checks.require("sampling", shuffled, "shuffle with engine tensorflow_privacy", self.sampling)
        secure = not (theirs and self.secure_noise)
        checks.require("secure_noise", secure, "False with engine tensorflow_privacy", self.secure_noise)
        divides = self.num_microbatches is None or self.batch_size % self.num_microbatches == 0
        words = f"a divisor of batch_size={self.batch_size}"
        checks.require("num_microbatches", divides, words, self.num_microbatches)

    @property
    def counts(self) -> tuple[int, ...]:
        """`num_poisons` as a tuple; empty if the budget decides."""
        if self.num_poisons is None:
            return ()
        return self.num_poisons if isinstance(self.num_poisons, tuple) else (self.num_poisons,)

    def count(self, num_examples: int) -> tuple[int, ...]:
        """How many of `num_examples` training examples are poisoned, a tuple: num_poisons, or the rounded budget."""
        counts = self.counts or (round(self.budget * num_examples),)
        name, value = ("num_poisons", self.num_poisons) if self.counts else ("budget", self.budget)
        good = all(1 <= count <= num_examples for count in counts)
        checks.require(name, good, f"1 to all of the {num_examples} training examples", value)
        return counts

    def to_dict(self) -> dict[str, Any]:
        """All attributes as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Experiment:
        """The experiment of which `to_dict` was saved, perhaps by an earlier version, which ignored what another
        setting stood for. Raises as `Experiment` does, or TypeError for names that are none of its attributes."""
        ignored = [other for name, others in _INSTEAD.items() if saved.get(name) is not None for other in others]
        return cls(**{name: value for name, value in saved.items() if name not in ignored})

    def of_a_trial(self) -> dict[str, Any]:
        """`to_dict` without the number of trials: what a trial depends on beside its own number."""
        return {name: value for name, value in self.to_dict().items() if name != "trials"}


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Experiment)}


def require_engine(engine: str) -> None:
    """Raises ValueError for an engine that does not run on the Keras that is installed."""
    runs = engine != "tensorflow_privacy" or importlib.metadata.version("keras").startswith("2.")
    words = "fast, which computes the same update; tensorflow_privacy needs Keras 2 on TensorFlow 2.15"
    checks.require("engine", runs, words, engine)


def _checked(name, value):
    """The value of an attribute as it is kept; ValueError for one that is not allowed."""
    if name in _REALS:
        low, high, above, below = _REALS[name]
        return checks.real(name, value, low, high, above, below)
    if name in _INTEGERS:
        return checks.integer(name, value, *_INTEGERS[name])
    if name in _CHOICES:
        return checks.choice(name, value, _CHOICES[name])
    if name in _SWITCHES:
        return checks.choice(name, checks.scalar(value), (False, True))
    if name == "classes":
        listed = isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict))
        checks.require(name, listed, "several class numbers", value)
        return tuple(checks.integer(name, label, 0) for label in value)
    if name == "num_poisons":
        if not isinstance(value, (list, tuple)):
            return checks.integer(name, value, *_COUNT)
        counts = tuple(checks.integer(name, count, *_COUNT) for count in value)
        different = counts and len(set(counts)) == len(counts)
        checks.require(name, different, "an integer >= 1, or several different ones", value)
        return counts
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    checks.require(name, isinstance(value, str), "a string", value)
    return value
