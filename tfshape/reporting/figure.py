"""One figure for one experiment."""

import pathlib

import numpy as np
import pandas as pd


def draw(directory):
    """Draws `figure.png` from the `results.csv` of a directory.

    Left: the attack success rate of targeted attacks, or the test accuracy of others, with and without the attack.
    Right: what the defense costs, test accuracy with and without the attack. Bars carry 95% intervals.

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
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    for axes, (column, title) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        _bars(axes, frame, column)
        axes.set_title(title)
    first = frame.iloc[0]
    figure.suptitle(
        f"{first['attack']} on {first['dataset']}, {first['model']}, {first['scenario']}: "
        f"{first['num_poisons']} of {first['num_examples']} poisoned, {first['trials']} trials",
        fontsize=9,
    )
    path = directory / "figure.png"
    figure.savefig(path, dpi=150)
    return path


def _bars(axes, frame, column):
    places = np.arange(len(frame))
    for shift, prefix, label, colour, hatch in (
        (-0.2, "", "attacked", "0.35", ""),
        (0.2, "control_", "control", "0.8", "//"),
    ):
        values, low, high = (frame[f"{prefix}{column}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        if np.isnan(values).all():
            continue
        spread = np.nan_to_num(np.stack([values - low, high - values])).clip(0)
        axes.bar(places + shift, values, 0.38, label=label, color=colour, hatch=hatch, edgecolor="black", linewidth=0.6)
        axes.errorbar(places + shift, values, spread, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    axes.set_xticks(places, ["undefended" if name == "none" else name.replace("|", "\n") for name in frame["defense"]])
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8)
