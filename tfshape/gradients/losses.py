"""Turn whatever `compile(loss=...)` accepts into one loss per example."""

import inspect
from typing import Any

import keras
import tensorflow as tf


def per_example_losses(loss: Any, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
    """Losses [B], in float32 or wider, times `sample_weight` [B] where given.

    `loss` is a name, a `keras.losses.Loss` (its reduction is ignored) or a function (y_true, y_pred) -> [B, ...].
    Further axes are averaged as Keras does, over the unmasked steps if the output carries a Keras mask. A zero weight
    gives a loss of exactly zero, whatever the example. Raises ValueError if the loss gives no value per example.
    """
    function = _function(loss)
    mask = getattr(y_pred, "_keras_mask", None)
    if tf.is_tensor(y_pred):
        y_pred = _widen(y_pred)
        y_true = _same_rank(tf.nest.map_structure(tf.convert_to_tensor, y_true), y_pred)
    values = tf.convert_to_tensor(function(y_true, y_pred))
    if values.shape.rank == 0:
        raise ValueError(f"loss must give one value per example, [B] or [B, ...], got {loss!r}, which gives a scalar")
    values = _widen(values)
    if values.shape.rank > 1:
        values = _mean(values, mask)
    if sample_weight is not None:
        weight = tf.cast(sample_weight, values.dtype)
        if weight.shape.rank != 1:
            weight = tf.reshape(weight, tf.shape(values))
        values = tf.where(weight == 0, tf.zeros_like(values), values * weight)
    return values


def _function(loss):
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if inspect.isclass(loss):
        loss = loss()
    if isinstance(loss, keras.losses.Loss):
        return loss.call
    if callable(loss):
        return loss
    raise ValueError(f"loss must be a name, a keras.losses.Loss or a function (y_true, y_pred) -> [B], got {loss!r}")


def _widen(tensor):
    """Half precision to float32, so that neither the loss nor its sum loses digits."""
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def _same_rank(y_true, y_pred):
    """Labels [B] for predictions [B, 1] become [B, 1], as in Keras; else they would broadcast to [B, B]."""
    if tf.is_tensor(y_true) and y_true.shape.rank == y_pred.shape.rank - 1 and y_pred.shape[-1] == 1:
        return y_true[..., None]
    return y_true


def _mean(values, mask):
    axes = list(range(1, values.shape.rank))
    if mask is None:
        return tf.reduce_mean(values, axes)
    mask = tf.cast(mask, values.dtype)
    for _ in range(values.shape.rank - mask.shape.rank):
        mask = mask[..., None]
    mask = tf.broadcast_to(mask, tf.shape(values))
    return tf.math.divide_no_nan(tf.reduce_sum(values * mask, axes), tf.reduce_sum(mask, axes))
