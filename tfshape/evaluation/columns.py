"""The columns of `results.csv`, each of them one entry of `COLUMNS`: what is printed, reported and documented follows.

To add one, add a `Column`. Its `of` is given a `DefenseRecord`, which holds the victims of the defense and those of
undefended training; `pairs` puts victims of the same trial side by side. `register` adds one from outside this file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from tfshape import checks
from tfshape.evaluation import aggregates
from tfshape.evaluation.records import SCHEMA, DefenseRecord

CONSOLE, REPORT = "console", "report"  # the tables for reading: of bin/evaluate; of bin/sweep and bin/report
# Where a column stands in them, from the left.
THREAT, AXES, ROW, ACCURACY, SUCCESS, DEFENSE, PRIVACY, BATCHES, COST = range(9)


def plain(value: Any) -> str:
    """A value that may be of any type, in words."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.4g}" if isinstance(value, float) and value != int(value) else f"{value:g}"


def epsilon(value: float) -> str:
    """Epsilon in words."""
    return f"{value:.2f}" if value < 1000 or math.isinf(value) else f"{value:.1e}"


def _always(frame: pd.DataFrame) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of `results.csv`.

    Attributes:
        name: its name there.
        meaning: a sentence that says what it holds, for the documentation.
        title: its heading in tables for reading; None: it is in files only.
        kind: what its values are, by which files are checked: "words", "counts" (integers), "shares" (0 to 1),
            "numbers" or "epsilon" (>= 0, in every row).
        place: where it stands in tables for reading, a number from `THREAT` to `COST`.
        of: function of a `DefenseRecord` that gives its value, NaN or None if it does not apply; if `interval`,
            (value, low, high). None: the attribute of that name of the defense's first victim.
        interval: whether NAME_low and NAME_high, the 95% interval, follow.
        form: how a value is put in words: a format specification, or a function.
        out_of: names of the columns (successes, trials) that say it as 7/10 where they are whole numbers.
        tables: the tables for reading that have it, unless all its cells are blank.
        varying: those of them that leave it out if all rows agree, since a caption says it.
        when: function of the `pandas.DataFrame` of results.csv that says of all rows or of each whether it is shown.
    """

    name: str
    meaning: str
    title: str | None = None
    kind: str = "numbers"
    place: int = DEFENSE
    of: Callable[[DefenseRecord], Any] | None = None
    interval: bool = False
    form: str | Callable[[Any], str] = ".3f"
    out_of: tuple[str, str] | None = None
    tables: tuple[str, ...] = (CONSOLE, REPORT)
    varying: tuple[str, ...] = ()
    when: Callable[[pd.DataFrame], Any] = _always

    @property
    def names(self) -> tuple[str, ...]:
        """Its names in `results.csv`: its own and those of the ends of its interval."""
        return (self.name, f"{self.name}_low", f"{self.name}_high") if self.interval else (self.name,)

    def text(self, row: dict[str, Any]) -> str:
        """What a table for reading says of a row of results.csv; "" for a value that does not apply."""
        value, *ends = (row[name] for name in self.names)
        if value is None or value != value:
            return ""
        words = format(value, self.form) if isinstance(self.form, str) else self.form(value)
        if self.out_of is not None and not math.isnan(row[self.out_of[0]]):
            words = "/".join(f"{row[name]:.0f}" for name in self.out_of)
        if not ends or math.isnan(ends[0]):
            return words
        low, high = np.clip(ends, 0, 1) if self.kind == "shares" else ends
        return f"{words} [{low:.3f}, {high:.3f}]"


def register(column: Column) -> Column:
    """Adds a column of your own after the others. Raises ValueError if another column has its name."""
    global COLUMNS
    taken = [name for other in COLUMNS for name in other.names]
    checks.require("name", not {*taken} & {*column.names}, "one that no other column has", column.name)
    COLUMNS = (*COLUMNS, column)
    return column


def summarize(defense: DefenseRecord) -> dict[str, Any]:
    """The row of `results.csv` of a defense."""
    found: dict[str, Any] = {}
    for column in COLUMNS:
        value = getattr(defense.first, column.name) if column.of is None else column.of(defense)
        found.update(zip(column.names, value if column.interval else (value,)))
    return found


def shown(frame: pd.DataFrame, table: str) -> list[tuple[Column, list[str]]]:
    """The columns of a table for reading, and the texts of their cells.

    Args:
        frame: of results.csv, perhaps with columns grid.NAME, the axes of a grid.
        table: `CONSOLE` or `REPORT`.
    """
    rows: list[dict[str, Any]] = frame.to_dict("records")
    grid = [Column(f"grid.{name}", "", _title(name), place=AXES, form=plain) for name in axes(frame)]
    found: list[tuple[Column, list[str]]] = []
    for column in sorted((*COLUMNS, *grid) if rows else (), key=lambda column: column.place):
        same = table in column.varying and frame[column.name].nunique() < 2
        if column.title is None or table not in column.tables or same:
            continue
        good = np.broadcast_to(column.when(frame), len(rows))
        texts = [column.text(row) if one else "" for row, one in zip(rows, good)]
        if any(texts):
            found.append((column, texts))
    return found


def text_table(frame: pd.DataFrame, table: str = CONSOLE) -> pd.DataFrame:
    """The table for reading of a results.csv, as a pandas.DataFrame of texts."""
    found = shown(frame, table)
    return pd.DataFrame(zip(*(texts for _, texts in found)), columns=[column.title for column, _ in found])


def axes(frame: pd.DataFrame) -> list[str]:
    """The axes of a grid, of the columns grid.NAME of a results.csv; without those that other columns show."""
    return [name[5:] for name in frame.columns if name.startswith("grid.") and name[5:] not in {*VARYING, *OF_ROW}]


def _title(name):
    return name.replace("_", " ")


def _threat(name, meaning, kind="words", **options):
    """A column of the threat model, shown where it varies."""
    options = {"of": attrgetter(f"experiment.{name}"), "form": "", **options}
    return Column(name, meaning, _title(name), kind, THREAT, varying=(CONSOLE, REPORT), **options)


def _rates(prefix, data, accuracy, asr, titles, trials):
    """The three columns of what victims of one kind of data did."""
    wins = f"{prefix}successes"
    return (
        Column(
            f"{prefix}accuracy",
            accuracy,
            titles[0],
            "shares",
            ACCURACY,
            of=lambda defense: aggregates.accuracy(defense, data),
            interval=True,
        ),
        Column(
            wins,
            f"How many trials `{prefix}asr` counts as successes, where each succeeds or fails.",
            of=lambda defense: aggregates.successes(defense, data),
        ),
        Column(
            f"{prefix}asr",
            asr,
            titles[1],
            "shares",
            SUCCESS,
            of=lambda defense: aggregates.success_rate(defense, data),
            interval=True,
            out_of=(wins, trials),
        ),
    )


def _no_success_rate(frame):
    return frame["asr"].isna().all()


COLUMNS: tuple[Column, ...] = (
    Column("schema", "The version of this format.", of=lambda defense: SCHEMA),
    _threat(
        "attack",
        "The attack and its options; for saved poison, the attack that its files name, or `foreign`.",
        of=lambda defense: defense.first.attack or defense.experiment.attack,
    ),
    _threat("dataset", "The data."),
    _threat("model", "The architecture of the victims."),
    _threat("scenario", "How victims start: `scratch`, `finetune` or `transfer`."),
    _threat("knowledge", "What the attacker has: `white_box`, `grey_box` or `black_box`."),
    _threat(
        "target_rule",
        "How targets are chosen; empty unless the attack is targeted.",
        of=lambda defense: None if defense.first.intended_label is None else defense.experiment.target_rule,
    ),
    Column("num_poisons", "How many examples are poison.", "poisons", "counts", ROW, form=",", varying=(CONSOLE,)),
    Column("num_examples", "How many examples a victim trains on.", None, "counts"),
    _threat(
        "eps",
        "The l-inf bound of a perturbation; empty for indiscriminate attacks.",
        "numbers",
        of=lambda defense: None if defense.first.success is None else defense.experiment.eps,
        form=plain,
    ),
    Column("defense", "The defense; `none` is undefended training.", "defense", "words", ROW, form=""),
    _threat("engine", "What computes shaped updates; empty without shaping.", of=None),
    Column(
        "trials",
        "How many victims trained on the poison.",
        "trials",
        "counts",
        COST,
        of=lambda defense: len(defense.poison),
        form=".0f",
        tables=(REPORT,),
    ),
    Column("control_trials", "How many victims trained without the attack.", of=lambda defense: len(defense.control)),
    *_rates(
        "",
        "poison",
        "Mean accuracy on clean test examples after training on the poison.",
        "Attack success rate; empty for indiscriminate attacks.",
        ("test accuracy", "attack success rate"),
        "trials",
    ),
    *_rates(
        "adaptive_",
        "adaptive",
        "Mean accuracy after training on poison that was crafted against this defense.",
        "Attack success rate of poison that was crafted against this defense.",
        (None, "adaptive"),
        "trials",
    ),
    *_rates(
        "control_",
        "control",
        "Mean accuracy after training without the attack.",
        "How often a victim does what the attacker wants without the attack.",
        ("without attack", "control"),
        "control_trials",
    ),
    Column(
        "accuracy_loss",
        "Mean of `control_accuracy` minus `accuracy`, trial by trial.",
        "accuracy lost",
        place=ACCURACY,
        of=aggregates.accuracy_loss,
        interval=True,
        when=_no_success_rate,
    ),
    Column(
        "worst_class_accuracy",
        "The least mean accuracy of any class that has test examples.",
        "worst class",
        "shares",
        ACCURACY,
        of=aggregates.worst_class,
        when=_no_success_rate,
    ),
    Column(
        "undefended_at_equal_accuracy",
        "Attack success rate of undefended training that is stopped early, at the accuracy of this defense; for "
        "indiscriminate attacks the accuracy that it loses, at equal accuracy without the attack.",
        "undefended at equal accuracy",
        place=SUCCESS,
        of=lambda defense: aggregates.at_equal_accuracy(defense).undefended,
    ),
    Column(
        "beyond_accuracy",
        "How far the defense lowers (negative) or raises that, paired by trial.",
        "beyond accuracy",
        place=SUCCESS,
        of=lambda defense: attrgetter("beyond", "low", "high")(aggregates.at_equal_accuracy(defense)),
        interval=True,
        form="+.3f",
    ),
    Column(
        "beyond_accuracy_p",
        "Two-sided p-value of `beyond_accuracy`, of this row alone.",
        "p",
        place=SUCCESS,
        of=lambda defense: aggregates.at_equal_accuracy(defense).p_value,
    ),
    Column(
        "detection_precision",
        "Which share of the examples that the defense removed was poison.",
        "precision",
        "shares",
        of=lambda defense: aggregates.ratio(defense, "dropped_poison", "dropped"),
    ),
    Column(
        "detection_recall",
        "Which share of the poison the defense removed.",
        "recall",
        "shares",
        of=lambda defense: aggregates.ratio(defense, "dropped_poison", "poison"),
    ),
    Column(
        "dropped",
        "How many examples the defense removed, a mean over trials.",
        of=lambda defense: aggregates.mean(defense.poison, "dropped"),
    ),
    Column(
        "certified_accuracy",
        "Mean share of test examples on which no poison of this size can change the right answer.",
        "certified",
        "shares",
        of=lambda defense: aggregates.mean(defense.poison, "certified_accuracy"),
    ),
    Column(
        "sampling",
        "How batches were drawn, on which epsilon depends.",
        "batches drawn by",
        "words",
        BATCHES,
        form="",
        tables=(REPORT,),
    ),
    Column("delta", "The delta at which epsilon is given."),
    Column("epsilon", "Epsilon of one victim; `inf` without privacy.", "epsilon", "epsilon", PRIVACY, form=epsilon),
    Column(
        "epsilon_if_poisson",
        "What epsilon would be if batches had been drawn by Poisson sampling.",
        "if Poisson",
        "epsilon",
        PRIVACY,
        form=epsilon,
        when=lambda frame: (frame["epsilon"] != frame["epsilon_if_poisson"]).any(),
    ),
    Column(
        "ceiling",
        "The attack success rate that no attacker with so many poisons can exceed, as epsilon implies.",
        "ceiling",
        "shares",
        SUCCESS,
        of=aggregates.ceiling,
        when=lambda frame: np.isfinite(frame["epsilon"]),
    ),
    Column(
        "seconds",
        "Median time of a training.",
        "seconds",
        place=COST,
        of=lambda defense: float(np.median([victim.seconds for victim in defense.victims])),
        form=".1f",
    ),
    Column("seed", "The seed of everything random.", of=attrgetter("experiment.seed")),
)
VARYING = tuple(column.name for column in COLUMNS if column.place == THREAT)
OF_ROW = {
    "num_poisons",
    "budget",
    "clip",
    "noise",
    "shaping",
    "defense",
    "epsilon",
}  # axes that poisons and defense show
