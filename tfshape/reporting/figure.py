"""One figure for one experiment."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pandas as pd

from tfshape import evaluation


def draw(directory: str | os.PathLike) -> pathlib.Path:
    """Draws `figure.png` from the results in a directory.

    Left: the attack success rate of targeted attacks and backdoors with and without the attack. Next: what the defense
    costs, test accuracy with and without the attack. Right: the defenses beside undefended training that is stopped
    early, the line: a defense below the line lowers success beyond what its accuracy explains. Bars, whiskers and the
    band are 95% intervals.

    Args:
        directory: what `bin/evaluate --output_dir` wrote.

    Returns:
        The path of the figure.
    """
    from matplotlib.backends import backend_agg
    from matplotlib.figure import Figure

    directory = pathlib.Path(directory)
    frame = pd.read_csv(directory / "results.csv")
    panels = [("accuracy", "test accuracy")]
    if frame["asr"].notna().any():
        panels.insert(0, ("asr", "attack success rate"))
    bars = frame["num_poisons"].nunique() == 1
    curve = evaluation.Results.load(directory).curve()
    width, count = max(4.2, 0.95 * len(frame)) if bars else 4.2, len(panels) + (not curve.empty)
    figure = Figure(figsize=(width * count, 3.8), layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    places = figure.subplots(1, count, squeeze=False)[0]
    for axes, (column, title) in zip(places, panels):
        (_bars if bars else _curves)(axes, frame, column)
        axes.set_title(title)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    if not curve.empty:
        _frontier(places[-1], frame[frame["num_poisons"] == frame["num_poisons"].max()], curve)
    first = frame.iloc[0]
    figure.suptitle(
        f"{first['attack']} on {first['dataset']}, {first['model']}, {first['scenario']}: "
        f"{', '.join(map(str, frame['num_poisons'].unique()))} of {first['num_examples']} poisoned, "
        f"{first['trials']} trials",
        fontsize=9,
    )
    path = directory / "figure.png"
    figure.savefig(path, dpi=150)
    return path


def _bars(axes, frame, column):
    places = np.arange(len(frame))
    adaptive = frame[f"adaptive_{column}"].notna().any()
    width = 0.26 if adaptive else 0.38
    for shift, prefix, label, colour, hatch in (
        (-0.2, "", "attacked", "0.35", ""),
        (0.2, "control_", "control", "0.8", "//"),
        (0.0, "adaptive_", "adaptive", "0.6", "xx"),
    ):
        values, low, high = (frame[f"{prefix}{column}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        if np.isnan(values).all():
            continue
        spread = np.nan_to_num(np.stack([values - low, high - values])).clip(0)
        shift *= 1.35 if adaptive else 1
        axes.bar(
            places + shift, values, width, label=label, color=colour, hatch=hatch, edgecolor="black", linewidth=0.6
        )
        axes.errorbar(places + shift, values, spread, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    axes.set_xticks(places, ["undefended" if name == "none" else name.replace("|", "\n") for name in frame["defense"]])
    axes.set_ylim(0, 1)


def _frontier(axes, frame, curve):
    """Success against accuracy: the line of stopping undefended training early, and the defenses."""
    x, y = ("accuracy", "asr") if frame["asr"].notna().any() else ("control_accuracy", "accuracy_loss")
    axes.fill_between(curve["accuracy"], curve["success_low"], curve["success_high"], color="0.88", linewidth=0)
    axes.plot(curve["accuracy"], curve["success"], "-", color="0.35", marker=".", label="undefended, stopped early")
    for index, (_, row) in enumerate(frame[frame["defense"] != "none"].iterrows()):
        spread = [[[row[name] - row[f"{name}_low"]], [row[f"{name}_high"] - row[name]]] for name in (x, y)]
        across, up = (np.nan_to_num(found).clip(0) for found in spread)
        style = {"fmt": "os^vDx"[index % 6], "color": "black", "capsize": 3, "elinewidth": 1, "mfc": "white"}
        axes.errorbar(row[x], row[y], up, across, label=row["defense"], **style)
    axes.set_xlabel("test accuracy" if x == "accuracy" else "test accuracy without attack")
    axes.set_title("beside stopping early: " + ("success" if y == "asr" else "accuracy lost"))
    axes.legend(fontsize=7, loc="upper left")


def _curves(axes, frame, column):
    """Against the number of poisons, a line a defense: attacked, dashed by an adaptive attacker, dotted the control."""
    kinds = (("", "-", ""), ("adaptive_", "--", ", adaptive"), ("control_", ":", ", control"))
    for index, (defense, rows) in enumerate(frame.groupby("defense", sort=False)):
        for prefix, style, words in kinds:
            values, low, high = (rows[f"{prefix}{column}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
            if np.isnan(values).all():
                continue
            name = "undefended" if defense == "none" else defense
            grey = str(min(0.25 * index, 0.6))
            axes.plot(rows["num_poisons"], values, style, marker="os^vDx"[index % 6], color=grey, label=name + words)
            if not prefix:
                axes.fill_between(rows["num_poisons"], low, high, color=grey, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    counts = sorted(frame["num_poisons"].unique())
    axes.minorticks_off()
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel("poisons")
    axes.set_ylim(-0.02, 1.02)
