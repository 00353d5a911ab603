"""Bullseye polytope: clean-label poison with a target in its middle in feature space.

Aghakhani et al. 2021, arXiv 2005.00191. A polytope of which the target is the mean, not just any point, holds it more
surely on models that the attacker has not seen, and is cheaper to find.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfshape.attacks import convex_polytope


@dataclasses.dataclass(frozen=True)
class BullseyePolytope(convex_polytope.ConvexPolytope):
    """Perturbs examples of the intended class so that the mean of their features is the target's, in every surrogate.

    Eq. 2 of the paper. Several targets are several means to be near to, of one object seen in several ways
    (section III-B has the mean of the targets' features, whose objective differs by a constant).

    Attributes: as of `ConvexPolytope`, whose coefficients are fixed here.
    """

    coefficient_steps: ClassVar[int] = 0  # type: ignore[misc]  # an option there; here all coefficients stay equal

    name = "bullseye_polytope"
