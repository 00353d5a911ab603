"""Shapers that bound each example's magnitude: Clip, Normalize, PerLayerClip, AdaptiveClip."""

from __future__ import annotations

import dataclasses

import keras

from .base import Shaper, least, number, register


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class Clip(Shaper):
    """Scales an example's gradient down to an l2 norm of at most `clip`: `w_i = min(1, clip / ‖g_i‖)`.

    Sensitivity `clip`. Source: Abadi et al. 2016, Deep Learning with Differential Privacy, Algorithm 1.
    Raises ValueError unless `clip` is a positive number.
    """

    clip: float
    spelling = "clip"

    def __post_init__(self):
        object.__setattr__(self, "clip", number("clip", self.clip, 0, above=True))

    def bound(self, previous, state=None):
        return least(previous, self.clip)
