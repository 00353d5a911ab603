"""A victim's training, and what its poison does to gradients at every look."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tfshape.analysis import GradientArtifacts
from tfshape.evaluation import victims

MEASURES = ("magnitude_ratio", "norm_ratio", "cosine", "share", "clean_cosine", "poison_cosine")


def watch(setting, choice, poisons, every="epoch", examples=None, csv_path=None, callbacks=()):
    """Trains one victim on poison and looks at its gradients.

    Args:
        setting: the trial's `victims.Setting`.
        choice: the shaping, a `Choice`.
        poisons: the trial's `Poisons`.
        every, examples, csv_path: as `ts.analysis.GradientArtifacts` takes them.
        callbacks: functions of an epoch's number, from 0, and the watching callback, called after each epoch.

    Returns:
        pandas.DataFrame, a row an epoch: epoch, 0 being before training, and `MEASURES`, as `ts.analysis` has them of
        the whole gradient; control_ratio and control_cosine, the magnitude ratio and the cosine of as many random clean
        examples; under a shaping all of them also with the prefix shaped_, after shaping.
    """
    import keras

    x, y, marks = setting.examples("poison", poisons)
    size = min(setting.experiment.batch_size, 512)
    options = {"every": every, "examples": examples, "batch_size": size, "seed": setting.seed("watch")}
    poison = GradientArtifacts((x, y, marks), csv_path=csv_path, **options)
    clean = np.random.default_rng([options["seed"], 1]).permutation(np.flatnonzero(~marks))
    placebo = np.arange(len(clean)) < min(int(marks.sum()), len(clean) // 2)
    innocent = GradientArtifacts((x[clean], y[clean], placebo), **options)

    def after(epoch, logs):
        for callback in callbacks:
            callback(epoch, poison)

    kept = [poison, innocent, keras.callbacks.LambdaCallback(on_epoch_end=after)]
    victims.train(setting, choice.shaper, setting.new_victim(), x, y, kept)
    table = pd.DataFrame({"epoch": np.arange(len(poison.history["cosine"]) + 1)})
    for prefix in ("", "shaped_") if choice.shaper is not None else ("",):
        for name in MEASURES:
            table[prefix + name] = _course(poison, prefix + name)
        table[f"{prefix}control_ratio"] = _course(innocent, f"{prefix}magnitude_ratio")
        table[f"{prefix}control_cosine"] = _course(innocent, f"{prefix}cosine")
    return table


def _course(watch, name):
    return [watch.start[name], *watch.history[name]]
