"""What a model makes of examples: logits, accuracy, and features, which its penultimate layer gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfshape import checks

FEATURES = "features"  # the name of the penultimate layer in every model


def features(model: Any) -> Any:
    """The part of a model up to its penultimate layer.

    Args:
      model: a functional or sequential `keras.Model` with a layer named "features", as `build` makes them, or a model
        that wraps one such model and nothing else, as `ts.shape` does.

    Returns:
      A `keras.Model` that shares the weights of `model`, from [B, *input_shape] to what enters the last layer,
      [B, F]: the flattened input for lr, activations after the relu for mlp and cnn, pooled channels for resnet20.

    Raises:
      ValueError: no layer has that name.
    """
    import keras

    while len(model.layers) == 1 and isinstance(model.layers[0], keras.Model):
        model = model.layers[0]
    layers = [layer.name for layer in model.layers]
    if FEATURES not in layers:
        raise ValueError(f"model must have a layer named {FEATURES!r}, got {checks.shown(layers)}")
    return keras.Model(model.input, model.get_layer(FEATURES).output)


def predict(model: Any, x: np.ndarray, batch_size: int = 1000) -> np.ndarray:
    """The logits of a model, float32 [N, num_classes], for x [N, *input_shape].

    Calls the model layer by layer in batches, which costs no tracing: models here are many and small.
    """
    x = np.asarray(x)
    starts = range(0, max(len(x), 1), batch_size)
    return np.concatenate([np.asarray(model(x[start : start + batch_size], training=False)) for start in starts])


def accuracy(model: Any, split: Any) -> float:
    """The share, from 0 to 1, of a `Split`'s examples whose largest logit is the one of their class."""
    return float(np.mean(np.argmax(predict(model, split.x), axis=1) == split.y))
