"""Crafting by gradient matching: ours and the Adversarial Robustness Toolbox's, on the same problem.

A clean `small_cnn` is known to the attacker, who perturbs 200 examples of fashion_mnist_mini in 250 steps. Both get the
same weights, examples, target and eps, and match the gradients of all layers; ART takes its examples in batches, ours
takes them at once. Then the same victims meet both: clean models that go on training on 1,000 examples, those 200 among
them.
"""

import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np

from tfshape import attacks, datasets, models, training
from tfshape.benchmarks import shaping

SCHEMA = 1
NEEDS = ("torch", "adversarial-robustness-toolbox")
STEPS, POISONS, EPS = 250, 200, 32 / 255
BATCH_SIZE = 128  # of ART, its default; all poisons at once take it as long and match no better
VICTIMS, FINETUNE_EXAMPLES = 3, 1000
RECIPE = training.Recipe("adam", 1e-3, batch_size=128, epochs=20)


def rows(art_python=None, trials=3, save=lambda rows: None):
    """Crafts for `trials` targets with each tool in turn.

    Args:
      art_python: an interpreter that has torch and ART, or None: ours alone.
      trials: targets, >= 1.
      save: function of all rows so far, called after each trial.
    Returns:
      A list of dicts: schema, trial, tool, seconds (of crafting; the first of ours includes tracing), ratio (to ours in
      the same trial), matching_loss (1 - cos, all layers, all poisons at once; `untouched` is that of the clean
      examples), successes, victims.
    """
    dataset = datasets.load("fashion_mnist_mini")
    clean = models.build("small_cnn", dataset.input_shape, dataset.num_classes, seed=0)
    training.fit(clean, dataset.train.as_dataset(), training.Recipe("adam", 1e-3, batch_size=128, epochs=10), 0)
    attack = attacks.GradientMatching(
        steps=STEPS, ensemble=1, checkpoints=1, surrogates_per_step=1, retrain=0, layers="all"
    )
    logits = models.predict(clean, dataset.test.x)[None]
    found = []
    for trial in range(trials):
        target = attacks.choose_target("runner_up", dataset, trial, logits)
        problem = attacks.Problem(
            dataset,
            "small_cnn",
            RECIPE,
            POISONS,
            seed=trial,
            eps=EPS,
            targets=(target,),
            initial_model=clean,
            scenario="finetune",
            finetune_indices=_finetune_indices(dataset.train.y, target.intended_label, trial),
        )
        start = time.perf_counter()
        poisons = attack.craft(problem)
        seconds = time.perf_counter() - start
        x_clean = dataset.train.x[poisons.base]
        crafted = {"tfshape": (poisons.x, seconds), "untouched": (x_clean, None)}
        if art_python:
            crafted["ART"] = _art(art_python, problem, poisons.base, clean)
        for tool, (x, spent) in crafted.items():
            np.testing.assert_array_less(np.abs(x - x_clean), EPS + 1e-6)
            found.append(
                {
                    "schema": SCHEMA,
                    "trial": trial,
                    "tool": tool,
                    "seconds": spent,
                    "ratio": None if spent is None else spent / seconds,
                    "matching_loss": _loss(clean, problem, x, poisons.y),
                    "successes": _successes(problem, clean, poisons.base, x),
                    "victims": VICTIMS,
                }
            )
        save(found)
    return found


def table(found):
    """The rows as text to read: medians over the trials."""
    lines = [f"{'tool':<24}{'seconds':>9}{'x ours':>8}{'matching loss':>15}{'victims misled':>16}"]
    for tool in dict.fromkeys(row["tool"] for row in found):
        mine = [row for row in found if row["tool"] == tool]
        loss = statistics.median(row["matching_loss"] for row in mine)
        misled = f"{sum(row['successes'] for row in mine)}/{sum(row['victims'] for row in mine)}"
        if mine[0]["seconds"] is None:
            times = f"{'-':>9}{'-':>8}"
        else:
            seconds, ratio = (statistics.median(row[name] for row in mine) for name in ("seconds", "ratio"))
            times = f"{seconds:>9.2f}{ratio:>8.1f}"
        lines.append(f"{tool:<24}{times}{loss:>15.3f}{misled:>16}")
    trials = len({row["trial"] for row in found})
    return "\n".join([f"{POISONS} poisons, {STEPS} steps, small_cnn; medians of {trials} targets", *lines])


def _finetune_indices(labels, intended, seed):
    """As many training examples of the intended class as there is poison, and random ones of the others."""
    order = np.random.default_rng(seed).permutation(len(labels))
    of_class = labels[order] == intended
    return np.sort(np.r_[order[of_class][:POISONS], order[~of_class][: FINETUNE_EXAMPLES - POISONS]])


def _art(python, problem, bases, model):
    """Poison x [K, ...] of ART, and the seconds it took."""
    dataset = problem.dataset
    worker = pathlib.Path(__file__).with_name("workers") / "art_worker.py"
    with tempfile.TemporaryDirectory() as folder:
        given, result = os.path.join(folder, "problem.npz"), os.path.join(folder, "result.npz")
        weights = {f"weight_{k}": weight for k, weight in enumerate(model.get_weights())}
        np.savez(
            given,
            x=dataset.train.x[bases],
            y=dataset.train.y[bases],
            target_x=problem.target_x(),
            intended=problem.intended_label(),
            eps=EPS,
            steps=STEPS,
            batch_size=BATCH_SIZE,
            seed=problem.seed,
            **weights,
        )
        subprocess.run([python, str(worker), given, result], check=True, env=shaping.environment(False))
        with np.load(result, allow_pickle=False) as arrays:
            return arrays["x"], float(arrays["seconds"])


def _loss(model, problem, x, y):
    """The matching loss of poison on the model that both attacked, without augmentation."""
    variables = model.trainable_variables
    matching = attacks.gradient_matching
    target = matching.loss_gradient(model, variables, problem.target_x(), [problem.intended_label()])
    return float(matching.matching_loss(matching.loss_gradient(model, variables, x, y), target))


def _successes(problem, clean, bases, x):
    """How many of the victims give the target its intended label."""
    data = attacks.training_set(problem, bases, x).as_dataset()
    hits = 0
    for seed in range(VICTIMS):
        victim = training.starting_model("finetune", "small_cnn", problem.dataset, seed, clean.get_weights())
        training.fit(victim, data, RECIPE, 1000 * problem.seed + seed)
        hits += int(models.predict(victim, problem.target_x())[0].argmax() == problem.intended_label())
    return hits
