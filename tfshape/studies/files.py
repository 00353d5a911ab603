"""The files of a study that others read, made whole from its store: config.json, and tables as CSV and Parquet.

trials has a row a trial, victims a row a trained model; results.csv a row a defense of each point, as that of
`bin/evaluate`, with the columns grid.NAME, point, verdict, what the point's rows show, and command, which is what to
type to train that point again alone;
costs.csv what success costs the attacker, a row a defense;
poisons.csv a row for each poison that a trial met, with its file in cache/poisons and cache/pictures; artifacts.csv
what the gradients of the first trial's poison look like.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from typing import Any

from tfshape import atomic, folders, imports, strict_json, tables
from tfshape.evaluation import Experiment
from tfshape.provenance import provenance
from tfshape.studies.cache import digest
from tfshape.studies.commands import command
from tfshape.studies.store import Store
from tfshape.studies.study import COUNTS, OF_DEFENSES, SCHEMA, TRIAL, shared

CONFIG = "config.json"


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
    about, state = folders.inside(folder, CONFIG), [store.counts(), store.last_finished()]
    if _unchanged(folder, about, state):
        return
    import pandas as pd

    points = store.points()
    grids = {row["point"]: _prefixed(strict_json.loads(row["grid"])) for row in points}
    results: dict[int, dict[int, Any]] = {row["point"]: {} for row in points}
    for point, trial, result in store.results():
        results[point][trial] = result
    trials = [
        {
            **{"key": row["key"], "point": row["point"], **grids[row["point"]], "trial": row["trial"]},
            **{name: row[name] for name in ("status", "attempts", "seconds", "finished")},
            "error": row["error"] and row["error"].split("\n", 1)[0],
            **_scalars(results[row["point"]].get(row["trial"])),
        }
        for row in store.trials()
    ]
    found = _both("trials", pd.DataFrame(trials))
    function, imported = store.about("function"), strict_json.loads(store.about("imports") or "[]")
    if function == TRIAL:
        found.update(_of_experiments(points, grids, results, imports.names(imported)))
    sums = {name: _write(folder, name, frame) for name, frame in found.items()}
    config = {
        "schema": SCHEMA,
        "function": function,
        "state": state,
        "files": sums,
        "points": [
            {"point": row["point"], "grid": row["grid"], "config": strict_json.loads(row["config"])} for row in points
        ],
        **provenance(),
        "imports": imported,
    }
    atomic.write_text(about, strict_json.write_text(config))


def _unchanged(folder, about, state):
    """Whether the files are those of this state, as they were written."""
    try:
        found = strict_json.read(about, "", required=True)
        files = found["files"].items() if found["state"] == state else [("", "")]
        return all(_checksum(folders.inside(folder, name)) == sha256 for name, sha256 in files)
    except (OSError, ValueError, KeyError):  # missing or damaged, to be made again
        return False


def _checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(folder, name, frame):
    """Writes a table, as CSV or Parquet by its name. Returns its checksum."""
    path = folders.inside(folder, name)
    if path.suffix == ".csv":
        tables.write_csv(path, frame)
    else:
        with atomic.replacing(path) as temporary:
            frame.to_parquet(temporary)
    return _checksum(path)


def _of_experiments(points, grids, results, names):
    """The tables that studies of experiments have beside that of their trials: a dict of file to pandas.DataFrame."""
    import pandas as pd

    from tfshape.evaluation import Results, VictimRecord

    victims: dict[int, list] = {}
    rows, summary, poisons, artifacts = [], [], [], []
    for point in points:
        number, config, mine = point["point"], strict_json.loads(point["config"]), results[point["point"]]
        if not mine:
            continue
        of_point = Results(Experiment.from_dict({**config, "trials": len(mine)}))
        for trial, result in sorted(mine.items()):
            of_point.records += map(VictimRecord.from_dict, result["rows"])
            rows += [{"point": number, **grids[number], **row} for row in result["rows"]]
            for entry in result["poisons"]:
                about = {"point": number, **{name: entry[name] for name in ("count", "adapted", "file")}}
                poisons.append({**about, "trial": trial})
                artifacts += [{**about, **row} for row in entry.get("artifacts", [])]
        victims[number] = of_point.records
        more = {"command": command(of_point.experiment, names), "verdict": str(of_point.verdict)}
        more["shared"] = digest(shared(config))
        summary += [{"point": number, **grids[number], **row, **more} for row in of_point.summaries()]
    if not rows:
        return {}
    empty = ["point", "count", "adapted", "file"]
    return {
        **_both("victims", pd.DataFrame(rows)),
        "costs.csv": _costs(points, grids, victims),
        "poisons.csv": pd.DataFrame(poisons, columns=None if poisons else empty),
        "artifacts.csv": pd.DataFrame(artifacts, columns=None if artifacts else empty),
        "results.csv": _once(pd.DataFrame(summary)),
    }


def _costs(points, grids, victims):
    """What success costs, for points that differ in nothing but the number of poisons, a row a defense; no rows where
    there is one number, or no target."""
    import pandas as pd

    from tfshape.evaluation.results import costs

    groups: dict[str, list] = {}
    axes = [f"grid.{name}" for name in COUNTS]
    for point in points:
        rest = {name: value for name, value in strict_json.loads(point["config"]).items() if name not in COUNTS}
        groups.setdefault(digest(rest), []).append(point["point"])
    frames = []
    for numbers in groups.values():
        mine = [v for number in numbers for v in victims.get(number, []) if v.intended_label is not None]
        if len({victim.num_poisons for victim in mine}) > 1:
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


def _both(name, frame):
    return {f"{name}.csv": frame, f"{name}.parquet": frame}
