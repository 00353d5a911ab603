"""The rows of the shaping suite as a table and a figure."""

import io

from tfshape.benchmarks.shaping import LABELS

_PLAIN = {"sgd", "torch_sgd", "jax_sgd", "jax_keras_sgd"}
_MARKERS = dict(zip(LABELS, "sovDP*x^<1+hd"))


def table(rows):
    """The rows as text to read: medians with quartiles in brackets, and what did not finish in words."""
    import pandas as pd

    def span(row, name, form):
        if row[name] is None:
            return "-"
        return f"{row[name]:{form}} [{row[name + '_low']:{form}}, {row[name + '_high']:{form}}]"

    shown = [
        {
            "model": row["model"],
            "batch": row["batch_size"],
            "variant": LABELS[row["variant"]],
            "ms a step": span(row, "milliseconds", ".2f") if row["status"] == "ok" else row["status"],
            "us an example": "-" if row["milliseconds"] is None else f"{row['microseconds_per_example']:.1f}",
            "x plain": span(row, "ratio", ".2f"),
            "peak MB": "-" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}",
            "x plain ": "-" if row["memory_ratio"] is None else f"{row['memory_ratio']:.2f}",
            "training MB": "-" if row["training_mb"] is None else f"{row['training_mb']:.0f}",
            "remark": row["detail"],
        }
        for row in rows
    ]
    out = io.StringIO()
    pd.DataFrame(shown).to_string(out, index=False)
    return out.getvalue()


def draw(rows, path):
    """Draws step time above and peak memory below, against the batch size, a column for each model.

    Readable without colour: plain SGD is dashed, tfshape thick and black, every variant has a marker of its own.
    """
    from matplotlib.backends import backend_agg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    models = list(dict.fromkeys(row["model"] for row in rows))
    width = max(6, 3.2 * len(models))
    figure = Figure(figsize=(width, 7.5), layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(models), squeeze=False)
    for column, model in enumerate(models):
        mine = [row for row in rows if row["model"] == model and row["status"] == "ok"]
        for top, name, label in ((True, "milliseconds", "ms a step"), (False, "peak_mb", "peak memory, MB")):
            panel = axes[0 if top else 1][column]
            for variant in dict.fromkeys(row["variant"] for row in mine):
                _line(panel, [row for row in mine if row["variant"] == variant], name)
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            sizes = sorted({row["batch_size"] for row in rows})
            panel.set_xticks(sizes, [str(size) for size in sizes])
            panel.minorticks_off()
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter("{x:g}")
            panel.grid(True, color="0.9")
            if not column:
                panel.set_ylabel(label)
        axes[0][column].set_title(model)
        axes[1][column].set_xlabel("batch size")
    found = dict(zip(*reversed(_handles(axes))))
    figure.legend(
        found.values(), found.keys(), loc="outside lower center", ncols=min(int(width // 2.8), len(found)), fontsize=8
    )
    figure.savefig(path, dpi=150)


def _handles(axes):
    pairs = [panel.get_legend_handles_labels() for panel in axes[0]]
    return [handle for handles, _ in pairs for handle in handles], [label for _, labels in pairs for label in labels]


def _line(panel, rows, name):
    variant = rows[0]["variant"]
    ours, plain = variant == "tfshape", variant in _PLAIN
    values = [row[name] for row in rows]
    spread = None
    if f"{name}_low" in rows[0]:
        spread = [[row[name] - row[f"{name}_low"] for row in rows], [row[f"{name}_high"] - row[name] for row in rows]]
    panel.errorbar(
        [row["batch_size"] for row in rows],
        values,
        spread,
        label=LABELS[variant],
        color="black" if ours or plain else "0.45",
        linestyle="--" if plain else "-",
        linewidth=2.5 if ours else 1,
        zorder=3 if ours else 2,
        marker=_MARKERS[variant],
        markerfacecolor="black" if ours else "white",
        capsize=2,
    )
