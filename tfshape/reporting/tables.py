"""Tables to show: cells with what to read, what to sort by, and perhaps an interval to draw."""

from __future__ import annotations

import dataclasses
import math

import pandas as pd

VARYING = ("attack", "dataset", "model", "scenario", "knowledge", "target_rule", "eps", "engine")
# axes of a grid that other columns show
_SHOWN = {*VARYING, "num_poisons", "budget", "clip", "noise", "shaping", "defense", "epsilon"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell: `text`; `value` to sort by, the text if None; `span`, (low, value, high) within 0 and 1 to draw."""

    text: str
    value: float | None = None
    span: tuple | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns (their names), rows (lists of as many `Cell`s), and for each row the command that trains it, or ""."""

    columns: tuple
    rows: tuple
    commands: tuple = ()

    def frame(self):
        """The texts as a pandas.DataFrame."""
        return pd.DataFrame([[cell.text for cell in row] for row in self.rows], columns=self.columns)


def summary(frame):
    """The `Table` of a results.csv: a row a defense of a point, numbered from 1."""
    rows = [row for _, row in frame.iterrows()]
    columns = {"#": [Cell(str(number), number) for number in range(1, len(rows) + 1)]}
    for name in VARYING:
        if frame[name].nunique() > 1:
            columns[name.replace("_", " ")] = [_plain(row[name]) for row in rows]
    for name in frame.columns:
        axis = name.partition("grid.")[2]
        if axis and axis not in _SHOWN:
            columns[axis.replace("_", " ")] = [_plain(row[name]) for row in rows]
    columns["poisons"] = [Cell(f"{row['num_poisons']:,}", row["num_poisons"]) for row in rows]
    columns["defense"] = [Cell(defense(row["defense"])) for row in rows]
    columns["test accuracy"] = [_span(row, "accuracy") for row in rows]
    columns["without attack"] = [_span(row, "control_accuracy") for row in rows]
    if frame["asr"].isna().all():
        columns["worst class"] = [_number(row["worst_class_accuracy"], "{:.3f}") for row in rows]
    columns["attack success rate"] = [_span(row, "asr", "successes", "trials") for row in rows]
    columns["adaptive"] = [_span(row, "adaptive_asr", "adaptive_successes", "trials") for row in rows]
    columns["control"] = [_span(row, "control_asr", "control_successes", "control_trials") for row in rows]
    columns["ceiling"] = [_number(row["ceiling"] if row["epsilon"] < math.inf else math.nan, "{:.3f}") for row in rows]
    columns["epsilon"] = [Cell(epsilon(row["epsilon"]), row["epsilon"]) for row in rows]
    columns["batches drawn by"] = [_plain(row["sampling"]) for row in rows]
    columns["trials"] = [_number(row["trials"], "{:.0f}") for row in rows]
    columns["seconds"] = [_number(row["seconds"], "{:.1f}") for row in rows]
    kept = {name: cells for name, cells in columns.items() if any(cell.text for cell in cells)}
    commands = tuple(frame["command"]) if "command" in frame else ()
    return Table(tuple(kept), tuple(zip(*kept.values())), commands)


def cost(frame: pd.DataFrame) -> Table | None:
    """The `Table` of a costs.csv: the median over targets of the least number of poisons that succeeded; None for an
    empty one."""
    if frame.empty:
        return None
    varied, rows = axes(frame), []
    for row in frame.to_dict("records"):
        median, most = row["median_cost"], row["most"]
        least = Cell(f"{median:g}", median) if median < math.inf else Cell(f"> {most:,}", math.inf)
        withstood = Cell(f"> {most:,} in {row['withstood']} of {row['targets']}", row["withstood"])
        words = [_plain(row[name]) for name in varied]
        rows.append((*words, Cell(defense(row["defense"])), Cell(row["attacker"]), least, withstood))
    names = (*(name[5:].replace("_", " ") for name in varied), "defense", "attacker", "median cost", "withstood")
    return _without_blanks(Table(names, tuple(rows)))


def curves(frame):
    """What varies with the number of poisons alone: list of (words, rows of `frame` in the order of the numbers)."""
    axes = [name for name in frame.columns if name.startswith("grid.") and name[5:] not in ("num_poisons", "budget")]
    fixed = [*VARYING, *axes, "defense"]
    varied = [name for name in fixed[:-1] if frame[name].nunique() > 1 and name[5:] not in _SHOWN]
    found = []
    for _, rows in frame[frame["asr"].notna()].groupby(fixed, sort=False, dropna=False):
        rows = rows.drop_duplicates("num_poisons").sort_values("num_poisons")
        if len(rows) > 1:
            first = rows.iloc[0]
            words = [defense(first["defense"]), *(f"{name.replace('grid.', '')} {first[name]}" for name in varied)]
            found.append((", ".join(words), rows))
    return found


def axes(summary: pd.DataFrame) -> list[str]:
    """The columns grid.NAME of a results.csv by which points differ, but for those that other columns show."""
    names = [name for name in summary.columns if name.startswith("grid.") and name[5:] not in _SHOWN]
    return [name for name in names if summary[name].nunique() > 1]


def artifacts(frame, summary):
    """The `Table` of what poison does to gradients, a row a poison and epoch; None if that was not looked at."""
    if frame.empty or "epoch" not in frame:
        return None
    points, varied, rows = summary.drop_duplicates("point").set_index("point"), axes(summary), []
    attacks = points["attack"]
    several = attacks.nunique() > 1
    for row in frame.drop_duplicates(["file", "epoch"]).itertuples():
        adapted = row.adapted if isinstance(row.adapted, str) else ""
        words = [
            Cell(attacks[row.point] if several else ""),
            *(_plain(points[name][row.point]) for name in varied),
            Cell(f"{row.count:,}", row.count),
            Cell(adapted),
            _number(row.epoch, "{:d}"),
        ]
        numbers = (row.norm_ratio, row.magnitude_ratio, row.cosine, row.share)
        rows.append((*words, *(_number(number, "{:.3f}") for number in numbers)))
    names = (
        "attack",
        *(name[5:].replace("_", " ") for name in varied),
        "poisons",
        "adapted to",
        "after epochs",
        "norm ratio",
        "ratio of means",
        "cosine",
        "share of update",
    )
    return _without_blanks(Table(names, tuple(rows)))


def failures(frame):
    """The `Table` of trials that failed; None if there are none."""
    rows = [(_number(r.point, "{:d}"), _number(r.trial, "{:d}"), Cell(str(r.error))) for r in frame.itertuples()]
    return Table(("point", "trial", "error"), tuple(rows)) if rows else None


def victims(frame):
    """The `Table` of trained models, a row each."""
    names = ["point", "trial", "count", "defense", "data", "accuracy", "success", "true_label", "intended_label"]
    names = [n for n in [*names, "predicted_label", "dropped", "seconds"] if n in frame and frame[n].notna().any()]
    shown = {"count": "poisons", "data": "trained on", "true_label": "class", "intended_label": "wanted"}
    rows = []
    for row in frame.to_dict("records"):
        cells = [_plain(row[name]) for name in names]
        cells[names.index("defense")] = Cell(defense(row["defense"]))
        rows.append(tuple(cells))
    return Table(tuple(shown.get(name, name).replace("_label", "") for name in names), tuple(rows))


def defense(name):
    """How a defense is called: "none" is undefended training."""
    return "undefended" if name == "none" else str(name)


def epsilon(value):
    """Epsilon in words."""
    return "∞" if math.isinf(value) else f"{value:.2f}" if value < 1000 else f"{value:.1e}"


def _without_blanks(table):
    kept = [i for i in range(len(table.columns)) if any(row[i].text for row in table.rows)]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return Table(tuple(table.columns[i] for i in kept), rows, table.commands)


def _plain(value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell("")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return Cell(str(value))
    return Cell(f"{value:.4g}" if isinstance(value, float) and value != int(value) else f"{value:g}", float(value))


def _number(value, form):
    return Cell("") if pd.isna(value) else Cell(form.format(value), float(value))


def _span(row, name, successes=None, trials=None):
    """A share with its 95% interval."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if pd.isna(value):
        return Cell("")
    whole = successes is not None and not pd.isna(row[successes])
    text = f"{row[successes]:.0f}/{row[trials]:.0f}" if whole else f"{value:.3f}"
    if pd.isna(low):
        return Cell(text, value, (value, value, value))
    low, high = max(low, 0.0), min(high, 1.0)
    return Cell(f"{text} [{low:.3f}, {high:.3f}]", value, (low, value, high))
