"""What an attack is given, how its target is chosen, and the control: the attacker's budget without the attack."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from tfshape import checks, models, options, poison, seeds, training
from tfshape.attacks import surrogates, target_rule
from tfshape.datasets import Dataset
from tfshape.poison import Poisons

SCENARIOS = ("scratch", "finetune", "transfer")
KNOWLEDGE = ("white_box", "grey_box", "black_box")


@dataclasses.dataclass(frozen=True)
class Target:
    """One test example that the attacker wants misclassified.

    Attributes:
      index: its place in `dataset.test`.
      true_label: its class.
      intended_label: the class the attacker wants it to get.
    """

    index: int
    true_label: int
    intended_label: int


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What the attacker knows and may do.

    Attributes:
      dataset: the clean `ts.datasets.Dataset`; the attacker knows its training part.
      model: the architecture of the victim, a name of `ts.models.names()`.
      recipe: how the victim trains, a `ts.training.Recipe`. Neither its seed nor its weights are known.
      num_poisons: how many training examples the attacker may change, from 1 to the size of the training set.
      seed: int >= 0; the same problem and seed give the same poison.
      eps: l-inf bound of a perturbation, in (0, 1], of inputs in [0, 1]; label attacks do not read it.
      targets: `Target`s, for targeted attacks: one or more, all with one intended label.
      surrogate_seed: int >= 0, of the attacker's own clean models; problems that share it share them.
      initial_model: the `keras.Model` that the victim starts from, for white_box: a clean trained model, or for scratch
        one with random weights. None for an attacker who does not know it.
      scenario: "scratch", victims train all weights from random ones; "finetune", they train all weights of a clean
        trained model; "transfer", they freeze all of that but its last layer, which they train from random weights.
        None: finetune if there is an initial_model, else scratch.
      knowledge: "white_box", the attacker has initial_model; "grey_box", knows the architecture and trains clean models
        of its own; "black_box", trains models of another architecture. None: white_box if there is an initial_model,
        else grey_box.
      surrogate_model: for black_box, the architecture of the attacker's models, a name of `ts.models.names()`.
      shaping: a `ts.shaping.Shaper` for an adaptive attacker, who knows that victims' gradients are shaped by it and
        trains the surrogates so; None for one who does not.
      initial_recipe: for finetune and transfer, how clean models train, a `ts.training.Recipe`. None: as `recipe`.
      finetune_indices: for finetune and transfer, the training examples that the victim trains on, int [M]: bases are
        chosen among them. None: all. The clean model has been trained on the whole training set.

    Raises:
      ValueError: a value outside these.
    """

    dataset: Dataset
    model: str
    recipe: training.Recipe
    num_poisons: int
    seed: int
    eps: float = 32 / 255
    targets: tuple = ()
    surrogate_seed: int = 0
    initial_model: Any = None
    scenario: str | None = None
    knowledge: str | None = None
    surrogate_model: str | None = None
    shaping: Any = None
    initial_recipe: training.Recipe | None = None
    finetune_indices: Any = None

    def __post_init__(self):
        size = len(self.dataset.train)
        known = self.initial_model is not None
        if self.scenario is None:
            object.__setattr__(self, "scenario", "finetune" if known else "scratch")
        if self.knowledge is None:
            object.__setattr__(self, "knowledge", "white_box" if known else "grey_box")
        checks.choice("model", self.model, models.names())
        checks.integer("num_poisons", self.num_poisons, 1, size)
        checks.integer("seed", self.seed, 0)
        checks.integer("surrogate_seed", self.surrogate_seed, 0)
        checks.choice("scenario", self.scenario, SCENARIOS)
        checks.choice("knowledge", self.knowledge, KNOWLEDGE)
        allowed = "given for white_box, and None otherwise"
        checks.require("initial_model", known == (self.knowledge == "white_box"), allowed, self.initial_model)
        if self.knowledge == "black_box":
            others = tuple(name for name in models.names() if name != self.model)
            checks.choice("surrogate_model", self.surrogate_model, others)
        elif self.surrogate_model is not None:
            checks.fail("surrogate_model", "None unless knowledge is black_box", self.surrogate_model)
        if self.finetune_indices is not None:
            indices = np.asarray(self.finetune_indices)
            whole = indices.ndim == 1 and indices.dtype.kind in "iu" and len(set(indices.tolist())) == len(indices)
            if not whole or not len(indices) or indices.min() < 0 or indices.max() >= size:
                checks.fail("finetune_indices", f"different integers from 0 to {size - 1}", self.finetune_indices)
            checks.require("finetune_indices", self.scenario != "scratch", "None for scenario scratch", indices)
            object.__setattr__(self, "finetune_indices", indices.astype(np.int64))
        checks.real("eps", self.eps, 0, 1, above=True)
        object.__setattr__(self, "targets", tuple(self.targets))
        for target in self.targets:
            checks.integer("target index", target.index, 0, len(self.dataset.test) - 1)
            checks.integer("intended_label", target.intended_label, 0, self.dataset.num_classes - 1)
            label = int(self.dataset.test.y[target.index])
            allowed = f"{label}, the class of test example {target.index}"
            checks.require("true_label", target.true_label == label, allowed, target.true_label)
            different = target.intended_label != target.true_label
            checks.require("intended_label", different, "another class than the true one", target.intended_label)

    def target_x(self) -> np.ndarray:
        """The targets' inputs, float32 [T, *input_shape]."""
        return self.dataset.test.x[[target.index for target in self.targets]]

    def intended_label(self) -> int:
        """The class that all targets shall get. Raises ValueError unless there is exactly one."""
        intended = {target.intended_label for target in self.targets}
        checks.require("targets", len(intended) == 1, "one or more, all with one intended label", self.targets)
        return intended.pop()

    def generator(self, purpose: str) -> np.random.Generator:
        """A random generator for one purpose, such as the name of the attack: it follows from that and the seed."""
        return seeds.generator(self.seed, purpose)

    def eligible_examples(self, label: int | None = None) -> np.ndarray:
        """The training examples that victims train on, of class `label` or of all, as sorted indices, int64 [E]."""
        indices = self.finetune_indices
        eligible = np.arange(len(self.dataset.train)) if indices is None else np.sort(indices)
        return eligible if label is None else eligible[self.dataset.train.y[eligible] == label]

    def candidates(self, label: int) -> np.ndarray:
        """The examples of class `label` that the attacker may change, as sorted indices; at least num_poisons.

        Raises ValueError if there are fewer.
        """
        found = self.eligible_examples(label)
        most = f"at most {len(found)}, the number of training examples of class {label}"
        checks.require("num_poisons", self.num_poisons <= len(found), most, self.num_poisons)
        return found


