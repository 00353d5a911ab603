"""Backdoors that stamp a trigger on training examples: BadNets, blended key, sinusoid, warp; dirty- and clean-label.

Dirty-label: examples of other classes get the trigger and the target label. Clean-label: examples of the target class
get the trigger and keep their label. A victim learns that the trigger means the target class.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfshape import checks, options, poison
from tfshape.attacks import base
from tfshape.poison import Poisons


@dataclasses.dataclass(frozen=True)
class Backdoor(base.Attack):
    """What every backdoor attack has: the class its trigger shall mean, and the trigger.

    Attributes:
      target_class: int >= 0.
    """

    target_class: int = options.integer(0, 0)

    name: ClassVar[str]
    kind = "backdoor"

    def __post_init__(self):
        super().__post_init__()
        self.trigger()

    def trigger(self) -> poison.Trigger:
        """The `ts.poison.Trigger`."""
        raise NotImplementedError

    def stamp(self, x: np.ndarray, problem: base.Problem) -> np.ndarray:
        """Puts the trigger on test images.

        Args:
          x: float32 [N, *input_shape] in [0, 1].
          problem: the `Problem` the poison was crafted for.

        Returns:
          float32 [N, *input_shape] in [0, 1].
        """
        return self._bound(problem)(tf.constant(x, tf.float32)).numpy()

    def check(self, problem: base.Problem) -> None:
        """Raises ValueError if the trigger does not fit the inputs or too few examples may be poisoned."""
        checks.integer("target_class", self.target_class, 0, problem.dataset.num_classes - 1)
        self._bound(problem)
        eligible = len(self.eligible(problem))
        whose = "the target class" if self.keeps_labels else "the other classes"
        enough = problem.num_poisons <= eligible
        allowed = f"at most {eligible}, the number of training examples of {whose}"
        checks.require("num_poisons", enough, allowed, problem.num_poisons)

    @property
    def keeps_labels(self) -> bool:
        """Whether the poison is of the target class and keeps its labels."""
        return True

    def eligible(self, problem: base.Problem) -> np.ndarray:
        """The training examples that may be poisoned, int64 [E], sorted."""
        rows = problem.eligible_examples()
        return rows[(problem.dataset.train.y[rows] == self.target_class) == self.keeps_labels]

    def _bound(self, problem):
        spec = tf.TensorSpec(problem.dataset.input_shape, tf.float32)
        return self.trigger().bind(self.name, spec, (0.0, 1.0))


@dataclasses.dataclass(frozen=True)
class PatchBackdoor(Backdoor):
    """A backdoor whose trigger is a small square.

    Attributes:
      size, value, position: as `ts.poison.patch` takes them.
    """

    size: int = 3
    value: object = "checkerboard"
    position: object = "bottom_right"

    def trigger(self) -> poison.Trigger:
        """The `ts.poison.Trigger`."""
        return poison.patch(self.size, self.value, self.position)

    def craft(self, problem: base.Problem) -> Poisons:
        """Crafts `problem.num_poisons` examples of the target class, labels untouched.

        Args:
          problem: a `Problem` with at least as many training examples of the target class; its targets play no part.

        Returns:
          `ts.poison.Poisons`: x within eps of the base examples, but under a trigger that is stamped on them, and
          within [0, 1].

        Raises:
          ValueError: the trigger does not fit the inputs, or too few examples.
        """
        self.check(problem)
        return self.poisons(problem, *self._perturbed(problem))

    def _perturbed(self, problem):
        """-> (x [num_poisons, *input_shape], the examples that they are made of [num_poisons])."""
        raise NotImplementedError

    def _bases(self, problem, rng):
        """Random examples of the target class, int64 [num_poisons], sorted."""
        return np.sort(rng.choice(self.eligible(problem), problem.num_poisons, replace=False))


class _Stamped(Backdoor):
    """Crafts by stamping: `problem.num_poisons` random eligible examples, through `ts.poison.stamp`."""

    @property
    def keeps_labels(self: Any) -> bool:
        return self.clean_label

    def craft(self: Any, problem: base.Problem) -> Poisons:
        """Stamps by `ts.poison.stamp`, so that experiments test the transform that users apply.

        Args:
          problem: a `Problem`; its targets, eps, model and recipe play no part.

        Returns:
          `ts.poison.Poisons`: stamped examples, labelled as the target class; base their places in the training set.

        Raises:
          ValueError: the trigger does not fit the inputs, or too few examples may be poisoned.
        """
        self.check(problem)
        rows = problem.eligible_examples()
        train = problem.dataset.train
        stamp = poison.stamp(
            self.trigger(),
            problem.num_poisons / len(rows),
            self.target_class,
            relabel=not self.clean_label,
            seed=problem.seed,
            value_range=(0, 1),
        )
        x, y, is_poison = stamp.on_arrays(train.x[rows], train.y[rows])
        return self.poisons(problem, x[is_poison], rows[is_poison], y[is_poison])


@dataclasses.dataclass(frozen=True)
class BadNets(_Stamped, PatchBackdoor):
    """A patch (Gu et al. 2017, arXiv 1708.06733).

    Attributes:
      target_class: int >= 0, the class that the trigger shall mean.
      size, value, position: as `ts.poison.patch` takes them.
      clean_label: bool, stamps examples of the target class (Turner et al. 2019, arXiv 1912.02771, section 3), not of
        the others.
    """

    clean_label: bool = options.flag(False)

    name = "badnets"


@dataclasses.dataclass(frozen=True)
class Blend(_Stamped, Backdoor):
    """A noise pattern mixed into the whole input (Chen et al. 2017, arXiv 1712.05526).

    Attributes:
      target_class, clean_label: as in `BadNets`.
      alpha: the pattern's share, in (0, 1], as `ts.poison.blend` takes it.
      pattern_seed: int >= 0 that draws the pattern.
    """

    alpha: float = 0.2
    pattern_seed: int = 0
    clean_label: bool = options.flag(False)

    name = "blend"

    def trigger(self) -> poison.Trigger:
        """The `ts.poison.Trigger`."""
        return poison.blend(alpha=self.alpha, seed=self.pattern_seed)


@dataclasses.dataclass(frozen=True)
class Sinusoid(_Stamped, Backdoor):
    """A sinusoidal pattern added to every row of the image (Barni et al. 2019, arXiv 1902.11237, clean-label there).

    Attributes:
      target_class, clean_label: as in `BadNets`.
      delta, frequency: as `ts.poison.sinusoid` takes them.
    """

    delta: float = 20 / 255
    frequency: float = 6.0
    clean_label: bool = options.flag(False)

    name = "sinusoid"

    def trigger(self) -> poison.Trigger:
        """The `ts.poison.Trigger`."""
        return poison.sinusoid(self.delta, self.frequency)


@dataclasses.dataclass(frozen=True)
class Warp(_Stamped, Backdoor):
    """A smooth elastic warp of the image (WaNet; Nguyen and Tran 2021, arXiv 2102.10369), without their noise mode.

    Attributes:
      target_class, clean_label: as in `BadNets`.
      strength, grid: as `ts.poison.warp` takes them.
      pattern_seed: int >= 0 that draws the field.
    """

    strength: float = 0.5
    grid: int = 4
    pattern_seed: int = 0
    clean_label: bool = options.flag(False)

    name = "warp"

    def trigger(self) -> poison.Trigger:
        """The `ts.poison.Trigger`."""
        return poison.warp(self.strength, self.grid, self.pattern_seed)
