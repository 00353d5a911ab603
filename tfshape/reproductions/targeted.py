"""One poison and many (Hong et al. 2020, arXiv 2002.11497, sections 6.3 and 6.4), tried again: see `ABOUT`."""

from __future__ import annotations

import pathlib
from typing import Any

import pandas as pd

from tfshape import studies
from tfshape.evaluation import Experiment
from tfshape.evaluation.results import in_words
from tfshape.reproductions.markdown import markdown

_ALIKE = {
    **{"attack": "feature_collision(ensemble=2)", "model": "mlp", "scenario": "transfer", "knowledge": "white_box"},
    **{"eps": 0.25, "target_rule": "runner_up"},
}
# as configs/targeted/feature_collision.flags and feature_collision_cost.flags, without the adaptive attacker
SETTINGS: dict[str, dict[str, Any]] = {
    "one poison in 200": {
        **{**_ALIKE, "num_poisons": 1, "defense": "clip(0.1),clip(1),clip(0.1)|noise(0.1),clip(1)|noise(1)"},
        **{"finetune_examples": 200, "finetune_learning_rate": 0.01, "finetune_batch_size": 32, "finetune_epochs": 100},
    },
    "1 to 100 poisons in 1,000": {
        **{**_ALIKE, "num_poisons": (1, 2, 5, 10, 25, 50, 100), "defense": "clip(0.1),clip(1)|noise(1)"},
        **{"finetune_examples": 1000, "finetune_learning_rate": 0.05, "finetune_batch_size": 100},
        "finetune_epochs": 40,
    },
}
ABOUT = (
    "Feature collision (Shafahi et al. 2018), the paper's attack, with one poison and with several; white box; the\n"
    "victim keeps a trained mlp's features and trains a new last layer. Every target has poison and victims of its\n"
    "own; controls are the same trainings on the unperturbed base images. Brackets are 95% intervals."
)
WHY = (
    "Theirs is of Purchase-100 and CIFAR-10, 100 targets, victims that train on from a clean model: data and models\n"
    "that are not at hand, so no number of theirs stands beside ours, only what they say of them."
)


def study(folder, dataset="fashion_mnist_mini", data_dir=None, trials=20):
    """The `Study`: a point a setting, `trials` targets each.

    Raises:
        ValueError: a value that is not allowed, or data that cannot be had.
    """
    alike = {"dataset": dataset, "data_dir": data_dir, "trials": trials}
    points = [({"setting": title}, Experiment(**alike, **options)) for title, options in SETTINGS.items()]
    return studies.experiments(folder, points)


def report(folder):
    """A study of these settings as Markdown: success rates, and the least number of poisons that succeeds."""
    rows = pd.read_csv(pathlib.Path(folder) / "results.csv")
    path = pathlib.Path(folder) / "costs.csv"
    costs = pd.read_csv(path, keep_default_na=False)
    parts = [ABOUT]
    for title, part in rows.groupby("grid.setting", sort=False):
        parts.append(f"{title}:\n\n{markdown(_rates(part))}")
    if len(costs):
        shown = in_words(costs).drop(columns="attacker")
        parts.append(f"The least number of poisons that succeeds, median over targets:\n\n{markdown(shown)}")
    return "\n\n".join([*parts, _claims(rows, costs), WHY])


def _rates(part):
    if part["num_poisons"].nunique() == 1:
        return pd.DataFrame(
            {
                "defense": part["defense"],
                "test accuracy": part["accuracy"].map("{:.3f}".format),
                "without attack": part["control_accuracy"].map("{:.3f}".format),
                "attack success": [_share(row, "") for _, row in part.iterrows()],
                "control": [_share(row, "control_") for _, row in part.iterrows()],
            }
        )
    cells = [f"{row.successes:.0f} ({row.control_successes:.0f})" for row in part.itertuples()]
    table = part.assign(cell=cells).pivot(index="defense", columns="num_poisons", values="cell")
    table = table.loc[part["defense"].drop_duplicates()].reset_index()
    return table.rename(columns={"defense": f"defense: successes of {part['trials'].max()} (controls)"})


def _share(row, prefix):
    low, high, wins, trials = (row[prefix + name] for name in ("asr_low", "asr_high", "successes", "trials"))
    return f"{wins:.0f}/{trials:.0f} [{low:.2f}, {high:.2f}]"


def _claims(rows, costs):
    """The paper's two claims, each beside what came out."""
    one = rows[rows["num_poisons"] == 1].groupby("grid.setting", sort=False).get_group(next(iter(SETTINGS)))
    rates = one.set_index("defense")["asr"]
    noisy = rates.iloc[-1]
    medians = costs.set_index("defense")["median_cost"]
    shown = pd.DataFrame(
        {
            "they say": ["mitigates one-shot attacks", "increases the adversary's cost with several poisons"],
            "ours": [
                f"{rates['none']:.2f} undefended, {noisy:.2f} under {rates.index[-1]}",
                f"{medians['none']:g} undefended, {medians.iloc[-1]:g} under {medians.index[-1]}",
            ],
            "agrees": [
                "yes" if noisy < one["asr_low"].iloc[0] else "**no**",
                "yes" if medians.iloc[-1] > medians["none"] else "**no**",
            ],
        }
    )
    return f"What they say of DP-SGD, and what came out:\n\n{markdown(shown)}"
