"""Which training examples made the model predict what it does: TracIn."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfshape import checks, gradients


def influence(
    model: keras.Model,
    checkpoints: Iterable,
    x: np.ndarray,
    y: np.ndarray,
    target_x: np.ndarray,
    target_y: np.ndarray,
    loss: Any = None,
    learning_rates: Sequence[float] | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """How much each training example pushed the prediction of the target towards `target_y`.

    The sum over checkpoints k of rate_k · <gradient of example i, mean gradient of the targets>, both at the weights of
    k: to first order, how much steps on example i lowered the targets' loss. Examples with the largest values are the
    suspects when a prediction is wrong. Gradients are not materialised.

    Args:
        model: a built `keras.Model`; its weights are as before when the function returns.
        checkpoints: one or more; each a path that `model.load_weights` reads, or a list that `set_weights` takes.
        x, y: training examples [N, ...] and their labels [N].
        target_x, target_y: the targets [T, ...] and the labels [T] whose prediction is to be explained.
        loss: as `ts.gradients.per_example` takes it; by default what the model was compiled with.
        learning_rates: one a checkpoint, by default all 1.
        batch_size: examples at a time, >= 1.

    Returns:
        float64 [N].

    Raises:
        ValueError: no checkpoint, no loss, or lengths that do not fit.

    Source: Pruthi et al. 2020, arXiv 2002.08484, TracInCP. It describes SGD; of adaptive optimizers it says less.
    """
    checkpoints = list(checkpoints)
    rates = [1.0] * len(checkpoints) if learning_rates is None else list(learning_rates)
    checks.require("checkpoints", checkpoints, "at least one", checkpoints)
    allowed = f"one for each of the {len(checkpoints)} checkpoints"
    checks.require("learning_rates", len(rates) == len(checkpoints), allowed, learning_rates)
    if len(x) != len(y) or len(target_x) != len(target_y) or not len(target_x):
        sizes = f"{len(x)} and {len(y)}, {len(target_x)} and {len(target_y)}"
        raise ValueError(f"x and y, and target_x and target_y, must have one length, at least one target, got {sizes}")
    loss = compiled_loss(model) if loss is None else loss
    targets = tf.convert_to_tensor(target_x), tf.convert_to_tensor(target_y)

    @tf.function(autograph=False)
    def direction():
        found = gradients.per_example(model, loss, *targets, training=False)
        return found.weighted_sum(tf.ones_like(found.losses) / tf.cast(len(target_x), found.losses.dtype))

    @tf.function(autograph=False, reduce_retracing=True)
    def along(part_x, part_y, direction):
        return gradients.per_example(model, loss, part_x, part_y, training=False).dot(direction)

    before, total = model.get_weights(), np.zeros(len(x))
    try:
        for checkpoint, rate in zip(checkpoints, rates):
            if isinstance(checkpoint, (str, os.PathLike)):
                model.load_weights(checkpoint)
            else:
                model.set_weights(checkpoint)
            wanted = direction()
            for start in range(0, len(x), batch_size):
                rows = slice(start, start + batch_size)
                total[rows] += rate * along(x[rows], y[rows], wanted).numpy()
    finally:
        model.set_weights(before)
    return total


def precision_at(k: int, scores: np.ndarray, is_poison: np.ndarray) -> float:
    """The share of poison, 0 to 1, among the k examples with the highest scores [N]; `is_poison` is bool [N].

    Raises ValueError unless 1 <= k <= N.
    """
    k = checks.integer("k", k, 1, len(scores))
    return float(np.asarray(is_poison)[np.argsort(-np.asarray(scores), kind="stable")[:k]].mean())


def compiled_loss(model):
    """The loss of a compiled model of one output. Raises ValueError if there is none, or several."""
    loss = getattr(model, "loss", None)
    if not isinstance(loss, (str, keras.losses.Loss)) and not callable(loss):
        checks.fail("loss", "given, where the model is not compiled with exactly one loss", loss)
    return loss
