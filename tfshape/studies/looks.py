"""A look at the gradients of a trial's poison: how long, and which way, before training and after an epoch of it."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import analysis, gradients, training
from tfshape.evaluation import victims

NUM = 128  # examples of each kind that are looked at
EPOCHS = (0, 1)
KEPT = ("norm_ratio", "magnitude_ratio", "cosine", "share")


def look(setting, poisons):
    """The artifacts of a trial's poison in an undefended victim.

    Args:
        setting: the trial's `victims.Setting`.
        poisons: its `Poisons`.

    Returns:
        A list of dicts, one for each of `EPOCHS`: `epoch`, how long the victim had trained on the poisoned data, and
        `KEPT`, as `ts.analysis.artifacts` has them of the whole gradient, over up to `NUM` poisons and as many clean
        examples.
    """
    import keras
    import tensorflow as tf

    x, y, is_poison = setting.examples("poison", poisons)
    generator = np.random.default_rng(setting.seed("look"))
    groups = [np.flatnonzero(is_poison), np.flatnonzero(~is_poison)]
    count = min(NUM, *map(len, groups))
    if not count:  # none is clean, or none is poison
        return []
    chosen = np.concatenate([generator.choice(group, count, replace=False) for group in groups])
    model, found = setting.new_victim(), []
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for epoch in EPOCHS:
        if epoch:
            recipe = dataclasses.replace(victims.recipe(setting.experiment), epochs=1)
            training.fit(model, tf.data.Dataset.from_tensor_slices((x, y)), recipe, setting.seed("victim"))
        seen = gradients.per_example(model, loss, x[chosen], y[chosen], training=False)
        whole = analysis.artifacts(seen, is_poison[chosen])[0]
        found.append({"epoch": epoch, **{name: whole[name] for name in KEPT}})
    return found
