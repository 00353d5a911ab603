"""Shapers that bound each example's magnitude: Clip, Normalize, PerLayerClip, AdaptiveClip."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf

from tfshape import options

from .base import Shaper, least, register
from .examples import Examples


def _shrinking(norms, clip):
    """min(1, clip / norms), with a `clip` of any size; float64 holds every quotient of two float32 numbers."""
    clip, wide = tf.convert_to_tensor(clip, tf.float64), tf.cast(norms, tf.float64)
    return tf.cast(tf.math.divide_no_nan(clip, tf.maximum(wide, clip)), norms.dtype)


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class Clip(Shaper):
    """Scales an example's gradient down to an l2 norm of at most `clip` (> 0): `w_i = min(1, clip / ‖g_i‖)`.

    Sensitivity `clip`. Source: Abadi et al. 2016, Deep Learning with Differential Privacy, Algorithm 1.
    Raises ValueError unless `clip` is a positive number.
    """

    clip: float = options.real(options.REQUIRED, 0, above=True)
    spelling = "clip"

    def weigh(self, examples: Examples, state: Any) -> tf.Tensor:
        return _shrinking(examples.norms, self.clip)

    def bound(self, previous: Any, state: Any = None) -> Any:
        return least(previous, self.clip)


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class Normalize(Shaper):
    """Scales every example's gradient to almost the same norm: `w_i = clip / (‖g_i‖ + gamma)`.

    clip > 0; gamma > 0 keeps small gradients small. Sensitivity `clip`.
    Source: Bu et al. 2022, Automatic Clipping, arXiv 2206.07136, AUTO-S. Raises ValueError for values out of range.
    """

    clip: float = options.real(1.0, 0, above=True)
    gamma: float = options.real(0.01, 0, above=True)
    spelling = "normalize"

    def weigh(self, examples: Examples, state: Any) -> tf.Tensor:
        norms = examples.norms
        weights = self.clip / (tf.cast(norms, tf.float64) + tf.constant(self.gamma, tf.float64))
        return tf.cast(tf.minimum(weights, norms.dtype.max), norms.dtype)

    def bound(self, previous: Any, state: Any = None) -> Any:
        return self.clip


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class PerLayerClip(Shaper):
    """Clips each of the L layers' part of an example's gradient to `clip / sqrt(L)`, so the whole to `clip` (> 0).

    Sensitivity `clip`. Source: McMahan et al. 2018, arXiv 1710.06963, section 3.1. Only shapers that need no more than
    norms (clip, normalize, noise) may follow it. Raises ValueError unless `clip` is a positive number.
    """

    clip: float = options.real(options.REQUIRED, 0, above=True)
    spelling = "per_layer_clip"

    def weigh(self, examples: Examples, state: Any) -> tf.Tensor:
        norms = examples.layer_norms
        return _shrinking(norms, self.clip / math.sqrt(max(1, norms.shape[0])))

    def bound(self, previous: Any, state: Any = None) -> Any:
        return least(previous, self.clip)


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class AdaptiveClip(Shaper):
    """Clips to a bound that follows, privately, a quantile of the examples' norms.

    After each step, with b_i = 1 if ‖g_i‖ <= C and else 0,
    `C <- C · exp(-learning_rate · ((sum_i (b_i - 1/2) + N(0, count_stddev²)) / B + 1/2 - quantile))`.

    quantile: the share of examples that the bound should leave as they are, in [0, 1]. initial: the first bound, > 0.
    learning_rate: > 0. count_stddev: noise on the count, >= 0; the paper takes B / 20. The bound is kept in a variable
    of the shaped model. `sensitivity` is that of the first step, and `noise_multiplier` of a chain with multiplier z
    counts the count's release too: `(z⁻² + (2 count_stddev)⁻²)^(-1/2)`, 0.0 with count_stddev 0.

    Source: Andrew et al. 2021, arXiv 1905.03871, Algorithm 1 and Theorem 1. Raises ValueError for values out of range.
    """

    quantile: float = options.real(0.5, 0, 1)
    initial: float = options.real(1.0, 0, above=True)
    learning_rate: float = options.real(0.2, 0, above=True)
    count_stddev: float = options.real(10.0, 0)
    spelling = "adaptive_clip"

    def weigh(self, examples: Examples, state: Any) -> tf.Tensor:
        return _shrinking(examples.norms, tf.cast(state["clip"], tf.float64))

    def bound(self, previous: Any, state: Any = None) -> Any:
        return self.initial if state is None else tf.convert_to_tensor(state["clip"])

    def spend(self, multiplier: float) -> float:
        if multiplier == 0 or self.count_stddev == 0:
            return 0.0
        return (multiplier**-2 + (2 * self.count_stddev) ** -2) ** -0.5

    def variables(self, model: keras.Model) -> dict[str, Any]:
        return {"clip": self.initial}

    def observe(self, examples: Examples, state: Any) -> tf.Tensor:
        unclipped = tf.cast(examples.norms <= tf.cast(state["clip"], examples.mask.dtype), examples.mask.dtype)
        return tf.reduce_sum((unclipped - 0.5) * examples.mask)

    def advance(self, state: Any, update: list, observed: tf.Tensor | None, rows: tf.Tensor, normal: tf.Tensor) -> None:
        share = (observed + self.count_stddev * normal) / rows + 0.5
        factor = tf.exp(-self.learning_rate * (share - self.quantile))
        clip = state["clip"] * tf.cast(factor, state["clip"].dtype)
        state["clip"].assign(tf.clip_by_value(clip, 1e-30, 1e30))  # a bound of 0 or inf could never move again
