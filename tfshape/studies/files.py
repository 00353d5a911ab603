"""The files of a study that others read, made whole from its store: config.json, and tables as CSV and Parquet.

trials has a row a trial, victims a row a trained model; results.csv a row a defense of each point, as that of
`bin/evaluate`, with the columns grid.NAME, point and command, which is what to type to train that point again alone;
costs.csv what success costs the attacker, a row a defense;
poisons.csv a row for each poison that a trial met, with its file in cache/poisons and cache/pictures; artifacts.csv
what the gradients of the first trial's poison look like.
"""

from __future__ import annotations

import json
import os
import pathlib

from tfshape import atomic, tables
from tfshape.evaluation.experiment import Experiment
from tfshape.evaluation.provenance import provenance
from tfshape.studies.cache import digest
from tfshape.studies.commands import command
from tfshape.studies.store import Store
from tfshape.studies.study import COUNTS, OF_DEFENSES, SCHEMA, TRIAL, shared


def export(folder: str | os.PathLike) -> None:
    """Writes the files of the study in a folder as far as it is done; it may be running.

    Raises:
        ValueError: there is no study.
    """
    with Store(folder) as store:
        write(pathlib.Path(folder), store)


def write(folder: pathlib.Path, store: Store) -> None:
    """Writes the files of a study that have changed since they were last written.

    Args:
        folder: of the study, a `pathlib.Path`.
        store: its open `Store`.
    """
    about, state = folder / "config.json", [store.counts(), store.last_finished()]
    if about.exists() and json.loads(about.read_text("utf-8")).get("state") == state:
        return
    import pandas as pd

    points = store.points()
    grids = {row["point"]: _prefixed(json.loads(row["grid"])) for row in points}
    results = {(point, trial): result for point, trial, result in store.results()}
    trials = [
        {
            **{"key": row["key"], "point": row["point"], **grids[row["point"]], "trial": row["trial"]},
            **{name: row[name] for name in ("status", "attempts", "seconds", "finished")},
            "error": row["error"] and row["error"].split("\n", 1)[0],
            **_scalars(results.get((row["point"], row["trial"]))),
        }
        for row in store.trials()
    ]
    _write_tables(folder, "trials", pd.DataFrame(trials))
    function = store.about("function")
    if function == TRIAL:
        _write_experiments(folder, points, grids, results)
    config = {
        "schema": SCHEMA,
        "function": function,
        "state": state,
        "points": [{"point": row["point"], "grid": row["grid"], "config": json.loads(row["config"])} for row in points],
        **provenance(),
    }
    atomic.write_text(about, json.dumps(config, indent=2) + "\n")


def _write_experiments(folder, points, grids, results):
    import pandas as pd

    from tfshape.evaluation import Results

    rows, frames, poisons, artifacts = [], [], [], []
    for point in points:
        number, config = point["point"], json.loads(point["config"])
        found = []
        for (place, trial), result in sorted(results.items()):
            if place == number:
                found.append(result["rows"])
                for entry in result["poisons"]:
                    seen = entry.get("artifacts", [])
                    about = {"point": number, **{name: entry[name] for name in ("count", "adapted", "file")}}
                    poisons.append({**about, "trial": trial})
                    artifacts += [{**about, **row} for row in seen]
        if not found:
            continue
        summary = Results(Experiment(**config, trials=len(found)))
        summary.trials = [row for trial in found for row in trial]
        rows += [{"point": number, **grids[number], **row} for row in summary.trials]
        frame = summary.frame()
        frame.insert(0, "point", number)
        for place, (name, value) in enumerate(grids[number].items()):
            frame.insert(1 + place, name, value)
        frame["command"], frame["shared"] = command(summary.experiment), digest(shared(config))
        frames.append(frame)
    if frames:
        _write_tables(folder, "victims", pd.DataFrame(rows))
        tables.write_csv(folder / "costs.csv", _costs(points, grids, rows))
        for name, table in (("poisons", poisons), ("artifacts", artifacts)):
            frame = pd.DataFrame(table, columns=None if table else ["point", "count", "adapted", "file"])
            tables.write_csv(folder / f"{name}.csv", frame)
        summary = _once(pd.concat(frames, ignore_index=True))
        tables.write_csv(folder / "results.csv", summary)


def _costs(points, grids, rows):
    """What success costs, for points that differ in nothing but the number of poisons, a row a defense; no rows where
    there is one number, or no target."""
    import pandas as pd

    from tfshape.evaluation.results import costs

    groups, axes = {}, [f"grid.{name}" for name in COUNTS]
    for point in points:
        rest = {name: value for name, value in json.loads(point["config"]).items() if name not in COUNTS}
        groups.setdefault(digest(rest), []).append(point["point"])
    frames = []
    for numbers in groups.values():
        mine = [row for row in rows if row["point"] in numbers and "intended_label" in row]
        if len({row["num_poisons"] for row in mine}) > 1:
            values = {name: value for name, value in grids[numbers[0]].items() if name not in axes}
            frames.append(costs(mine).assign(**values))
    return pd.concat(frames) if frames else pd.DataFrame(columns=["defense"])


def _once(frame):
    """Undefended rows are the same for all points that differ in the defense alone: one is kept, without the axes of
    defenses. While a study runs, it is the one of most trials."""
    axes = [f"grid.{name}" for name in OF_DEFENSES if f"grid.{name}" in frame]
    undefended = frame["defense"] == "none"
    frame[axes] = frame[axes].astype(object)
    frame.loc[undefended, axes] = None
    ranked = frame.sort_values("trials", ascending=False, kind="stable")
    again = ranked.duplicated(["shared", "num_poisons", "defense"]).sort_index()
    return frame[~(undefended & again)].drop(columns="shared").reset_index(drop=True)


def _prefixed(values):
    return {f"grid.{name}": value for name, value in values.items()}


def _scalars(result):
    if not isinstance(result, dict):
        return {}
    return {name: value for name, value in result.items() if isinstance(value, (bool, int, float, str))}


def _write_tables(folder, name, frame):
    """NAME.csv and NAME.parquet."""
    tables.write_csv(folder / f"{name}.csv", frame)
    with atomic.replacing(folder / f"{name}.parquet") as path:
        frame.to_parquet(path)