class Attack(options.Checked):
    """What every attack is: a frozen dataclass of options that derives from this, with `name`, `kind` and `craft`.

    Options that `tfshape.options` declares are checked when an attack is made, which raises ValueError for a bad value.

    Attributes:
      name: str, by which `ts.attacks.get` and the flags know it.
      kind: "targeted", "indiscriminate" or "backdoor". A backdoor also has `target_class`, and `stamp(x, problem)`,
        which puts its trigger on test examples; a targeted attack may have `test_logits(problem)`, what clean models
        say of the test examples, from which targets are then drawn.
    """

    name: ClassVar[str]
    kind: ClassVar[str]

    def check(self, problem: Problem) -> None:
        """Raises ValueError for a problem that the attack cannot be used on; trains nothing."""

    def craft(self, problem: Problem) -> Poisons:
        """Crafts `problem.num_poisons` examples; the same for the same problem, whatever else is drawn meanwhile.

        Args:
          problem: the `Problem`.

        Returns:
          `ts.poison.Poisons`. What becomes of its bounds is up to the attack: nothing checks labels or `problem.eps`.

        Raises:
          ValueError: a problem that the attack cannot be used on.
        """
        raise NotImplementedError

    def poisons(
        self, problem: Problem, x: np.ndarray, base: np.ndarray | None = None, y: np.ndarray | None = None, **found: Any
    ) -> Poisons:
        """The `ts.poison.Poisons` that `craft` returns, with what their file says of the attack and the problem.

        Args:
          problem: the `Problem` they were crafted for.
          x: float32 [K, *input_shape].
          base: int [K], the training examples they take the place of; None for examples that are inserted.
          y: int [K], their labels; None for those of `base`.
          **found: what else their `config` shall say.
        """
        dataset, targets = problem.dataset, problem.targets
        return poison.Poisons(
            x=x,
            y=dataset.train.y[base] if y is None else y,
            base=np.full(len(x), -1) if base is None else base,
            num_examples=len(dataset.train),
            target_x=problem.target_x() if targets else None,
            target_y=[target.true_label for target in targets],
            intended_y=[target.intended_label for target in targets],
            attack=self.name,
            config={
                "eps": float(problem.eps),
                "model": problem.model,
                "scenario": problem.scenario,
                "knowledge": problem.knowledge,
                "surrogate_model": problem.surrogate_model,
                "shaping": None if problem.shaping is None else str(problem.shaping),
                "target_index": [int(target.index) for target in targets],
                **{name: checks.scalar(value) for name, value in dataclasses.asdict(self).items()},  # type: ignore
                **found,
            },
            seed=int(problem.seed),
        )


class Targeted(Attack):
    """What targeted attacks share: clean-label poison. Subclasses have an option `ensemble`, and `_perturbed`."""

    kind = "targeted"
    checkpoints = 1

    def craft(self, problem: Problem) -> Poisons:
        """Crafts poison for the problem's targets.

        Args:
          problem: a `Problem` whose targets have one intended class, with at least `num_poisons` examples.

        Returns:
          `ts.poison.Poisons`: x within eps of the base examples and within [0, 1], both exactly; y their own labels.

        Raises:
          ValueError: no targets, several intended classes, or too few base examples.
        """
        return self.poisons(problem, *self._perturbed(problem))

    def _perturbed(self, problem):
        """-> (x [num_poisons, *input_shape], the examples that they are made of [num_poisons])."""
        raise NotImplementedError

    def test_logits(self, problem: Problem) -> np.ndarray:
        """What the attacker's clean surrogates say of the test examples, [S, N, num_classes], for `choose_target`;
        `problem` needs no targets yet."""
        return self.pool(problem).test_logits

    def pool(self: Any, problem: Problem) -> surrogates.Pool:
        """The attacker's clean `surrogates.Pool`."""
        return surrogates.pool(problem, problem.surrogate_seed, self.ensemble, self.checkpoints)


