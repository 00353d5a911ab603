"""Bullseye polytope: clean-label poison with a target in its middle in feature space.

Aghakhani et al. 2021, arXiv 2005.00191. A polytope of which the target is the mean, not just any point, holds it more
surely on models that the attacker has not seen, and is cheaper to find.
"""

from __future__ import annotations

import dataclasses

from tfshape.attacks import base, convex_polytope
from tfshape.poison import Poisons


@dataclasses.dataclass(frozen=True)
class BullseyePolytope(base.Targeted):
    """Perturbs examples of the intended class so that the mean of their features is the target's, in every surrogate.

    Eq. 2 of the paper. Several targets are several means to be near to, of one object seen in several ways
    (section III-B has the mean of the targets' features, whose objective differs by a constant).

    Attributes: as of `ConvexPolytope`, whose coefficients are fixed here.

    Raises:
      ValueError: a value outside these.
    """

    steps: int = 400
    step_size: float = 0.1
    layers: str = "features"
    ensemble: int = 4
    base_rule: str = "nearest"

    name = "bullseye_polytope"

    def __post_init__(self):
        convex_polytope.check(self)

    def craft(self, problem: base.Problem) -> Poisons:
        """Crafts poison for the problem's targets; as `ConvexPolytope.craft`."""
        return convex_polytope.surround(self, problem, coefficient_steps=0)
