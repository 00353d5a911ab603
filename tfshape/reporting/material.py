"""What a report is made of, read from the files of a study or an evaluation and from nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

import numpy as np
import pandas as pd

from tfshape.reporting.tables import axes

GROUPS = 6  # poisons of so many kinds are shown
_KEY = ["point", "trial"]


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
    summary, config = folder / "results.csv", folder / "config.json"
    if not (summary.is_file() and config.is_file()):
        raise ValueError(
            f"study={str(folder)!r}: allowed is a folder with results, config.json and results.csv, of bin/sweep or "
            "bin/evaluate"
        )
    made, summary = json.loads(config.read_text("utf-8")), pd.read_csv(summary)
    empty = pd.DataFrame(columns=[*_KEY, "error"])
    path = folder / "costs.csv"
    costs = pd.read_csv(path, keep_default_na=False) if path.is_file() else pd.DataFrame()
    if not (folder / "victims.csv").is_file():
        victims = pd.read_json(folder / "trials.jsonl", lines=True)
        counts = {"done": int(victims["trial"].nunique())}
        return Material(folder, summary, costs, victims, empty, pd.DataFrame(), [], counts, made)
    trials = pd.read_csv(folder / "trials.csv", usecols=[*_KEY, "status", "error"])
    return Material(
        folder,
        summary,
        costs,
        pd.read_csv(folder / "victims.csv"),
        trials.loc[trials["status"] == "failed", [*_KEY, "error"]],
        pd.read_csv(folder / "artifacts.csv"),
        _pictures(folder, summary),
        trials["status"].value_counts().to_dict(),
        made,
    )


def _pictures(folder, summary):
    """The pictures of one poison of each kind."""
    poisons = pd.read_csv(folder / "poisons.csv").drop_duplicates("file")
    if poisons.empty:
        return []
    poisons = poisons.sort_values(["trial", "point", "count"]).drop_duplicates(["point", "count", "adapted"])
    points, found = summary.drop_duplicates("point").set_index("point"), []
    for row in poisons.head(GROUPS).itertuples():
        path = folder / "cache" / "pictures" / row.file
        if not path.is_file():  # on another machine of a cluster
            continue
        of = ", ".join(str(points[name][row.point]) for name in ["attack", *axes(summary)])
        words = f"{of}, trial {row.trial}, {row.count:,} poison{'s' if row.count > 1 else ''}"
        if isinstance(row.adapted, str):
            words += f", adapted to {row.adapted}"
        with np.load(path, allow_pickle=False) as file:
            found.append((words, {name: file[name] for name in file.files}))
    return found
