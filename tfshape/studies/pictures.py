"""A few poisons of a trial beside what they were made from, to look at."""

from __future__ import annotations

import numpy as np

NUM = 6  # poisons kept


def take(setting, poisons):
    """The first poisons of a trial with their bases, and what they are aimed at.

    Args:
        setting: the trial's `victims.Setting`.
        poisons: its `Poisons`.

    Returns:
        Dict of arrays: poison and base, float32 [n, *input_shape], the base 0 for a poison made from none; poison_label
        and base_label, int [n], the latter -1 for none; target [t, *input_shape], target_label, intended_label: of a
        backdoor a test example with the trigger on, else the targets, of which there may be none.
    """
    x, y, base = poisons.x[:NUM], poisons.y[:NUM], poisons.base[:NUM]
    train, made = setting.dataset.train, base >= 0
    target, labels, intended = setting.aims(poisons, most=1)
    return {
        "poison": x,
        "poison_label": y,
        "base": np.where(made.reshape(-1, *[1] * (x.ndim - 1)), train.x[np.maximum(base, 0)], 0).astype(np.float32),
        "base_label": np.where(made, train.y[np.maximum(base, 0)], -1),
        "target": np.asarray(target, np.float32)[:1],
        "target_label": np.asarray(labels)[:1],
        "intended_label": np.asarray(intended)[:1],
    }


def of_evaluation(experiment, folder):
    """The pictures of the first trial's poisons in a folder of `bin/evaluate`: a list of (words, what `take` gives).

    None where they need code of the user's own: a dataset's, or what this process has not imported.
    """
    from tfshape import attacks, calls, datasets, evaluation, folders, models, poison

    files = sorted(folders.inside(folder, "poisons").glob("trial-000*.npz")) if experiment.poisons is None else []
    e = experiment
    known = e.model in models.names() and calls.parse("attack", e.attack)[0] in attacks.names()
    if not files or not known or not datasets.is_own(e.dataset):
        return []
    dataset = datasets.load(e.dataset, e.data_dir, e.classes, download=False)  # a stranger may have written its name
    setting = evaluation.plan(e, dataset).settings[0]
    found = [poison.Poisons.load(folders.inside(folder, "poisons", path.name)) for path in files[:NUM]]
    return [(f"{poisons.attack}, trial 0, of {len(poisons)} poisons", take(setting, poisons)) for poisons in found]
