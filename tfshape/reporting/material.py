"""What a report is made of, read from the files of a study or an evaluation and from nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pathlib
import zipfile
from typing import Any

import numpy as np
import pandas as pd

from tfshape import checks, files, folders, strict_json
from tfshape.evaluation import columns
from tfshape.reporting.tables import axes

GROUPS = 6  # poisons of so many kinds are shown
LARGEST = 1 << 28  # bytes of a table or of trials.jsonl
LARGEST_PICTURES = 1 << 26  # bytes of one poison's pictures
MOST_PICTURES = 32  # of one poison
_KEY = ["point", "trial"]
_REMEDY = "use a folder that bin/sweep or bin/evaluate wrote, or run it again"

# What the columns of each table hold, as `Column.kind` says it of results.csv: words, counts, shares and numbers.
# Counts and epsilons must be there in every row.
_COLUMNS: dict[str, dict[str, tuple]] = {
    "costs.csv": {
        "words": ("defense", "attacker"),
        "counts": ("most", "withstood", "targets"),
        "epsilon": ("median_cost",),
    },
    "victims.csv": {"words": ("defense", "data"), "counts": ("trial", "count"), "shares": ("accuracy",)},
    "trials.csv": {"words": ("status", "error"), "counts": ("point", "trial")},
    "poisons.csv": {"words": ("adapted", "file"), "counts": ("point", "count", "trial")},
    "artifacts.csv": {
        "words": ("adapted", "file"),
        "counts": ("point", "count", "epoch"),
        "numbers": ("norm_ratio", "magnitude_ratio", "cosine", "share"),
    },
}


@dataclasses.dataclass
class Material:
    """What is known of a study or an evaluation.

    Attributes:
        folder: `pathlib.Path`.
        summary: pandas.DataFrame, results.csv: a row a defense, perhaps with columns grid.NAME and command.
        costs: pandas.DataFrame, costs.csv: what success costs the attacker, a row a defense; perhaps empty.
        victims: pandas.DataFrame, a row a trained model.
        failed: pandas.DataFrame of the trials that failed: point, trial, error.
        artifacts: pandas.DataFrame of the gradients of poison: point, count, adapted, epoch, and numbers.
        pictures: list of (words, dict of arrays as `cache/pictures` has them).
        counts: dict of status to how many trials have it.
        made: dict of config.json: versions, git revision, command.
    """

    folder: pathlib.Path
    summary: pd.DataFrame
    costs: pd.DataFrame
    victims: pd.DataFrame
    failed: pd.DataFrame
    artifacts: pd.DataFrame
    pictures: list
    counts: dict
    made: dict

    @property
    def targeted(self) -> bool:
        """Whether attacks have a success rate."""
        return bool(self.summary["asr"].notna().any())


def read(folder: str | os.PathLike) -> Material:
    """The `Material` of a folder that bin/sweep or bin/evaluate wrote.

    Raises:
        ValueError: there is no result in it.
    """
    folder = pathlib.Path(folder)
    good = all(folders.inside(folder, name).is_file() for name in ("config.json", "results.csv"))
    checks.require("study", good, "a folder that bin/sweep or bin/evaluate wrote, with results.csv", str(folder))
    made = strict_json.read(folders.inside(folder, "config.json"), _REMEDY)
    study = folders.inside(folder, "victims.csv").is_file()
    summary = _table(folder, "results.csv", counts=("point",) if study else ())
    costs = _table(folder, "costs.csv") if folders.inside(folder, "costs.csv").is_file() else pd.DataFrame()
    costs = costs.fillna({"attacker": ""}) if "attacker" in costs else costs
    if not study:
        victims = _trained(folder)
        counts = {"done": int(victims["trial"].nunique())}
        failed = pd.DataFrame(columns=[*_KEY, "error"])
        return Material(folder, summary, costs, victims, failed, pd.DataFrame(), [], counts, made)
    trials, artifacts = _table(folder, "trials.csv"), _table(folder, "artifacts.csv")
    return Material(
        folder,
        summary,
        costs,
        _table(folder, "victims.csv", counts=("point",)),
        trials.loc[trials["status"] == "failed", [*_KEY, "error"]],
        artifacts[artifacts["point"].isin(summary["point"])],
        _pictures(folder, summary),
        trials["status"].value_counts().to_dict(),
        made,
    )


def _table(folder, name, **more):
    """A CSV file of a folder. Raises ValueError if it is not one that holds what `_COLUMNS` says, and `more`."""
    path = folders.inside(folder, name)
    with _damage(path):
        text = io.BytesIO(files.read_bytes(path, LARGEST))
        frame = pd.read_csv(text, encoding="utf-8", low_memory=False)
        return _checked(frame, name, **more)


def _trained(folder):
    """The trained models of an evaluation, from trials.jsonl."""
    path = folders.inside(folder, "trials.jsonl")
    with _damage(path):
        lines = files.read_bytes(path, LARGEST).splitlines()
        rows = [strict_json.unsealed(strict_json.loads(line, lenient=True), required=False) for line in lines]
        plain = [{name: v for name, v in row.items() if not isinstance(v, (list, dict))} for row in rows]
        return _checked(pd.DataFrame(strict_json.numbers(plain)), "victims.csv")


@contextlib.contextmanager
def _damage(path):
    """Turns what reading a damaged file raises into a ValueError that names it."""
    try:
        yield
    except (ValueError, zipfile.BadZipFile, EOFError, OverflowError) as error:  # pandas' ParserError is a ValueError
        raise ValueError(f"{checks.shown(str(path))} is damaged: {files.reason(error)}; {_REMEDY}") from None


def _checked(frame, name, counts=()):
    if name == "victims.csv" and {"count", "num_poisons"} <= {*frame.columns}:  # of saved poison no count was asked for
        frame["count"] = frame["count"].where(frame["count"].notna(), frame["num_poisons"])
    kinds = _of_results() if name == "results.csv" else _COLUMNS[name]
    if frame.empty:  # a study without poison has no column of its numbers
        return frame.reindex(columns=list(dict.fromkeys([*frame.columns, *sum(kinds.values(), ()), *counts])))
    for kind, names in {**kinds, "counts": (*kinds.get("counts", ()), *counts)}.items():
        for column in names:
            if column not in frame and name == "results.csv" and kind in ("shares", "numbers"):
                frame[column] = np.nan  # an earlier version's
            if column not in frame:
                raise ValueError(f"it has no column {column}")
            frame[column] = _column(frame[column], column, kind)
    for column in set(frame.columns).difference(*kinds.values()):
        if frame[column].dtype == object:  # such as a grid's axis, or a label in words
            frame[column] = _column(frame[column], column, "words")
    return frame


def _of_results():
    """What the columns of results.csv hold."""
    kinds: dict[str, list[str]] = {}
    for column in columns.COLUMNS:
        name, *ends = column.names
        kinds.setdefault(column.kind, []).append(name)
        kinds.setdefault("numbers", []).extend(ends)
    return {kind: tuple(names) for kind, names in kinds.items()}


def _column(values, name, kind):
    if kind == "words":
        return values.where(values.isna(), values.astype(str))
    found = pd.to_numeric(values, errors="coerce").astype(float)
    size = found.abs()
    good = {
        "counts": (size < 2**53) & (found >= 0) & (found % 1 == 0),
        "epsilon": found >= 0,
        "shares": values.isna() | ((found >= 0) & (found <= 1)),
        "numbers": values.isna() | (size <= 1e300),
    }[kind]
    if not good.all():
        words = {"counts": "whole numbers", "epsilon": "numbers >= 0", "shares": "shares from 0 to 1"}.get(
            kind, "numbers"
        )
        wrong = values[~good].iloc[0]
        raise ValueError(f"column {name} must hold {words}, got {checks.shown(wrong)}")
    return found.astype(np.int64) if kind == "counts" else found


def _pictures(folder, summary):
    """The pictures of one poison of each kind."""
    poisons = _table(folder, "poisons.csv").drop_duplicates("file")
    poisons = poisons[poisons["point"].isin(summary["point"])]
    if poisons.empty:
        return []
    poisons = poisons.sort_values(["trial", "point", "count"]).drop_duplicates(["point", "count", "adapted"])
    points, found = summary.drop_duplicates("point").set_index("point"), []
    for row in poisons.head(GROUPS).itertuples():
        path = folders.inside(folder, "cache", "pictures", str(row.file))
        if not path.is_file():  # on another machine of a cluster
            continue
        names = ["attack", *(name for name in axes(summary) if name != "grid.attack")]
        of = ", ".join(str(points[name][row.point]) for name in names)
        words = f"{of}, trial {row.trial}, {row.count:,} poison{'s' if row.count > 1 else ''}"
        if isinstance(row.adapted, str):
            words += f", adapted to {row.adapted}"
        with _damage(path), files.open_regular(path, LARGEST_PICTURES) as file:
            arrays = files.read_arrays(file, lambda names: names, most=LARGEST_PICTURES)
            found.append((words, _drawable(arrays)))
    return found


def _drawable(arrays: dict[str, Any]) -> dict[str, Any]:
    """At most `MOST_PICTURES` of the arrays. Raises ValueError unless they fit together."""
    for name, labels in (("poison", ("poison_label", "base_label")), ("target", ("target_label", "intended_label"))):
        for label in labels:
            if name not in arrays or label not in arrays:
                raise ValueError(f"it has no {name} or no {label}")
            shape = arrays[label].shape
            if shape != arrays[name].shape[:1] or arrays[label].dtype.kind not in "iu":
                raise ValueError(f"{label} must be one integer for each {name}")
    if "base" not in arrays or arrays["base"].shape != arrays["poison"].shape:
        raise ValueError("base must have the shape of poison")
    return {name: array[:MOST_PICTURES] for name, array in arrays.items()}
