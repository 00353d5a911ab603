"""What to run, as one frozen and checked value."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import numbers
from typing import Any

ENGINES = ("fast", "tensorflow_privacy")
SCENARIOS = ("scratch", "finetune", "transfer")
KNOWLEDGE = ("white_box", "grey_box", "black_box")
SAMPLING = ("shuffle", "poisson", "balls_in_bins")
DISTRIBUTE = ("mirrored", "multi_worker")


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
        trials: independent repetitions, >= 1, each with a target, poison and victims of its own.
        clip: l2 bound of an example's gradient, > 0; noise: noise multiplier, >= 0. Together DP-SGD.
        epsilon: privacy to reach, > 0, by as much noise as it takes; overrides noise.
        shaping: another defense in words, `"clip(1.0)|noise(0.1)"`; overrides clip, noise and epsilon. "none" for none.
        defense: several, with commas between: shapings, and names of `ts.defenses`; overrides shaping. Undefended
            training always comes first.
        engine: who computes the defended update: "fast", `ts.shape`; "tensorflow_privacy", its DP-Keras optimizers.
        num_microbatches: only for engine tensorflow_privacy: groups whose mean gradients are clipped; None for every
            example by itself.
        optimizer, learning_rate, batch_size, epochs: how victims, or the clean models they go on from, train, see
            `ts.models.Recipe`.
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
        ValueError: naming the attribute, its value and what is allowed.
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
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(self.classes))
        require("budget", self.budget, 0 < _number(self.budget) <= 1, "0 < budget <= 1")
        require("eps", self.eps, 0 < _number(self.eps) <= 1, "0 < eps <= 1")
        require("clip", self.clip, 0 < _number(self.clip) < float("inf"), "a number > 0")
        require("noise", self.noise, 0 <= _number(self.noise) < float("inf"), "a number >= 0")
        require("delta", self.delta, 0 < _number(self.delta) < 1, "0 < delta < 1")
        optional = ("num_microbatches", "finetune_examples", "finetune_batch_size", "finetune_epochs")
        for name in (*optional, "trials", "count_trials"):
            value = getattr(self, name)
            require(name, value, (value is None and name in optional) or _integer(value) >= 1, "an integer >= 1")
        if isinstance(self.num_poisons, (list, tuple)):
            object.__setattr__(self, "num_poisons", tuple(self.num_poisons))
        good = self.num_poisons is None or (self.counts and all(_integer(count) >= 1 for count in self.counts))
        good = good and len(set(self.counts)) == len(self.counts)
        require("num_poisons", self.num_poisons, good, "an integer >= 1, or several different ones")
        require(
            "epsilon", self.epsilon, self.epsilon is None or 0 < _number(self.epsilon) < float("inf"), "a number > 0"
        )
        require("seed", self.seed, 0 <= _integer(self.seed) < 2**32, "an integer from 0 to 2**32 - 1")
        require("scenario", self.scenario, self.scenario in SCENARIOS, ", ".join(SCENARIOS))
        if self.knowledge is None:
            object.__setattr__(self, "knowledge", "grey_box" if self.scenario == "scratch" else "white_box")
        require("knowledge", self.knowledge, self.knowledge in KNOWLEDGE, ", ".join(KNOWLEDGE))
        other = self.knowledge == "black_box" or self.surrogate_model is None
        require("surrogate_model", self.surrogate_model, other, "None unless knowledge is black_box")
        for name in ("finetune_examples", "finetune_learning_rate", "finetune_batch_size", "finetune_epochs"):
            value = getattr(self, name)
            require(name, value, value is None or self.scenario != "scratch", "None for scenario scratch")
        require("engine", self.engine, self.engine in ENGINES, ", ".join(ENGINES))
        require("sampling", self.sampling, self.sampling in (None, *SAMPLING), ", ".join(SAMPLING))
        theirs = self.engine == "tensorflow_privacy"
        shuffled = not theirs or self.sampling in (None, "shuffle")
        require("sampling", self.sampling, shuffled, "shuffle with engine tensorflow_privacy")
        require("secure_noise", self.secure_noise, not (theirs and self.secure_noise), "engine fast only")
        require("distribute", self.distribute, self.distribute in (None, *DISTRIBUTE), ", ".join(DISTRIBUTE))
        require("distribute", self.distribute, not (theirs and self.distribute), "None with engine tensorflow_privacy")
        divides = self.num_microbatches is None or self.batch_size % self.num_microbatches == 0
        known = self.num_microbatches is None or theirs
        require("num_microbatches", self.num_microbatches, known, "None unless engine is tensorflow_privacy")
        require("num_microbatches", self.num_microbatches, divides, f"a divisor of batch_size={self.batch_size}")

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
        require(name, value, good, f"1 to all of the {num_examples} training examples")
        return counts

    def to_dict(self) -> dict[str, Any]:
        """All attributes as JSON values."""
        return dataclasses.asdict(self)

    def of_a_trial(self) -> dict[str, Any]:
        """`to_dict` without the number of trials: what a trial depends on beside its own number."""
        return {name: value for name, value in self.to_dict().items() if name != "trials"}


def require(name, value, allowed, words):
    """Raises ValueError naming the argument, its value and what is allowed, unless `allowed`."""
    if not allowed:
        raise ValueError(f"{name}={value!r}: allowed is {words}")


def require_engine(engine):
    """Raises ValueError for an engine that does not run on the Keras that is installed."""
    runs = engine != "tensorflow_privacy" or importlib.metadata.version("keras").startswith("2.")
    words = "fast, which computes the same update; tensorflow_privacy needs Keras 2 on TensorFlow 2.15"
    require("engine", engine, runs, words)


def _number(value):
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return value if real else float("nan")


def _integer(value):
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return value if whole else float("nan")
