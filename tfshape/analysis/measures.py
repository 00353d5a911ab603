"""The two artifacts of poison in the gradients of a batch: magnitude and orientation."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfshape.gradients import PerExample

QUANTILES = (5, 25, 50, 75, 95)
COMPARED = ("magnitude_ratio", "norm_ratio", "cosine", "share")
WHOLE = "all"  # the name of the whole gradient among the layers
VIEWS = ("raw", "shaped")


def artifacts(
    found: PerExample, is_poison: np.ndarray | None = None, weights: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """The artifacts in one batch of per-example gradients g_i, which are never materialised.

    Args:
        found: what `ts.gradients.per_example` returned for the batch of B examples.
        is_poison: bool [B]; None if it is not known.
        weights: the shaper's, [B] or [L, B] with a row a layer, as `ShapedModel.example_weights` gives them; None for
            unshaped training.

    Returns:
        A list of dicts, one a view and layer. `view` is "raw", before shaping, or "shaped", after. `layer` is a layer's
        name, or "all" for the whole gradient. All numbers are floats, NaN where there is nothing to take them of:

        magnitude_ratio: ‖mean poison gradient‖ / ‖mean clean gradient‖. A mean of few gradients is longer than one of
            many, whatever they are: compare it with that of as many clean examples.
        norm_ratio: the mean over the poison of ‖g_i‖, over the same of clean examples; free of that effect.
        cosine: between mean poison and mean clean gradient, -1 to 1.
        share: of the update u, the mean over the batch, that the poison contributes along it: (1/B) Σ <g_i, u> / ‖u‖².
            Negative where it pulls back; the clean examples contribute 1 less that.
        clean_cosine, poison_cosine: mean of cos(g_i, u) over each group; gradients of zero are left out.
        clean_norm_05 … clean_norm_95, poison_norm_05 … poison_norm_95: quantiles of ‖g_i‖.

        Without `is_poison` there are only cosine and norm quantiles, of everything: all_cosine, all_norm_05, ….
        Examples whose gradient is not finite are left out.

    Source: Hong et al. 2020, arXiv 2002.11497, section 4, on batches as there.
    """
    look = Look(is_poison is not None)
    look.add({key: np.asarray(value) for key, value in measure(found, is_poison, weights).items()}, is_poison)
    return look.rows([name for name, _ in found.layers])


def measure(found, is_poison=None, weights=None):
    """The tensors that `Look.add` takes; V views, S = 1 + L scopes: the whole gradient, then its layers.

    norms [V, S, B]; along [V, S, B], inner products with the batch mean; forms [V, S, 3, 3], inner products of mean
    poison, mean clean and mean of all; nearest [B], the raw gradient's largest cosine with another of the batch.
    All come from the layers' Gram matrices, and add up over layers.
    """
    norms, grams = tf.cast(found.layer_norms, tf.float64), tf.cast(found.layer_gram(), tf.float64)
    valid = tf.math.is_finite(tf.cast(found.losses, tf.float64)) & tf.reduce_all(tf.math.is_finite(norms), 0)
    grams = tf.where(valid[:, None] & valid[None, :], grams, tf.zeros_like(grams))
    norms = tf.where(valid, norms, tf.constant(np.nan, tf.float64))
    present = tf.cast(valid, tf.float64)
    poison = tf.zeros_like(present) if is_poison is None else present * tf.cast(is_poison, tf.float64)
    groups = tf.stack([poison, present - poison, present], 1)
    means = tf.math.divide_no_nan(groups, tf.reduce_sum(groups, 0))
    scales = [tf.ones_like(norms)]
    if weights is not None:
        scales.append(tf.zeros_like(norms) + tf.cast(weights, tf.float64))
    views = [_view(norms, grams, means, scale) for scale in scales]
    measured = {key: tf.stack([view[key] for view in views]) for key in views[0]}
    return {**measured, "nearest": _nearest(tf.reduce_sum(grams, 0), measured["norms"][0, 0])}


def _nearest(gram, norms):
    cosines = gram / (norms[:, None] * norms[None, :])
    cosines = tf.where(tf.math.is_finite(cosines), cosines, -tf.ones_like(cosines))
    return tf.reduce_max(tf.linalg.set_diag(cosines, -tf.ones_like(norms)), 1)


def _view(norms, grams, means, scale):
    norms = norms * scale
    along = scale[:, :, None] * tf.matmul(grams, scale[:, :, None] * means)
    along = tf.concat([tf.reduce_sum(along, 0)[None], along], 0)
    return {
        "norms": tf.concat([tf.sqrt(tf.reduce_sum(norms**2, 0))[None], norms], 0),
        "along": along[:, :, 2],
        "forms": tf.matmul(tf.broadcast_to(tf.transpose(means), [tf.shape(along)[0], 3, tf.shape(means)[0]]), along),
    }


class Look:
    """What was seen in some batches at the same weights: norms of all examples, and the mean over the batches of the
    rest, as far as a batch has both poison and clean examples."""

    def __init__(self, known):
        self.known = known
        self._norms, self._cosines, self._nearest, self._marks, self._compared = [], [], [], [], []

    def add(self, measured, is_poison=None):
        """Adds a batch: what `measure` gave, as arrays, and its `is_poison`."""
        norms, along, forms = (measured[key] for key in ("norms", "along", "forms"))
        marks = np.zeros(norms.shape[-1], bool) if is_poison is None else np.asarray(is_poison, bool)
        pp, cc, uu = (np.maximum(forms[..., i, i], 0) for i in range(3))
        with np.errstate(divide="ignore", invalid="ignore"):
            self._cosines.append(along / (norms * np.sqrt(uu)[..., None]))
            size, clean_size = (_mean(norms[..., group]) for group in (marks, ~marks))
            share = marks[np.isfinite(norms[0, 0])].mean() * forms[..., 0, 2] / uu
            ratios = [np.sqrt(pp / cc), size / clean_size, forms[..., 0, 1] / np.sqrt(pp * cc), share]
        both = marks.any() and not marks.all()
        self._compared.append(np.where(both, np.stack(ratios), np.nan))
        self._norms.append(norms)
        self._nearest.append(measured["nearest"])
        self._marks.append(marks)

    def scores(self):
        """Of every example's whole raw gradient, in the order they were added, a dict of arrays [N]: its norm, its
        cosine to the mean of its batch, and its largest cosine with another example of the batch."""
        parts = {"norm": self._norms, "cosine": self._cosines}
        scores = {name: np.concatenate([part[0, 0] for part in found]) for name, found in parts.items()}
        return {**scores, "nearest": np.concatenate(self._nearest)}

    def norms(self):
        """Of whole gradients: dict of view to group ("clean" and "poison", or "all") to an array."""
        norms, groups = np.concatenate(self._norms, -1)[:, 0], self._groups()
        return {view: {name: row[group] for name, group in groups.items()} for view, row in zip(VIEWS, norms)}

    def _groups(self):
        marks = np.concatenate(self._marks)
        return {"clean": ~marks, "poison": marks} if self.known else {"all": np.ones(len(marks), bool)}

    def rows(self, layers):
        """A list of dicts, see `artifacts`; `layers` are the names of the rows of what was added."""
        norms, cosines = np.concatenate(self._norms, -1), np.concatenate(self._cosines, -1)
        groups = self._groups()
        columns = dict(zip(COMPARED, _mean(np.stack(self._compared, -1)))) if self.known else {}
        for name, group in groups.items():
            columns[f"{name}_cosine"] = _mean(cosines[..., group])
        for name, group in groups.items():
            for percent, values in zip(QUANTILES, _quantiles(norms[..., group])):
                columns[f"{name}_norm_{percent:02}"] = values
        return [
            {"view": view, "layer": layer, **{key: float(values[v, s]) for key, values in columns.items()}}
            for v, view in enumerate(VIEWS[: len(norms)])
            for s, layer in enumerate((WHOLE, *layers))
        ]


def names(known):
    """The names of the numbers in a row, in their order."""
    groups = ("clean", "poison") if known else ("all",)
    quantiles = [f"{group}_norm_{percent:02}" for group in groups for percent in QUANTILES]
    return [*(COMPARED if known else ()), *[f"{group}_cosine" for group in groups], *quantiles]


def _mean(values):
    """The mean over the last axis of what is finite, NaN where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(-1)
    total = np.where(finite, values, 0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _quantiles(values):
    if not values.shape[-1]:
        return np.full((len(QUANTILES), *values.shape[:-1]), np.nan)
    plain = np.isfinite(values).all()
    return (np.quantile if plain else np.nanquantile)(values, np.array(QUANTILES) / 100, axis=-1)
