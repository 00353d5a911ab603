"""What an attack is given, how its target is chosen, and the control: the attacker's budget without the attack."""

from __future__ import annotations

import dataclasses
import numbers

import numpy as np

from tfshape import models, poison


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
      recipe: how the victim trains, a `ts.models.Recipe`. Neither its seed nor its weights are known.
      num_poisons: how many training examples the attacker may change, from 1 to the size of the training set.
      seed: int >= 0; the same problem and seed give the same poison.
      eps: l-inf bound of a perturbation, in (0, 1], of inputs in [0, 1]; label attacks do not read it.
      targets: `Target`s, for targeted attacks: one or more, all with one intended label.
      surrogate_seed: int >= 0, of the attacker's own clean models; problems that share it share them.
      initial_model: the clean `keras.Model` that the victim goes on from, when the attacker knows it (scenario
        finetune, white_box); None: the victim starts from random weights.

    Raises:
      ValueError: a value outside these.
    """

    dataset: object
    model: str
    recipe: models.Recipe
    num_poisons: int
    seed: int
    eps: float = 32 / 255
    targets: tuple = ()
    surrogate_seed: int = 0
    initial_model: object = None

    def __post_init__(self):
        size = len(self.dataset.train)
        if self.model not in models.names():
            raise ValueError(f"model must be one of {', '.join(models.names())}, got {self.model!r}")
        require_integer("num_poisons", self.num_poisons, 1, size)
        require_integer("seed", self.seed, 0)
        require_integer("surrogate_seed", self.surrogate_seed, 0)
        if not isinstance(self.eps, numbers.Real) or not 0 < self.eps <= 1:
            raise ValueError(f"eps must be a number above 0 and at most 1, got {self.eps!r}")
        object.__setattr__(self, "targets", tuple(self.targets))
        for target in self.targets:
            require_integer("target index", target.index, 0, len(self.dataset.test) - 1)
            require_integer("intended_label", target.intended_label, 0, self.dataset.num_classes - 1)
            if target.true_label != int(self.dataset.test.y[target.index]):
                raise ValueError(
                    f"true_label of test example {target.index} must be its class "
                    f"{int(self.dataset.test.y[target.index])}, got {target.true_label!r}"
                )
            if target.intended_label == target.true_label:
                raise ValueError(f"intended_label must not be the true class, got {target.intended_label} for both")

    def target_x(self):
        """The targets' inputs, float32 [T, *input_shape]."""
        return self.dataset.test.x[[target.index for target in self.targets]]


def require_integer(name, value, low, high=None):
    """Raises ValueError unless `value` is an integer from `low` to `high` (None: no bound)."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        wanted = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {wanted}, got {value!r}")


def check_target_rule(rule, dataset):
    """Splits a rule of `choose_target` into its kind and numbers. Raises ValueError for one that it does not know."""
    kind, *fixed = str(rule).split(":")
    if kind == "index" and 1 <= len(fixed) <= 2 and all(text.isdecimal() for text in fixed):
        index, *intended = fixed = [int(text) for text in fixed]
        require_integer("target_rule's index", index, 0, len(dataset.test) - 1)
        for label in intended:
            require_integer("target_rule's class", label, 0, dataset.num_classes - 1)
            if label == dataset.test.y[index]:
                raise ValueError(f"target_rule's class must not be that of test example {index}, got {label}")
        return (kind, *fixed)
    if rule not in ("random", "runner_up"):
        raise ValueError(f"target_rule must be random, runner_up, index:N or index:N:CLASS, got {rule!r}")
    return (kind,)


def choose_target(rule, dataset, seed, logits=None):
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
    require_integer("seed", seed, 0)
    generator = np.random.default_rng([seed, 1])
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


def control(poisons, dataset):
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


def make_poisons(problem, attack, x, base, y=None):
    """The `ts.poison.Poisons` of an attack: `x` [K, *input_shape] made from training examples `base` [K]; `y` [K] are
    the labels, by default the clean ones. `attack` is the frozen dataclass of options, which the file records."""
    dataset = problem.dataset
    return poison.Poisons(
        x=x,
        y=dataset.train.y[base] if y is None else y,
        base=base,
        num_examples=len(dataset.train),
        target_x=problem.target_x() if problem.targets else None,
        target_y=[target.true_label for target in problem.targets],
        intended_y=[target.intended_label for target in problem.targets],
        attack=attack.name,
        config={
            "eps": float(problem.eps),
            "model": problem.model,
            "target_index": [int(target.index) for target in problem.targets],
            **dataclasses.asdict(attack),
        },
        seed=int(problem.seed),
    )
