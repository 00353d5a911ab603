"""The figures of a study, readable in grey."""

from __future__ import annotations

import numpy as np

STYLES = ("-", "--", "-.", ":")


def slug(title):
    """The title of a training as part of a file name."""
    return "-".join("".join(c if c.isalnum() or c in ".-" else " " for c in title).split())


def draw(folder, table, norms):
    """Draws artifacts.png, norms.png and layers.png into `folder`.

    Args:
        folder: a `pathlib.Path`; it holds artifacts-SLUG.csv of every training, see `slug`.
        table: a pandas.DataFrame, a row a training and epoch: study, defense, epoch, and the numbers of the history.
        norms: dict of (study, defense) to a dict of moment to `GradientArtifacts.norms`.
    """
    _curves(folder / "artifacts.png", table)
    _histograms(folder / "norms.png", norms)
    _layers(folder, norms)


def _new(rows, columns, width, height):
    from matplotlib.backends import backend_agg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _grey(index, count):
    return str(0.0 if count < 2 else 0.65 * index / (count - 1))


def _curves(path, table):
    """Magnitude ratio above and cosine below against epochs; a column a defense and view, a line a study."""
    panels = [
        (defense, prefix)
        for defense, part in table.groupby("defense", sort=False)
        for prefix in ("", "shaped_")
        if f"{prefix}cosine" in part and part[f"{prefix}cosine"].notna().any() and (prefix or defense == "none")
    ]
    figure, axes = _new(2, len(panels), 3.6, 2.9)
    studies = list(dict.fromkeys(table["study"]))
    cosines = [table.loc[table["defense"] == defense, f"{prefix}cosine"].abs().max() for defense, prefix in panels]
    reach = min(1.05, 1.5 * max(cosines))
    for column, (defense, prefix) in enumerate(panels):
        part = table[table["defense"] == defense]
        for index, study in enumerate(studies):
            rows, grey = part[part["study"] == study], _grey(index, len(studies))
            marker = {"marker": "os^vDx<>"[index % 8], "markersize": 4, "markevery": max(1, len(rows) // 8)}
            for row, name in enumerate(("magnitude_ratio", "cosine")):
                axes[row, column].plot(rows["epoch"], rows[prefix + name], color=grey, label=study, **marker)
        for row, name in enumerate(("control_ratio", "control_cosine")):
            mean = part.groupby("epoch")[prefix + name].mean()
            axes[row, column].plot(mean.index, mean, ":", color="black", linewidth=2, label="as many clean examples")
        axes[0, column].axhline(1, color="0.8", linewidth=1, zorder=0)
        axes[0, column].set_yscale("log")
        axes[1, column].set_ylim(-reach, reach)
        axes[1, column].axhline(0, color="0.8", linewidth=1, zorder=0)
        axes[0, column].set_title("undefended" if defense == "none" else f"after {defense}", fontsize=10)
        axes[1, column].set_xlabel("epoch")
        for axis in axes[:, column]:
            axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("‖mean poison‖ / ‖mean clean‖")
    axes[1, 0].set_ylabel("cosine, mean poison to mean clean")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    limits = [axis.get_ylim() for axis in axes[0]]
    for axis in axes[0]:
        axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    figure.savefig(path, dpi=110)


def _histograms(path, norms):
    """Norms of clean and poison examples after the first and the last epoch; a column a training, before shaping."""
    chosen = [key for key in norms if key[1] == "none"][:4]
    figure, axes = _new(2, len(chosen), 3.4, 2.4)
    for column, key in enumerate(chosen):
        for row, moment in enumerate(("first epoch", "last epoch")):
            axis = axes[row, column]
            if moment not in norms[key]:
                axis.set_axis_off()
                continue
            groups = {name: np.log10(v[np.isfinite(v) & (v > 0)]) for name, v in norms[key][moment]["raw"].items()}
            both = np.concatenate(list(groups.values()))
            bins = np.linspace(both.min(), both.max() + 1e-9, 30)
            for name, color, style in (("clean", "0.75", "stepfilled"), ("poison", "black", "step")):
                weights = np.full(len(groups[name]), 1 / max(len(groups[name]), 1))
                axis.hist(groups[name], bins, weights=weights, color=color, histtype=style, label=name)
            axis.set_title(f"{key[0]}, {moment}", fontsize=9)
            axis.set_xlabel("log10 of gradient norm" if row else "")
            axis.set_ylabel("share of the group" if not column else "")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _layers(folder, norms):
    """A heat map a training: magnitude ratio and cosine of every layer against epochs, before shaping."""
    import pandas as pd

    chosen = [key for key in norms if key[1] == "none"][:4]
    frames = [pd.read_csv(folder / f"artifacts-{slug(', '.join(key))}.csv") for key in chosen]
    figure, axes = _new(2, len(chosen), 3.6, 2.2)
    for row, (name, label) in enumerate((("magnitude_ratio", "log10 magnitude ratio"), ("cosine", "cosine"))):
        grids = [
            frame[frame["view"] == "raw"].pivot_table(index="layer", columns="epoch", values=name, sort=False)
            for frame in frames
        ]
        values = [grid.to_numpy() if row else np.log10(grid.to_numpy()) for grid in grids]
        limit = max(np.nanmax(np.abs(part)) for part in values)
        for column, (key, grid) in enumerate(zip(chosen, grids)):
            edges = (grid.columns[0] - 0.5, grid.columns[-1] + 0.5, len(grid) - 0.5, -0.5)
            options = {"aspect": "auto", "cmap": "gray", "interpolation": "nearest", "extent": edges}
            image = axes[row, column].imshow(values[column], vmin=-limit, vmax=limit, **options)
            axes[row, column].set_yticks(range(len(grid)), grid.index)
            axes[row, column].set_title(key[0] if not row else "", fontsize=9)
            axes[row, column].set_xlabel("epoch" if row else "")
            axes[row, column].xaxis.get_major_locator().set_params(integer=True)
            axes[row, column].set_ylabel("layer" if not column else "")
        figure.colorbar(image, ax=list(axes[row]), label=label)
    figure.savefig(folder / "layers.png", dpi=110)
