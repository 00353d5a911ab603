"""Tables to show: cells with what to read, what to sort by, and perhaps an interval to draw."""

from __future__ import annotations

import dataclasses
import math

import pandas as pd

from tfshape.evaluation import columns


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
    found = columns.shown(frame, columns.REPORT)
    cells = [[_cell(column, *one) for one in zip(frame.to_dict("records"), texts)] for column, texts in found]
    numbers = [Cell(str(number), number) for number in range(1, len(frame) + 1)]
    commands = tuple(frame["command"]) if "command" in frame else ()
    return Table(("#", *(column.title for column, _ in found)), tuple(zip(numbers, *cells)), commands)


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
    grid = [name for name in frame.columns if name.startswith("grid.") and name[5:] not in ("num_poisons", "budget")]
    fixed = [*columns.VARYING, *grid, "defense"]
    apart = [*columns.VARYING, *(f"grid.{name}" for name in columns.axes(frame))]
    varied = [name for name in apart if frame[name].nunique() > 1]
    found = []
    for _, rows in frame[frame["asr"].notna()].groupby(fixed, sort=False, dropna=False):
        rows = rows.drop_duplicates("num_poisons").sort_values("num_poisons")
        if len(rows) > 1:
            first = rows.iloc[0]
            words = [defense(first["defense"]), *(f"{name.replace('grid.', '')} {first[name]}" for name in varied)]
            found.append((", ".join(words), rows))
    return found


def axes(frame: pd.DataFrame) -> list[str]:
    """The columns grid.NAME by which points differ, but for those that the number of poisons and the defense show."""
    names = [name for name in frame.columns if name.startswith("grid.") and name[5:] not in columns.OF_ROW]
    return [name for name in names if frame[name].nunique() > 1]


def artifacts(frame, summary):
    """The `Table` of what poison does to gradients, a row a poison and epoch; None if that was not looked at."""
    if frame.empty or "epoch" not in frame:
        return None
    points, varied, rows = summary.drop_duplicates("point").set_index("point"), axes(summary), []
    for row in frame.drop_duplicates(["file", "epoch"]).itertuples():
        adapted = row.adapted if isinstance(row.adapted, str) else ""
        words = [
            *(_plain(points[name][row.point]) for name in varied),
            Cell(f"{row.count:,}", row.count),
            Cell(adapted),
            _number(row.epoch, "{:d}"),
        ]
        numbers = (row.norm_ratio, row.magnitude_ratio, row.cosine, row.share)
        rows.append((*words, *(_number(number, "{:.3f}") for number in numbers)))
    names = (
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
    return "∞" if math.isinf(value) else columns.epsilon(value)


def _without_blanks(table):
    kept = [i for i in range(len(table.columns)) if any(row[i].text for row in table.rows)]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return Table(tuple(table.columns[i] for i in kept), rows, table.commands)


def _plain(value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell("")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Cell(columns.plain(value), float(value) if number else None)


def _number(value, form):
    return Cell("") if pd.isna(value) else Cell(form.format(value), float(value))


def _cell(column, row, text):
    """A cell of a results.csv; that of a share with an interval has that to draw."""
    value, *ends = (row[name] for name in column.names)
    if not text or not isinstance(value, (int, float)) or isinstance(value, bool):
        return Cell(defense(value) if column.name == "defense" else text)
    span = None
    if ends and column.kind == "shares":
        low, high = (value, value) if math.isnan(ends[0]) else (max(ends[0], 0.0), min(ends[1], 1.0))
        span = low, value, high
    return Cell(epsilon(value) if column.kind == "epsilon" else text, value, span)
