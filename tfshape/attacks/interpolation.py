"""Interpolation, by which Hong et al. 2020 (arXiv 2002.11497, section 4) study the gradients of feature collision."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import checks, options
from tfshape.attacks import base
from tfshape.poison import Poisons


@dataclasses.dataclass(frozen=True)
class Interpolation(base.Attack):
    """Images of one class mixed with `alpha` of images of another, pair by pair, inserted with the first one's label.

    Attributes:
      alpha: 0 to 1; at 0 the poison is clean copies.
      base_class, other_class: two different classes, whose label the poison has and which is mixed in.
    """

    alpha: float = options.real(0.5, 0, 1)
    base_class: int = options.integer(0, 0)
    other_class: int = options.integer(1, 0)

    name = "interpolation"
    kind = "indiscriminate"

    def __post_init__(self):
        super().__post_init__()
        different = self.base_class != self.other_class
        checks.require("other_class", different, "another class than base_class", self.other_class)

    def check(self, problem: base.Problem) -> None:
        """Raises ValueError if the dataset has not as many examples of the two classes."""
        for name in ("base_class", "other_class"):
            checks.integer(name, getattr(self, name), 0, problem.dataset.num_classes - 1)
            problem.candidates(getattr(self, name))

    def craft(self, problem: base.Problem) -> Poisons:
        """The mixed images as `ts.poison.Poisons`, base -1; the pairs depend on the problem's seed, not on alpha."""
        train, rng = problem.dataset.train, problem.generator(self.name)
        pools = [problem.candidates(label) for label in (self.base_class, self.other_class)]
        rows, others = (rng.choice(pool, problem.num_poisons, replace=False) for pool in pools)
        x = ((1 - self.alpha) * train.x[rows] + self.alpha * train.x[others]).astype(np.float32).clip(0, 1)
        return self.poisons(problem, x, y=train.y[rows])
