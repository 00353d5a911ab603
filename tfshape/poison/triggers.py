"""Backdoor triggers: fixed changes to an input that a poisoned model learns to obey."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfshape import checks, pixels
from tfshape.poison.values import Values, fingerprint

_CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")


class Trigger:
    """A trigger for images [H, W, C] or [H, W], or for rows [F] where that makes sense.

    Attributes: `name`, and `config`, its options for reports.
    """

    def __init__(self, name: str, config: dict[str, Any], build: Callable) -> None:
        self.name, self.config, self._build = name, config, build

    def __repr__(self):
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.config.items())})"

    def bind(
        self,
        who: str,
        spec: tf.TensorSpec,
        value_range: tuple[float, float] | None = None,
        largest: float | None = None,
    ) -> Callable:
        """A function of features [b, ...] to stamped ones, for features of this `tf.TensorSpec`.

        largest: the largest value in the first of them, if known; of bytes, it tells what is white.
        """
        if not spec.shape.is_fully_defined() or not 1 <= spec.shape.rank <= 3:
            raise ValueError(f"{who}: {self.name} needs images or rows of known shape, got {spec.shape}")
        values = Values(who, spec, value_range, largest)
        change = self._build(f"{who}: {self.name}", tuple(spec.shape), values)
        return lambda x: values.edit(x, change)

    def __call__(self, x: Any, value_range: tuple[float, float] | None = None) -> Any:
        """Stamps a batch.

        Args:
          x: array or tensor [N, ...], floats in [0, 1] or uint8. value_range: as in `stamp`.
        Returns: a tensor like x.
        """
        x = tf.convert_to_tensor(x)
        known = tf.executing_eagerly() and x.dtype == tf.uint8 and x.shape.num_elements()
        largest = float(tf.reduce_max(x)) if known else None
        return self.bind("trigger", tf.TensorSpec(x.shape[1:], x.dtype), value_range, largest)(x)


def patch(size: Any = 3, value: Any = "checkerboard", position: Any = "bottom_right") -> Trigger:
    """A small square (BadNets; Gu et al. 2017, arXiv 1708.06733).

    Args:
      size: side in pixels, or (height, width); on rows, how many features.
      value: "checkerboard", alternating the highest and lowest value, or a number: 0 for the lowest pixel value to 1
        for the highest; on rows, the number itself.
      position: "top_left", "top_right", "bottom_left", "bottom_right", or (row, column) of its upper left pixel; on
        rows, left means the first features and right the last, or an integer names the first one.

    Returns: a `Trigger`.
    """
    sides = (size, size) if np.ndim(size) == 0 else tuple(size)
    checks.require("patch: size", len(sides) == 2, "an integer or (height, width)", size)
    sides = tuple(checks.integer("patch: size", side, 1) for side in sides)
    board = isinstance(value, str) and value == "checkerboard"
    if not board:
        checks.require("patch: value", not isinstance(value, str), "'checkerboard' or a finite number", value)
        value = checks.real("patch: value", value)
    if isinstance(position, str):
        allowed = f"one of {', '.join(_CORNERS)}, or (row, column)"
        checks.require("patch: position", position in _CORNERS, allowed, position)
    else:
        position = (position,) if np.ndim(position) == 0 else tuple(position)
        position = tuple(checks.integer("patch: position", start, 0) for start in position)

    def build(who, shape, values):
        plane = shape[:2]
        extent = sides[-len(plane) :]
        if isinstance(position, str):
            far = (position.startswith("bottom"), position.endswith("right"))[-len(plane) :]
            start = [(whole - part) * is_far for whole, part, is_far in zip(plane, extent, far)]
        else:
            start = position
        fits = len(start) == len(plane) and all(0 <= s <= n - e for s, e, n in zip(start, extent, plane))
        if not fits:
            raise ValueError(f"{who} of size={extent} at position={position!r} does not fit into features {shape}")
        if board:
            values.check_units()
        elif len(plane) == 2:
            checks.require(f"{who} value", 0 <= value <= 1, "a share of the pixel range in [0, 1]", value)
        covered, levels = np.zeros(plane, bool), np.zeros(plane, np.float32)
        inside = tuple(slice(s, s + e) for s, e in zip(start, extent))
        covered[inside] = True
        levels[inside] = (np.indices(extent).sum(0) + 1) % 2 if board else value
        covered, levels = (part.reshape(plane + (1,) * (len(shape) - len(plane))) for part in (covered, levels))
        return lambda x: tf.where(covered, values.level(levels), x)

    return Trigger("patch", {"size": sides, "value": value, "position": position}, build)


def blend(pattern: Any = "noise", alpha: float = 0.2, seed: int = 0) -> Trigger:
    """Mixes a key pattern k into the whole input, (1 - alpha) x + alpha k (Chen et al. 2017, arXiv 1712.05526).

    Args:
      pattern: "noise", uniform over the pixel range, or an array of the inputs' shape: uint8, or float from 0 for the
        lowest pixel value to 1 for the highest. On rows, numbers in the features' units.
      alpha: the pattern's share, in (0, 1].
      seed: integer that draws the noise.

    Returns: a `Trigger`.
    """
    alpha, seed = checks.real("blend: alpha", alpha, 0, 1, above=True), checks.integer("blend: seed", seed, 0)
    noise = isinstance(pattern, str)
    if noise:
        described = checks.choice("blend: pattern", pattern, ("noise",))
    else:
        pattern = np.asarray(pattern)
        described = fingerprint(pattern)
        if pattern.dtype.kind not in "fiu" or not np.isfinite(pattern).all():
            raise ValueError(f"blend: pattern must be 'noise', or uint8 or finite numbers, got {pattern.dtype}")

    def build(who, shape, values):
        if noise:
            values.check_units()
        key = np.random.default_rng(seed).random(shape) if noise else pattern
        if key.shape != shape:
            raise ValueError(f"{who} pattern must have the shape of the features, {shape}, got {key.shape}")
        if len(shape) > 1 and not noise:
            key = key / pixels.white(key.dtype, key.max())
            if not (key.min() >= 0 and key.max() <= 1):
                raise ValueError(f"{who} pattern must lie within [0, 1], got {key.min()} to {key.max()}")
        return lambda x: (1 - alpha) * x + values.level(key) * alpha

    return Trigger("blend", {"pattern": described, "alpha": alpha, "seed": seed}, build)


def sinusoid(delta: float = 20 / 255, frequency: float = 6) -> Trigger:
    """Adds delta sin(2 pi j f / m) to column j = 1..m (Barni et al. 2019, arXiv 1902.11237); on rows, to feature j.

    Args:
      delta: amplitude, a share in (0, 1] of the pixel range; on rows, in the features' units.
      frequency: f, periods over the width, > 0.

    Returns: a `Trigger`.
    """
    delta = checks.real("sinusoid: delta", delta, 0, above=True)
    frequency = checks.real("sinusoid: frequency", frequency, 0, above=True)

    def build(who, shape, values):
        fits = len(shape) == 1 or delta <= 1
        checks.require(f"{who} delta", fits, "a share of the pixel range in (0, 1]", delta)
        columns = shape[min(1, len(shape) - 1)]
        wave = delta * np.sin(2 * np.pi * np.arange(1, columns + 1) * frequency / columns)
        wave = wave[:, None] if len(shape) == 3 else wave
        return lambda x: values.add(x, wave * (values.high - values.low))

    return Trigger("sinusoid", {"delta": delta, "frequency": frequency}, build)


def warp(strength: float = 0.5, grid: int = 4, seed: int = 0) -> Trigger:
    """A smooth elastic warp of images (WaNet; Nguyen and Tran 2021, arXiv 2102.10369, eq. 3 to 6).

    A random field on grid x grid control points, divided by its mean magnitude, is upsampled bicubically; the image is
    sampled bilinearly at the points so displaced, which stay within it.

    Args:
      strength: s, > 0: pixels move about s / 2 on average along each axis.
      grid: k, control points a side, >= 2. seed: integer that draws the field.

    Returns: a `Trigger`, for images only.
    """
    strength = checks.real("warp: strength", strength, 0, above=True)
    grid, seed = checks.integer("warp: grid", grid, 2), checks.integer("warp: seed", seed, 0)

    def build(who, shape, values):
        if len(shape) == 1:
            raise ValueError(f"{who} warps images only, got rows of {shape[0]} features")
        count = shape[0] * shape[1]
        places, shares = _sampling(shape[:2], strength, grid, seed)

        def change(x):
            sampling = tf.sparse.SparseTensor(places, tf.cast(shares, x.dtype), (count, count))
            pixels = tf.transpose(tf.reshape(x, [-1, count, math.prod(shape[2:])]), [1, 0, 2])
            moved = tf.sparse.sparse_dense_matmul(sampling, tf.reshape(pixels, [count, -1]))
            return tf.reshape(tf.transpose(tf.reshape(moved, tf.shape(pixels)), [1, 0, 2]), [-1, *shape])

        return change

    return Trigger("warp", {"strength": strength, "grid": grid, "seed": seed}, build)


def _sampling(plane, strength, grid, seed):
    """Pairs (pixel of the warped image, pixel of the original), flat, four for each of the former, and their shares."""
    field = np.random.default_rng(seed).uniform(-1, 1, (grid, grid, 2))
    field /= np.abs(field).mean()
    rows, columns = (_bicubic(grid, size) for size in plane)
    field = np.einsum("ia,jb,abd->dij", rows, columns, field)
    ends = np.array(plane).reshape(2, 1, 1) - 1
    # The paper moves points in coordinates of [-1, 1] by s / size; half of (size - 1) of those make a pixel.
    points = np.indices(plane) + strength * field * ends / (2 * (ends + 1))
    points = np.clip(points, 0, ends)
    whole = np.minimum(points.astype(np.int64), np.maximum(ends - 1, 0))
    part = points - whole
    places, shares = [], []
    for down in (0, 1):
        for right in (0, 1):
            r, c = np.minimum(whole[0] + down, ends[0]), np.minimum(whole[1] + right, ends[1])
            places.append(np.stack([np.arange(r.size), (r * plane[1] + c).ravel()], axis=1))
            shares.append(((part[0] if down else 1 - part[0]) * (part[1] if right else 1 - part[1])).ravel())
    return np.stack(places, axis=1).reshape(-1, 2), np.stack(shares, axis=1).ravel()


def _bicubic(points, size):
    """The [size, points] matrix of cubic convolution (Keys 1981, a = -0.75), first and last points aligned."""
    at = np.linspace(0, points - 1, size)
    first = np.minimum(at.astype(np.int64), points - 2)
    matrix = np.zeros((size, points))
    for tap in range(-1, 3):
        d = np.abs(at - (first + tap))
        near = 1.25 * d**3 - 2.25 * d**2 + 1
        far = -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
        np.add.at(matrix, (np.arange(size), np.clip(first + tap, 0, points - 1)), np.where(d <= 1, near, far * (d < 2)))
    return matrix
