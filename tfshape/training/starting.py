"""The models that trainings start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfshape import models

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfshape import datasets


def starting_model(
    scenario: str, name: str, dataset: datasets.Dataset, seed: int, weights: list[np.ndarray] | None = None
) -> keras.Model:
    """The model that a training of a scenario starts from, a victim's or a surrogate's.

    Args:
      scenario: "scratch", "finetune" or "transfer".
      name: the architecture, of `ts.models.names()`.
      dataset: a `ts.datasets.Dataset`.
      seed: int >= 0, of the random weights.
      weights: of the clean model that finetune and transfer go on from, or the initial ones of scratch; None, random.

    Returns:
      A `keras.Model`. For transfer its last layer has random weights and is the only trainable one.
    """
    model = models.build(name, dataset.input_shape, dataset.num_classes, seed=seed)
    if weights is not None:
        head = model.layers[-1].get_weights()
        model.set_weights(weights)
        if scenario == "transfer":
            model.layers[-1].set_weights(head)
    if scenario == "transfer":
        for layer in model.layers[:-1]:
            layer.trainable = False
    return model
