"""Watermark: the target blended into base examples of another class. A baseline that needs no model.

As the watermark of Shafahi et al. 2018 (arXiv 1804.00792, section 4.2) without the collision.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import options
from tfshape.attacks import base, crafting, feature_collision


@dataclasses.dataclass(frozen=True)
class Watermark(base.Targeted):
    """Blends targets into random training examples of the intended class, as far as eps allows; labels untouched.

    Targets take turns.

    Attributes:
      opacity: above 0, below 1: the share of the target in the poison.
      ensemble: int >= 1, clean surrogates, which only choose the target.
    """

    opacity: float = options.real(0.3, 0, 0.999, above=True)
    ensemble: int = options.integer(4, 1)

    name = "watermark"

    def _perturbed(self, problem):
        rng = problem.generator("targeted")
        bases = rng.choice(problem.candidates(problem.intended_label()), problem.num_poisons, replace=False)
        clean = problem.dataset.train.x[bases]
        target = problem.target_x()[np.arange(len(bases)) % len(problem.targets)]
        return feature_collision.watermarked(clean, target, self.opacity, *crafting.bounds(clean, problem.eps)), bases