def check_target_rule(rule: str, dataset: Dataset) -> tuple:
    """Splits a rule of `choose_target` into its kind and numbers. Raises ValueError for one that does not fit."""
    kind, *given = target_rule.parse(rule)
    if given:
        index = checks.integer("target_rule's index", given[0], 0, len(dataset.test) - 1)
        for label in given[1:]:
            checks.integer("target_rule's class", label, 0, dataset.num_classes - 1)
            allowed = f"another class than that of test example {index}"
            checks.require("target_rule's class", label != dataset.test.y[index], allowed, label)
    return (kind, *given)


def choose_target(rule: str, dataset: Dataset, seed: int, logits: np.ndarray | None = None) -> Target:
    """Draws the test example to attack and the class it shall get. Never looks at whether an attack on it succeeds.

    Args:
      rule: one of
        "runner_up": a random test example that every surrogate classifies correctly; intended is the class that
          comes second in the mean of their logits.
        "random": a random test example (one that every surrogate classifies correctly, if there are any); intended is
          a random other class.
        "index:N" or "index:N:C": test example N; intended is class C, by default a random other class.
      dataset: a `ts.datasets.Dataset`.
      seed: int >= 0.
      logits: [S, N, num_classes], what S clean models, none of them a victim, say of the N test examples; or None.
        One model alone is often right by so little that a victim of another seed errs without any attack.

    Returns:
      A `Target`.

    Raises:
      ValueError: an unknown rule, a number outside the dataset, or runner_up without surrogates.
    """
    checks.integer("seed", seed, 0)
    generator = seeds.generator(seed, "choose_target")
    labels, size = dataset.test.y, len(dataset.test)

    def other(index):
        return int((labels[index] + generator.integers(1, dataset.num_classes)) % dataset.num_classes)

    kind, *fixed = check_target_rule(rule, dataset)
    if kind == "index":
        intended = fixed[1] if fixed[1:] else other(fixed[0])
        return Target(fixed[0], int(labels[fixed[0]]), intended)
    if logits is None:
        if kind == "runner_up":
            raise ValueError("target_rule runner_up needs the logits of surrogates, got None")
        index = int(generator.integers(size))
        return Target(index, int(labels[index]), other(index))
    correct = np.flatnonzero((np.argmax(logits, axis=2) == labels).all(axis=0))
    if not len(correct):
        raise ValueError("the surrogates classify no test example correctly; train them longer")
    index = int(generator.choice(correct))
    second = int(np.argsort(np.mean(logits, axis=0)[index])[-2])
    return Target(index, int(labels[index]), second if kind == "runner_up" else other(index))


def control(poisons: Poisons, dataset: Dataset) -> Poisons:
    """The same examples with the same labels, *unperturbed*: the budget without the attack.

    Args:
      poisons: `ts.poison.Poisons` with base examples in `dataset.train`.
      dataset: the `ts.datasets.Dataset` they were crafted from.

    Returns:
      `ts.poison.Poisons`. A clean-label attack's are the clean training examples themselves.

    Raises:
      ValueError: the poisons have no base examples in this dataset.
    """
    if poisons.num_examples != len(dataset.train) or (poisons.base < 0).any():
        raise ValueError(
            f"poisons must have base examples in the {len(dataset.train)} training examples of {dataset.name}, "
            f"got num_examples={poisons.num_examples} and {int((poisons.base < 0).sum())} without a base"
        )
    return dataclasses.replace(poisons, x=dataset.train.x[poisons.base])


def finetune_set(dataset: Dataset, size: int, seed: int) -> np.ndarray:
    """Draws the training examples that a victim fine-tunes on, as many of every class as can be.

    Args:
      dataset: a `ts.datasets.Dataset`.
      size: int, from the number of classes to the size of the training set.
      seed: int >= 0.

    Returns:
      int64 [size], sorted indices: `Problem.finetune_indices`.

    Raises:
      ValueError: a size or seed outside these.
    """
    checks.integer("size", size, dataset.num_classes, len(dataset.train))
    checks.integer("seed", seed, 0)
    order = seeds.generator(seed, "finetune_set").permutation(len(dataset.train))
    labels = dataset.train.y[order]
    turn = np.empty(len(order), np.int64)  # which of its class each example is, in the random order
    for label in range(dataset.num_classes):
        turn[labels == label] = np.arange(np.count_nonzero(labels == label))
    return np.sort(order[np.argsort(turn, kind="stable")[:size]])
