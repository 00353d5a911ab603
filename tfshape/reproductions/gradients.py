"""The gradient analyses of Hong et al. 2020 (arXiv 2002.11497, sections 3 and 4), made again: see `ABOUT`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from tfshape import strict_json, studies
from tfshape.evaluation import Experiment
from tfshape.evaluation.watching import watch
from tfshape.reproductions.markdown import markdown

FUNCTION = "tfshape.reproductions.gradients:run"
DEFENSES = ("none", "clip(0.1)", "clip(1.0)", "clip(4.0)")
_LR = {"classes": (3, 4), "model": "lr", "learning_rate": 0.01, "batch_size": 300, "epochs": 10}
_MLP = {"model": "mlp", "scenario": "finetune", "batch_size": 100, "finetune_epochs": 4}
# title: (attack with its intensity left open, its values, the experiment, examples a look takes)
ANALYSES: dict[str, tuple[str, tuple[float, ...], dict[str, Any], int | None]] = {
    "collision, lr from scratch": (
        "interpolation(base_class=0, other_class=1, alpha={})",
        (0.0, 0.4, 1.0),
        {**_LR, "num_poisons": 100},
        None,
    ),
    "collision, mlp trained on": (
        "interpolation(base_class=3, other_class=4, alpha={})",
        (0.0, 0.4, 1.0),
        {**_MLP, "num_poisons": 100},
        30000,
    ),
    "insertion, lr from scratch": ("feature_insertion(size={})", (1, 4, 14), {**_LR, "budget": 0.01}, None),
    "insertion, mlp trained on": (
        "feature_insertion(target_class=4, size={})",
        (1, 4, 14),
        {**_MLP, "budget": 0.01},
        6000,
    ),
}
PUBLISHED = {  # (title, intensity): mean magnitude ratio and cosine over as many first epochs; results/analysis
    ("collision, lr from scratch", 0.4): (108.8, -0.933),
    ("collision, lr from scratch", 1.0): (106.8, -0.983),
    ("collision, mlp trained on", 0.4): (245.7, -0.300),
    ("collision, mlp trained on", 1.0): (341.5, -0.720),
    ("insertion, mlp trained on", 1): (98.5, -0.957),
    ("insertion, mlp trained on", 4): (53.2, -0.545),
    ("insertion, mlp trained on", 14): (0.451, -0.390),
}
ABOUT = (
    "Feature collision: 100 images of one class mixed with alpha of another's; alpha 0, plain copies, is the\n"
    "control. Feature insertion: 1% of the images with a white patch of so many pixels a side and another label.\n"
    "Logistic regression on FashionMNIST-3/4 from scratch, ten epochs; an mlp on all ten classes, trained clean and\n"
    "then on for four. *Ratio*: norm of the mean poison gradient over that of the mean clean gradient, at the end of\n"
    "every epoch, the mean over epochs; *> 1*: in how many epochs it is; *control*: the same of as many random clean\n"
    "examples. *Cosine*: between these two means. Under a clip both are of clipped gradients."
)
NIL = 0.05  # a cosine nearer to 0 has no sign
WHY = (
    "Theirs: the mean over an epoch of the gradients of minibatches, while the weights move; ours: of all examples\n"
    "looked at, at the weights that an epoch ends with. There control cosines are about 0: even two sets of clean\n"
    "examples have no direction in common, so that a cosine to their mean says little, for the mlp most of all.\n"
    "Recipes, mlps and the images that are mixed differ too. So only signs are compared: a ratio above 1 or below, a\n"
    f"cosine below 0 or above, or neither if it is within {NIL}."
)


def study(folder, dataset="fashion_mnist", data_dir=None, trials=1):
    """The `Study` of the analyses: a point an analysis, intensity and defense; each of `trials` has a seed of its own.

    Raises:
        ValueError: data that cannot be had.
    """
    points = []
    for title, (attack, values, options, examples) in ANALYSES.items():
        for value in values:
            for defense in DEFENSES:
                e = Experiment(
                    attack=attack.format(value), dataset=dataset, data_dir=data_dir, defense=defense, **options
                )
                config = {"experiment": e.of_a_trial(), "examples": examples, "defense": defense}
                axes = {"analysis": title, "intensity": value, "defense": defense}
                data = (studies.study.fingerprint_of(e.dataset, e.data_dir, e.classes),) * trials
                points.append(studies.Point(config, trials, axes, data, options.get("scenario")))
    return studies.Study(folder, tuple(points), FUNCTION)


def run(config, trial, folder):
    """Trains one victim and returns what its gradients were like at the end of every epoch. See `Study.function`."""
    plan, data = studies.trial.plan_of(config["experiment"])
    setting = dataclasses.replace(plan.settings[0], trial=trial)
    weights = studies.trial.initial_weights(setting, data, studies.cache.Cache(f"{folder}/cache"))
    setting = dataclasses.replace(setting, initial_weights=weights)
    poisons, _ = setting.craft(plan.counts[0])
    examples = config["examples"]
    examples = examples and min(examples, len(setting.rows))
    return {"epochs": watch(setting, plan.defenses[config["defense"]], poisons, examples=examples).to_dict("list")}


def read(folder):
    """What a study of the analyses has found so far: pandas.DataFrame, a row an epoch of a training."""
    with studies.Store(folder) as store:
        axes = {row["point"]: strict_json.loads(row["grid"]) for row in store.points()}
        frames = [
            pd.DataFrame(result["epochs"]).assign(**axes[point], trial=trial)
            for point, trial, result in store.results()
        ]
    return pd.concat(frames, ignore_index=True)


def summarise(epochs):
    """One row a training, or all trials of one: pandas.DataFrame of means over epochs, and what was published."""
    rows = []
    for (title, value, defense), part in epochs[epochs["epoch"] > 0].groupby(
        ["analysis", "intensity", "defense"], sort=False
    ):
        prefix = "" if defense == "none" else "shaped_"
        row = {"analysis": title, "intensity": value, "defense": defense, "epochs": len(part)}
        row["larger"] = int((part[f"{prefix}magnitude_ratio"] > 1).sum())
        names = ("magnitude_ratio", "control_ratio", "cosine", "control_cosine")
        row.update({name: float(part[prefix + name].mean()) for name in names})
        published = PUBLISHED.get((title, value)) if defense == "none" else None
        row["published_ratio"], row["published_cosine"] = published or (np.nan, np.nan)
        rows.append(row)
    return pd.DataFrame(rows)


def report(folder):
    """A study of the analyses as Markdown: the published numbers beside ours, and every training."""
    rows = summarise(read(folder))
    return "\n\n".join(
        [
            ABOUT,
            f"Beside the published numbers, undefended:\n\n{markdown(_beside(rows))}\n\n{WHY}",
            *(f"{title}:\n\n{markdown(_table(part))}" for title, part in rows.groupby("analysis", sort=False)),
            _findings(rows),
        ]
    )


def _beside(rows):
    rows = rows[rows["published_ratio"].notna()]
    signs = [(rows["magnitude_ratio"] > 1) == (rows["published_ratio"] > 1)]
    seen = rows["cosine"].where(rows["cosine"].abs() >= NIL, 0.0)
    signs.append(np.sign(seen) == np.sign(rows["published_cosine"]))
    return pd.DataFrame(
        {
            "analysis": rows["analysis"],
            "intensity": rows["intensity"].map("{:g}".format),
            "ratio, published": rows["published_ratio"].map("{:.3g}".format),
            "ratio, ours": rows["magnitude_ratio"].map("{:.3g}".format),
            "cosine, published": rows["published_cosine"].map("{:+.2f}".format),
            "cosine, ours": rows["cosine"].map("{:+.2f}".format),
            "same signs": np.where(signs[0] & signs[1], "yes", "**no**"),
        }
    )


def _table(part):
    return pd.DataFrame(
        {
            "intensity": part["intensity"].map("{:g}".format),
            "defense": part["defense"],
            "> 1": [f"{row.larger}/{row.epochs}" for row in part.itertuples()],
            "ratio": part["magnitude_ratio"].map("{:.3g}".format),
            "control ratio": part["control_ratio"].map("{:.3g}".format),
            "cosine": part["cosine"].map("{:+.2f}".format),
            "control cosine": part["control_cosine"].map("{:+.2f}".format),
        }
    )


def _findings(rows):
    """The paper's three qualitative findings, counted."""
    poisoned = rows[~((rows["intensity"] == 0) & rows["analysis"].str.startswith("collision"))]
    bare = poisoned[poisoned["defense"] == "none"]
    most = (bare["larger"] > bare["epochs"] / 2).sum()
    lower = [
        part.sort_values("intensity")["cosine"].is_monotonic_decreasing
        for _, part in bare.groupby("analysis", sort=False)
    ]
    closer = total = 0
    for _, part in poisoned.groupby(["analysis", "intensity"], sort=False):
        gaps = {row.defense: abs(np.log(row.magnitude_ratio / row.control_ratio)) for row in part.itertuples()}
        closer += sum(gaps[name] < gaps["none"] for name in gaps if name != "none")
        total += len(gaps) - 1
    return (
        "The paper's findings, counted:\n\n"
        f"- Poison gradients larger than clean ones in most epochs, undefended: {most} of {len(bare)} trainings.\n"
        f"- A lower cosine the stronger the mixture or the larger the patch, undefended: {sum(lower)} of {len(lower)} "
        "analyses.\n"
        f"- The magnitude ratio closer to that of clean examples under a clip: {closer} of {total} trainings."
    )
