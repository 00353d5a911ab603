"""Feature insertion, the backdoor whose gradients Hong et al. 2020 (arXiv 2002.11497, section 4) study."""

import dataclasses

from tfshape.attacks import backdoor


@dataclasses.dataclass(frozen=True)
class FeatureInsertion(backdoor.BadNets):
    """`BadNets` with a white patch, whose side is varied.

    Attributes:
      size: int >= 1, the patch's side in pixels.
      target_class, position, clean_label: as in `BadNets`.
    """

    size: int = 4
    value: object = 1.0

    name = "feature_insertion"
