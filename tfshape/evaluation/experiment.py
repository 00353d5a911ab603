"""What to run, as one frozen and checked value."""

from __future__ import annotations

import dataclasses
import numbers

ENGINES = ("fast", "tensorflow_privacy")
SCENARIOS = ("scratch", "finetune")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An attack, a victim, a defense, and how often to try.

    Attributes:
        attack: name of an attack, with options if need be: `"gradient_matching(restarts=2)"`.
        dataset, data_dir, classes: as `ts.datasets.load` takes them.
        model: a name in `ts.models.names()`.
        scenario: "scratch", victims start from random weights; "finetune", from a model trained on the clean data,
            which a targeted attacker knows.
        num_poisons: count of poisoned training examples, >= 1; or None and
        budget: their share of the training set, 0 < budget <= 1.
        eps: l-inf bound of a perturbation, 0 < eps <= 1, inputs being in [0, 1].
        target_rule: how a targeted attack's target is drawn, see `ts.attacks.choose_target`.
        trials: independent repetitions, >= 1, each with a target, poison and victims of its own.
        clip: l2 bound of an example's gradient, > 0; noise: noise multiplier, >= 0. Together DP-SGD.
        shaping: another defense in words, `"clip(1.0)|noise(0.1)"`; overrides clip and noise. "none" for no defense.
        engine: who computes the defended update: "fast", `ts.shape`; "tensorflow_privacy", its DP-Keras optimizers.
        num_microbatches: only for engine tensorflow_privacy: groups whose mean gradients are clipped; None for every
            example by itself.
        optimizer, learning_rate, batch_size, epochs: how victims train, see `ts.models.Recipe`.
        delta: at which epsilon is reported, 0 < delta < 1.
        controls: whether each victim is paired with one trained without the attack (unperturbed base examples).
        seed: from which every random draw of the experiment derives, >= 0.

    Raises:
        ValueError: naming the attribute, its value and what is allowed.
    """

    attack: str = "gradient_matching"
    dataset: str = "fashion_mnist_mini"
    data_dir: str | None = None
    classes: tuple | None = None
    model: str = "mlp"
    scenario: str = "scratch"
    num_poisons: int | None = None
    budget: float = 0.05
    eps: float = 32 / 255
    target_rule: str = "runner_up"
    trials: int = 10
    clip: float = 1.0
    noise: float = 1.0
    shaping: str | None = None
    engine: str = ENGINES[0]
    num_microbatches: int | None = None
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    batch_size: int = 128
    epochs: int = 10
    delta: float = 1e-5
    controls: bool = True
    seed: int = 0

    def __post_init__(self):
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(self.classes))
        require("budget", self.budget, 0 < _number(self.budget) <= 1, "0 < budget <= 1")
        require("eps", self.eps, 0 < _number(self.eps) <= 1, "0 < eps <= 1")
        require("clip", self.clip, 0 < _number(self.clip) < float("inf"), "a number > 0")
        require("noise", self.noise, 0 <= _number(self.noise) < float("inf"), "a number >= 0")
        require("delta", self.delta, 0 < _number(self.delta) < 1, "0 < delta < 1")
        for name in ("num_poisons", "num_microbatches", "trials"):
            value = getattr(self, name)
            optional = name != "trials"
            require(name, value, (value is None and optional) or _integer(value) >= 1, "an integer >= 1")
        require("seed", self.seed, 0 <= _integer(self.seed) < 2**32, "an integer from 0 to 2**32 - 1")
        require("scenario", self.scenario, self.scenario in SCENARIOS, ", ".join(SCENARIOS))
        require("engine", self.engine, self.engine in ENGINES, ", ".join(ENGINES))
        divides = self.num_microbatches is None or self.batch_size % self.num_microbatches == 0
        theirs = self.num_microbatches is None or self.engine == "tensorflow_privacy"
        require("num_microbatches", self.num_microbatches, theirs, "None unless engine is tensorflow_privacy")
        require("num_microbatches", self.num_microbatches, divides, f"a divisor of batch_size={self.batch_size}")

    def count(self, num_examples):
        """How many of `num_examples` training examples are poisoned: num_poisons, or the rounded budget."""
        count = round(self.budget * num_examples) if self.num_poisons is None else self.num_poisons
        name, value = ("budget", self.budget) if self.num_poisons is None else ("num_poisons", self.num_poisons)
        require(name, value, 1 <= count <= num_examples, f"1 to all of the {num_examples} training examples")
        return count

    def to_dict(self):
        """All attributes as JSON values."""
        return dataclasses.asdict(self)


def require(name, value, allowed, words):
    """Raises ValueError naming the argument, its value and what is allowed, unless `allowed`."""
    if not allowed:
        raise ValueError(f"{name}={value!r}: allowed is {words}")


def _number(value):
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return value if real else float("nan")


def _integer(value):
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return value if whole else float("nan")
