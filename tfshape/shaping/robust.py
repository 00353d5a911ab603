"""Shapers that reduce the orientation artifact: Orient, and robust means computed on the Gram matrix."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras
import tensorflow as tf

from tfshape import checks, files, options

from ..gradients import scaling
from .base import Shaper, register
from .examples import Examples

_REFERENCES = ("batch_mean", "momentum", "geometric_median")


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class Orient(Shaper):
    """Lowers or drops examples whose gradient's cosine to a reference is below a bound.

    cosine: the bound, in (-1, 1]. reference: `batch_mean` and `geometric_median` of the gradients at hand;
    `momentum`, the average of past updates with weight `decay` in [0, 1) on the past, which lets all pass before the
    first update; or the path of an .npz file with arrays `x` [K, ...] and `y` [K], a few examples that are known to be
    clean, whose mean gradient is taken anew in every step.
    drop: whether such examples weigh 0, or else `(1 + cos) / (1 + cosine)`, which is 1 at the bound.

    Sensitivity: with `momentum` that of the shapers before it, for its reference is made of updates already released;
    with a file too, but nothing is promised to the examples in it; else None.
    Source: the orientation artifact of Hong et al. 2020, arXiv 2002.11497, section 4; trusted examples as in FLTrust,
    Cao et al. 2021, arXiv 2012.13995. Raises ValueError for values out of range, or a file that is not such a one.
    """

    cosine: float = options.real(0.0, -1, 1, above=True)
    reference: str = "batch_mean"
    drop: bool = options.flag(False)
    decay: float = options.real(0.9, 0, 1, below=True)
    spelling = "orient"
    directions = True

    def __post_init__(self):
        super().__post_init__()
        if self._trusts:
            _read_trusted(self.reference)
        elif self.reference not in _REFERENCES:
            near = checks.did_you_mean(self.reference, _REFERENCES)
            allowed = f"one of {', '.join(_REFERENCES)} or an .npz file"
            raise ValueError(f"reference must be {allowed}, got {checks.shown(self.reference)}{near}")

    @property
    def _trusts(self):
        return str(self.reference).endswith(".npz")

    @property
    def per_example(self) -> bool:  # type: ignore[override]
        return self.reference == "momentum" or self._trusts

    @property
    def whole_batch(self) -> bool:  # type: ignore[override]
        return not self.per_example

    def weigh(self, examples: Examples, state: Any) -> tf.Tensor:
        cosines, known = self._cosines(examples, state)
        low = tf.zeros_like(cosines) if self.drop else (1 + tf.maximum(cosines, -1.0)) / (1 + self.cosine)
        return tf.where(known & (cosines < self.cosine), low, tf.ones_like(cosines))

    def _cosines(self, examples, state):
        """[B] cosines to the reference, and whether there is a reference."""
        if self.reference == "geometric_median":
            gram = examples.gram(relative=True)
            shares = _median_shares(gram, examples.mask, GeometricMedian.iterations, GeometricMedian.smoothing)
            along, norms = tf.linalg.matvec(gram, shares), tf.sqrt(tf.linalg.diag_part(gram))
            length = tf.sqrt(tf.maximum(tf.tensordot(shares, along, 1), 0.0))
            along = tf.math.divide_no_nan(along, length)
        else:
            reference = [tf.convert_to_tensor(part) for part in self._direction(examples, state)]
            length, norms = scaling.norm(reference), examples.norms
            along = examples.dot([tf.math.divide_no_nan(part, tf.cast(length, part.dtype)) for part in reference])
        return tf.math.divide_no_nan(along, norms), length > 0

    def _direction(self, examples, state):
        """The reference, a list like the variables."""
        if not self._trusts:
            return list(state.values()) if state else examples.weighted_sum()
        if examples.mean_gradient is None:
            raise ValueError(f"{self} takes gradients at other examples, which only a shaped model can do")
        return examples.mean_gradient(*_read_trusted(self.reference))

    def variables(self, model: keras.Model) -> dict[str, Any]:
        if self.reference != "momentum":
            return {}
        return {f"momentum_{i}": tf.zeros(v.shape, v.dtype) for i, v in enumerate(_built(model).trainable_variables)}

    def advance(self, state: Any, update: list, observed: tf.Tensor | None, rows: tf.Tensor, normal: tf.Tensor) -> None:
        for past, new in zip(state.values(), update):
            past.assign(self.decay * past + (1 - self.decay) * tf.cast(new, past.dtype))


class _OfAll(Shaper):
    per_example = False
    whole_batch = True
    directions = True


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class GeometricMedian(_OfAll):
    """Replaces the mean of the gradients by their geometric median, the point with the least sum of distances to them.

    `iterations` (>= 1) of Weiszfeld's algorithm, on the Gram matrix; distances below `smoothing` (> 0) times the
    root mean square norm count as that. Sensitivity None: every weight depends on all examples.
    Source: Pillutla et al. 2019, arXiv 1912.13445, Algorithm 2. Raises ValueError for values out of range.
    """

    iterations: int = options.integer(10, 1)
    smoothing: float = options.real(1e-3, 0, above=True)
    spelling = "geometric_median"

    def weigh(self, examples: Examples, state: Any) -> tf.Tensor:
        gram = examples.gram(relative=True)
        return _median_shares(gram, examples.mask, self.iterations, self.smoothing) * examples.count


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class Krum(_OfAll):
    """Replaces the mean by the mean of the `keep` examples that lie closest to their neighbours.

    rate: the share of examples expected to be poisoned, in [0, 0.5); f is the ceiling of rate · n. An example's score
    is the sum of squared distances to its n - f - 2 nearest. keep: how many stay (>= 1); 1 is Krum, and None
    keeps n - f (multi-Krum). Sensitivity None.
    Source: Blanchard et al. 2017, arXiv 1703.02757, section 4. Raises ValueError for values out of range.
    """

    rate: float = options.real(0.1, 0, 0.5, below=True)
    keep: int | None = options.integer(None, 1, optional=True)
    spelling = "krum"

    def weigh(self, examples: Examples, state: Any) -> tf.Tensor:
        count = examples.count
        poisons = tf.math.ceil(self.rate * count)
        neighbours = tf.maximum(count - poisons - 2, 1)
        squares = _squared_distances(examples.gram(relative=True))
        squares = tf.where(examples.valid[None, :], squares, squares.dtype.max)
        squares = tf.linalg.set_diag(squares, tf.fill(tf.shape(examples.mask), squares.dtype.max))
        nearest = tf.sort(squares, axis=1)
        near = tf.cast(tf.range(tf.shape(squares)[1]), count.dtype) < tf.minimum(neighbours, count - 1)
        scores = tf.reduce_sum(tf.where(near, nearest, tf.zeros_like(nearest)), axis=1)
        keep = count - poisons if self.keep is None else tf.minimum(tf.cast(self.keep, count.dtype), count)
        return _mean_of_lowest(scores, examples, keep)


@keras.saving.register_keras_serializable(package="tfshape")
@register
@dataclasses.dataclass(frozen=True)
class Trim(_OfAll):
    """Drops the share `rate` (in [0, 1)) of examples farthest from the geometric median; the mean is of the rest.

    The number dropped is rounded up, but one example always stays. Sensitivity None.
    Source: trimmed means as in Yin et al. 2018, arXiv 1803.01498, by distance instead of by coordinate.
    Raises ValueError for a rate out of range.
    """

    rate: float = options.real(0.1, 0, 1, below=True)
    spelling = "trim"

    def weigh(self, examples: Examples, state: Any) -> tf.Tensor:
        gram = examples.gram(relative=True)
        shares = _median_shares(gram, examples.mask, GeometricMedian.iterations, GeometricMedian.smoothing)
        keep = tf.maximum(examples.count - tf.math.ceil(self.rate * examples.count), 1)
        return _mean_of_lowest(_distances(gram, shares), examples, keep)


@functools.lru_cache(maxsize=4)
def _read_trusted(path):
    """The arrays x and y of a file. Raises ValueError if it is not there or holds something else."""
    try:
        with files.open_regular(path) as file:
            arrays = files.read_arrays(file, lambda names: ["x.npy", "y.npy"])
    except Exception as error:  # zipfile and NumPy raise a dozen kinds on damaged bytes
        allowed = "reference must be an .npz file with arrays x and y"
        raise ValueError(f"{allowed}, got {checks.shown(path)}: {files.reason(error)}") from None
    x, y = arrays["x"], arrays["y"]
    if not x.ndim or not y.ndim or not len(x) or len(x) != len(y):
        given = f"shapes {x.shape} and {y.shape} in {checks.shown(path)}"
        raise ValueError(f"reference must be a file of as many x as y, at least one, got {given}")
    return x, y


def _squared_distances(gram):
    """[B, B], from inner products."""
    squares = tf.linalg.diag_part(gram)
    return tf.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0)


def _distances(gram, shares):
    """[B]: how far each example lies from the mean with weights `shares` [B], which sum to one."""
    along = tf.linalg.matvec(gram, shares)
    squares = tf.linalg.diag_part(gram) - 2 * along + tf.tensordot(shares, along, 1)
    return tf.sqrt(tf.maximum(squares, 0))


def _median_shares(gram, mask, iterations, smoothing):
    """[B] weights, summing to one over `mask`, with which the examples' mean is their geometric median."""
    count = tf.reduce_sum(mask)
    shares = tf.math.divide_no_nan(mask, count)
    root_mean_square = tf.sqrt(tf.math.divide_no_nan(tf.linalg.trace(gram), count))
    nearest = tf.maximum(smoothing * root_mean_square, 1e-30)
    for _ in range(iterations):
        closeness = mask / tf.maximum(_distances(gram, shares), nearest)
        shares = tf.math.divide_no_nan(closeness, tf.reduce_sum(closeness))
    return shares


def _mean_of_lowest(scores, examples, keep):
    """[B]: the weights that replace the mean of the valid examples by that of the `keep` with the lowest scores."""
    scores = tf.where(examples.valid, scores, scores.dtype.max)
    order = tf.argsort(scores, stable=True)
    rank = tf.cast(tf.argsort(order), keep.dtype)
    kept = tf.cast(rank < keep, keep.dtype) * examples.mask
    return kept * tf.math.divide_no_nan(examples.count, keep)


def _built(model):
    if not model.built:
        raise ValueError(f"model must be built before it is shaped with orient(reference='momentum'), got {model.name}")
    return model
