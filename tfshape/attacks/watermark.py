"""Watermark: the target blended into base examples of another class. A baseline that needs no model.

As the watermark of Shafahi et al. 2018 (arXiv 1804.00792, section 4.2) without the collision.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import checks
from tfshape.attacks import base, crafting, feature_collision
from tfshape.poison import Poisons


@dataclasses.dataclass(frozen=True)
class Watermark(base.Targeted):
    """Blends targets into random training examples of the intended class, as far as eps allows; labels untouched.

    Attributes:
      opacity: above 0, below 1: the share of the target in the poison.
      ensemble: int >= 1, clean surrogates, which only choose the target.

    Raises:
      ValueError: a value outside these.
    """

    opacity: float = 0.3
    ensemble: int = 4

    name = "watermark"

    def __post_init__(self):
        checks.real("opacity", self.opacity, 0, 0.999, above=True)
        checks.integer("ensemble", self.ensemble, 1)

    def craft(self, problem: base.Problem) -> Poisons:
        """Crafts poison for the problem's targets, which take turns.

        Args:
          problem: a `Problem` whose targets have one intended class, with at least `num_poisons` examples.

        Returns:
          `ts.poison.Poisons`: x within eps of the base examples and within [0, 1], both exactly; y their own labels.

        Raises:
          ValueError: no targets, several intended classes, or too few base examples.
        """
        rng = problem.generator("targeted")
        bases = rng.choice(problem.candidates(problem.intended_label()), problem.num_poisons, replace=False)
        clean = problem.dataset.train.x[bases]
        target = problem.target_x()[np.arange(len(bases)) % len(problem.targets)]
        x = feature_collision.watermarked(clean, target, self.opacity, *crafting.bounds(clean, problem.eps))
        return base.make_poisons(problem, self, x, bases)
