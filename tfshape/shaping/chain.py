"""Noise, and shapers one after the other."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from .. import checks
from .base import Shaper, register
from .clipping import Clip, PerLayerClip


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class GaussianNoise(Shaper):
    """Adds Gaussian noise to the sum of the shaped gradients; the last shaper of a chain.

    `multiplier` (>= 0): the standard deviation as a multiple of the sensitivity of what stands before it, the
    convention of DP-SGD. `stddev` (>= 0): the standard deviation itself, on the sum, before it is divided by the
    batch size; the only choice after shapers without a sensitivity. Give one of the two.
    Source: Abadi et al. 2016, Algorithm 1. Raises ValueError for anything else.
    """

    multiplier: float | None = None
    stddev: float | None = None
    spelling = "noise"

    def __post_init__(self):
        if (self.multiplier is None) == (self.stddev is None):
            given = ", ".join(f"{key}={checks.shown(getattr(self, key))}" for key in ("multiplier", "stddev"))
            raise ValueError(f"noise takes exactly one of multiplier and stddev, got {given}")
        for field in ("multiplier", "stddev"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, checks.real(f"noise {field}", getattr(self, field), 0))

    def noise_for(self, bound: Any) -> Any:
        if self.stddev is not None:
            return self.stddev
        if bound is None:
            raise ValueError(f"{self} follows shapers without a sensitivity; write noise(stddev=…) instead")
        return self.multiplier * bound


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class Chain(Shaper):
    """Applies shapers one after the other; each sees the gradients as the ones before it left them.

    Its sensitivity is None as soon as one shaper's weights depend on the other examples of the batch: a clip
    behind such a shaper bounds every example, but one example still moves the weights of the others.
    Raises ValueError if it is empty, if noise stands anywhere but at the end, if noise as a multiple of the sensitivity
    follows shapers that have none, or if a shaper that needs inner products follows PerLayerClip.
    """

    parts: tuple
    spelling = "chain"

    def __post_init__(self):
        parts = self.parts if isinstance(self.parts, (list, tuple)) else [self.parts]
        for part in parts:
            if not isinstance(part, Shaper):
                raise ValueError(f"Chain takes shapers, got {checks.shown(part)}")
        flat = tuple(shaper for part in parts for shaper in part.shapers)
        if not flat:
            raise ValueError("Chain needs at least one shaper, got none")
        for shaper in flat[:-1]:
            if isinstance(shaper, GaussianNoise):
                raise ValueError(f"{shaper} must be the last shaper of a chain, got {'|'.join(map(str, flat))}")
        layers = [isinstance(shaper, PerLayerClip) for shaper in flat]
        for shaper in flat[layers.index(True) if True in layers else len(flat) :]:
            if shaper.directions:
                raise ValueError(f"{shaper} cannot follow per_layer_clip, got {'|'.join(map(str, flat))}")
        object.__setattr__(self, "parts", flat)
        if isinstance(flat[-1], GaussianNoise):
            flat[-1].noise_for(self.sensitivity)

    @property
    def shapers(self) -> tuple[Shaper, ...]:
        return self.parts

    @property
    def name(self) -> str:
        return "|".join(shaper.name for shaper in self.parts)

    def to_config(self) -> dict[str, Any]:
        return {"shaper": self.spelling, "parts": [shaper.to_config() for shaper in self.parts]}

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Chain:
        return cls(tuple(Shaper.from_config(part) for part in options.get("parts", ())))


def dp_sgd(clip: float = 1.0, noise: float = 1.0) -> Chain:
    """DP-SGD: every example clipped to `clip` (l2, > 0), Gaussian noise of `noise` (>= 0) x `clip` on the sum.

    Returns a Chain. Source: Abadi et al. 2016, Algorithm 1. Raises ValueError for values out of range.
    """
    return Chain((Clip(clip), GaussianNoise(noise)))
