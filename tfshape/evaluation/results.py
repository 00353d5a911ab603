"""Results of an experiment: one row a trained victim, one row a defense, and the files that hold them."""

from __future__ import annotations

import math
import os
import pathlib
from typing import Any

import numpy as np
import pandas as pd

from tfshape import atomic, checks, folders, imports, shaping, strict_json, tables
from tfshape.evaluation import accounting, statistics
from tfshape.evaluation.experiment import Experiment

SCHEMA = 3  # of results without checksums: 2, which are read too
CONFIG, TRIALS, SUMMARY, COSTS = "config.json", "trials.jsonl", "results.csv", "costs.csv"
POISONS = "poisons"  # a folder
_KEY = ("trial", "count", "defense", "data")
_NUMBER = (int, float)
_COLUMNS = {  # of a victim's row, beside class_accuracy: the types of their values
    **dict.fromkeys(("trial", "num_poisons", "num_examples"), (int,)),
    **dict.fromkeys(("defense", "data", "sampling"), (str,)),
    **dict.fromkeys(("accuracy", "delta", "epsilon", "epsilon_if_poisson", "seconds"), _NUMBER),
    "count": (int, type(None)),
    "engine": (str, type(None)),
    "inserted": (bool,),
}
_OPTIONAL = {
    **dict.fromkeys(("dropped", "dropped_poison", "poison", "intended_label"), (int,)),
    "certified_accuracy": _NUMBER,
    "success": (bool, *_NUMBER),
}
_DAMAGED = "restore it from a copy, or use a new folder"


class Results:
    """The rows of an experiment, in memory and, given a directory, in files that an interrupted run leaves whole.

    Attributes:
        experiment: the `ts.Experiment`.
        trials: list of dicts, one for each trained victim.
        directory: `pathlib.Path` or None.
        statements: dict of defense to its privacy statement.
        imports: names of the files and modules of the user's own that a loaded folder was made with.
    """

    def __init__(
        self, experiment: Experiment, directory: str | os.PathLike | None = None, provenance: dict | None = None
    ) -> None:
        """Opens `directory`, making it if need be; trials that an earlier run of the same experiment finished are read.

        Raises:
            ValueError: if the directory holds another experiment's results, or a file of it is damaged or a link.
            OSError: if it cannot be written.
        """
        self.experiment = experiment
        self.trials: list[dict] = []
        self.statements: dict[str, str] = {}
        self.imports: list[str] = []
        self.directory = None if directory is None else pathlib.Path(directory)
        self._found: dict[tuple, dict] = {}
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        config = {"schema": SCHEMA, "experiment": experiment.to_dict(), **(provenance or {})}
        path, trials, *_ = map(self._path, (CONFIG, TRIALS, SUMMARY, COSTS, POISONS))
        if path.exists():
            self._resume(path, trials, config)
        elif trials.exists():
            raise ValueError(f"output_dir={str(self.directory)!r} holds {TRIALS} without {CONFIG}; use a new folder")
        else:
            atomic.write_text(path, strict_json.write_text(config))

    @classmethod
    def load(cls, directory: str | os.PathLike) -> Results:
        """What a folder of `bin/evaluate` holds; writes nothing.

        Raises:
            ValueError: there are no results, or a file is damaged or a link.
        """
        folder = pathlib.Path(directory)
        path, trials = folders.inside(folder, CONFIG), folders.inside(folder, TRIALS)
        there = path.is_file() and trials.is_file()
        checks.require("study", there, f"a folder that bin/evaluate wrote, with {CONFIG} and {TRIALS}", str(directory))
        config = strict_json.read(path, _DAMAGED)
        try:
            results = cls(Experiment(**config["experiment"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{checks.escaped(str(path))} is damaged: its experiment is not one ({error})") from None
        results.directory, results.imports = folder, imports.names(config.get("imports"))
        for row in _rows(trials, config.get("schema"))[0]:
            results._keep(row)
        return results

    def _path(self, name):
        assert self.directory is not None
        return folders.inside(self.directory, name)

    def _resume(self, path, trials, config):
        found = strict_json.read(path, _DAMAGED)
        same = strict_json.canonical(found.get("experiment")) == strict_json.canonical(config["experiment"])
        if not (same and found.get("schema") in (2, SCHEMA)):
            raise ValueError(f"output_dir={str(self.directory)!r} holds another experiment; use a new folder")
        if not imports.same(found.get("imports")):
            raise ValueError(f"output_dir={str(self.directory)!r} holds results of another --import; use a new folder")
        rows, whole = _rows(trials, found["schema"]) if trials.exists() else ([], True)
        for row in rows:
            self._keep(row)
        if not whole or found["schema"] != SCHEMA:
            atomic.write_text(trials, "".join(map(_line, rows)))
        if found["schema"] != SCHEMA:
            atomic.write_text(path, strict_json.write_text(config))
        if rows:
            self.write_tables()

    def _keep(self, row):
        key = tuple(row[name] for name in _KEY)
        if key in self._found:
            words = ", ".join(f"{name} {value}" for name, value in zip(_KEY, key) if value is not None)
            raise ValueError(
                f"{checks.escaped(str(self._path(TRIALS)))} holds two rows of one victim ({checks.escaped(words)}): "
                "two runs wrote it at once; use a new folder"
            )
        self._found[key] = row
        place = len(self.trials)
        while place and self.trials[place - 1]["trial"] > row["trial"]:  # trials that ran side by side
            place -= 1
        self.trials.insert(place, row)

    def find(self, trial: int, count: int, defense: str, data: str) -> dict[str, Any] | None:
        """The row of that victim, or None."""
        return self._found.get((trial, count, defense, data))

    def add(self, row: dict[str, Any]) -> None:
        """Adds the row of a finished victim and puts it on the disk before returning."""
        row = {"schema": SCHEMA, **row}
        if self.directory is not None:
            folders.append(self._path(TRIALS), _line(row))
        self._keep(row)
        if self.directory is not None:
            self.write_tables()

    def write_tables(self) -> None:
        """Writes results.csv and, for several numbers of poisons, costs.csv, if they are not as the rows say."""
        found = {SUMMARY: self.frame}
        if len(self.experiment.counts) > 1 and any("intended_label" in row for row in self.trials):
            found[COSTS] = lambda: costs(self.trials)
        for name, table in found.items():
            path, text = self._path(name), tables.text(table())
            if not path.exists() or path.read_bytes() != text.encode("utf-8"):
                atomic.write_text(path, text)

    def frame(self) -> pd.DataFrame:
        """A pandas.DataFrame with one row a defense and number of poisons: the threat model, accuracies, success rates,
        privacy and cost."""
        return pd.DataFrame(self.summaries())

    def summaries(self) -> list[dict[str, Any]]:
        """The rows of `frame`, as dicts."""
        groups: dict[tuple, list] = {}
        for row in self.trials:
            groups.setdefault((row["count"], row["defense"]), []).append(row)
        return [self._summarise(defense, rows) for (_, defense), rows in groups.items()]

    def _summarise(self, defense, rows):
        e = self.experiment
        by_data = {data: [row for row in rows if row["data"] == data] for data in ("poison", "adaptive", "control")}
        poison, control = by_data["poison"], by_data["control"]
        targeted = "success" in rows[0]
        out = {
            "schema": SCHEMA,
            "attack": rows[0].get("attack", e.attack),  # saved poison says by which it was made
            **{name: getattr(e, name) for name in ("dataset", "model", "scenario", "knowledge")},
            "target_rule": e.target_rule if "intended_label" in rows[0] else None,
            "num_poisons": rows[0]["num_poisons"],
            "num_examples": rows[0]["num_examples"],
            "eps": e.eps if targeted else None,
            "defense": defense,
            "engine": rows[0]["engine"],
            "trials": len(poison),
            "control_trials": len(control),
        }
        for prefix, group in (("", poison), ("adaptive_", by_data["adaptive"]), ("control_", control)):
            accuracies = [row["accuracy"] for row in group]
            out[f"{prefix}accuracy"] = float(np.mean(accuracies)) if group else math.nan
            interval = np.clip(statistics.mean_interval(accuracies), 0, 1)
            out[f"{prefix}accuracy_low"], out[f"{prefix}accuracy_high"] = interval
            wins = [row["success"] for row in group if "success" in row]
            binary = all(isinstance(win, bool) for win in wins)
            out[f"{prefix}successes"] = sum(wins) if wins and binary else math.nan
            out[f"{prefix}asr"] = sum(wins) / len(wins) if wins else math.nan
            interval = statistics.wilson(sum(wins), len(wins)) if binary else statistics.mean_interval(wins)
            out[f"{prefix}asr_low"], out[f"{prefix}asr_high"] = np.clip(interval, 0, 1)
        clean = {row["trial"]: row["accuracy"] for row in control}
        losses = [clean[row["trial"]] - row["accuracy"] for row in poison if row["trial"] in clean]
        out["accuracy_loss"] = float(np.mean(losses)) if losses else math.nan
        out["accuracy_loss_low"], out["accuracy_loss_high"] = statistics.mean_interval(losses)
        measured = [mean for mean in _of_classes(poison) if not math.isnan(mean)]
        out["worst_class_accuracy"] = min(measured, default=math.nan)
        out.update(_detection(poison))
        certified = [row["certified_accuracy"] for row in poison if "certified_accuracy" in row]
        out["certified_accuracy"] = float(np.mean(certified)) if certified else math.nan
        for name in ("sampling", "delta", "epsilon", "epsilon_if_poisson"):
            out[name] = rows[0][name]
        out["ceiling"] = self._ceiling(rows[0], control) if targeted else math.nan
        out["seconds"] = float(np.median([row["seconds"] for row in rows]))
        out["seed"] = e.seed
        return out

    def _ceiling(self, row, control):
        """The certified ceiling of a defense's success rate, from what its controls show of success by chance."""
        if not math.isfinite(row["epsilon"]) or not control:
            return 1.0
        shaper = shaping.parse(row["defense"])
        # a share of test examples is bounded as a probability is; its trials count one each
        successes = math.ceil(sum(row["success"] for row in control))
        found = (row["num_examples"], row["num_poisons"], row["inserted"], successes, len(control))
        return accounting.ceiling(self.experiment, shaper, *found)

    def cost(self) -> pd.DataFrame:
        """The adversary's cost in words: see `costs`. For experiments with several numbers of poisons and a target."""
        return in_words(costs(self.trials))

    def caption(self) -> str:
        """The threat model in a line, to stand above the table."""
        e, row = self.experiment, self.trials[0]
        counts = e.counts if len(e.counts) > 1 else (max(r["num_poisons"] for r in self.trials),)
        words = f"{e.attack if e.poisons is None else e.poisons} on {e.dataset}, {e.model} {e.scenario} {e.knowledge}: "
        words += f"{', '.join(f'{c:,}' for c in counts)} of {row['num_examples']:,} training examples poisoned"
        if row["inserted"]:
            words += " (inserted)"
        if "intended_label" in row:
            words += f" within eps {e.eps:.4f}, targets by rule {e.target_rule}"
        trials = len({r["trial"] for r in self.trials})
        return f"{words}; {trials} trials, 95% intervals; delta {e.delta:g}"

    def table(self) -> pd.DataFrame:
        """A pandas.DataFrame to read or print: one row a defense, rates with their 95% intervals."""
        frame = self.frame()
        if frame.empty:
            return frame
        shown = {"defense": frame["defense"]}
        if frame["num_poisons"].nunique() > 1:
            shown = {"poisons": frame["num_poisons"], **shown}
        shown["test accuracy"] = _spans(frame, "accuracy")
        if frame["control_accuracy"].notna().any():
            shown["without attack"] = _spans(frame, "control_accuracy")
            if frame["asr"].isna().all():
                shown["accuracy lost"] = _spans(frame, "accuracy_loss")
                shown["worst class"] = frame["worst_class_accuracy"].map("{:.3f}".format)
        if frame["asr"].notna().any():
            shown["attack success rate"] = _spans(frame, "asr", ("successes", "trials"))
            if frame["adaptive_asr"].notna().any():
                shown["adaptive"] = _spans(frame, "adaptive_asr", ("adaptive_successes", "trials"))
            if frame["control_asr"].notna().any():
                shown["control"] = _spans(frame, "control_asr", ("control_successes", "control_trials"))
            if np.isfinite(frame["epsilon"]).any():
                shown["ceiling"] = frame["ceiling"].map("{:.3f}".format)
        for name in ("precision", "recall"):
            if frame[f"detection_{name}"].notna().any():
                shown[name] = frame[f"detection_{name}"].map(_number)
        if frame["certified_accuracy"].notna().any():
            shown["certified"] = frame["certified_accuracy"].map(_number)
        shown["epsilon"] = frame["epsilon"].map("{:.2f}".format)
        if (frame["epsilon"] != frame["epsilon_if_poisson"]).any():
            shown["if Poisson"] = frame["epsilon_if_poisson"].map("{:.2f}".format)
        shown["seconds"] = frame["seconds"].map("{:.1f}".format)
        return pd.DataFrame(shown)

    def classes(self) -> pd.DataFrame:
        """The accuracy on each class, a mean over the trials, NaN for one without test examples: one row a defense and
        data, "poison" or "control".

        Columns: poisons (where there are several numbers of them), defense, trained on, and the classes.
        """
        groups = dict.fromkeys((row["count"], row["defense"], row["data"]) for row in self.trials)
        found = []
        for count, defense, data in groups:
            keys = {"count": count, "defense": defense, "data": data}
            means = _of_classes([row for row in self.trials if keys.items() <= row.items()])
            poisons = {"poisons": count} if len(self.experiment.counts) > 1 else {}
            classes = {label: round(mean, 3) for label, mean in enumerate(means)}
            row: dict = {**poisons, "defense": defense, "trained on": data}
            found.append({**row, **classes})
        return pd.DataFrame(found)


def _line(row):
    return strict_json.dumps(strict_json.sealed(row)) + "\n"


def _rows(path, schema):
    """-> (the rows of a trials.jsonl, whether it ends with a whole line: a kill cuts the last one short)."""
    *lines, rest = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = strict_json.unsealed(strict_json.loads(line, lenient=schema == 2), required=schema != 2)
            rows.append(_row(row))
        except ValueError as error:
            raise ValueError(
                f"{checks.escaped(str(path))} is damaged in line {number}: {error}; "
                "delete that line, and the same command trains its victim again"
            ) from None
    return rows, not rest


def _row(found):
    """A row as it was before it became JSON. Raises ValueError for what is none."""
    row = {**strict_json.numbers(found), "schema": SCHEMA}
    accuracies = row.get("class_accuracy")
    if isinstance(accuracies, list):  # in files of schema 2, NaN
        row["class_accuracy"] = [None if value != value else value for value in accuracies]
    listed = isinstance(row.get("class_accuracy"), list)
    if not (listed and all(value is None or type(value) in _NUMBER for value in row["class_accuracy"])):
        raise ValueError("it is not the row of a victim: class_accuracy")
    optional = {name: kinds for name, kinds in _OPTIONAL.items() if name in row}
    for name, kinds in {**_COLUMNS, **optional}.items():
        if name not in row or type(row[name]) not in kinds:
            raise ValueError(f"it is not the row of a victim: {name}")
    return row


def _of_classes(rows):
    """The mean accuracy of each class over rows, a list; NaN for a class without test examples."""
    accuracies = np.array([row["class_accuracy"] for row in rows], np.float64)
    return [float(found.mean()) if (found := column[~np.isnan(column)]).size else math.nan for column in accuracies.T]


def costs(rows: list[dict]) -> pd.DataFrame:
    """The adversary's cost: the least number of poisons that succeeded, for every target.

    Args:
        rows: of victims of a targeted attack with several numbers of poisons, as `Results.trials` has them; a trial's
            target is the same for all numbers.

    Returns:
        A row a defense and attacker: defense; attacker, "adaptive" or ""; median_cost over the targets, inf where half
        of them or more withstood the largest number; most, that number; withstood, how many targets did; targets.
    """
    found = []
    kinds = {(row["defense"], row["data"]): None for row in rows if row["data"] != "control"}
    for defense, data in kinds:
        mine = [row for row in rows if (row["defense"], row["data"]) == (defense, data)]
        least = {row["trial"]: math.inf for row in mine}
        for row in mine:
            if row["success"]:
                least[row["trial"]] = min(least[row["trial"]], row["num_poisons"])
        numbers = np.array([*least.values()])
        found.append(
            {
                "defense": defense,
                "attacker": "adaptive" if data == "adaptive" else "",
                "median_cost": float(np.median(numbers)),
                "most": max(row["num_poisons"] for row in mine),
                "withstood": int(np.isinf(numbers).sum()),
                "targets": len(numbers),
            }
        )
    return pd.DataFrame(found)


def in_words(found: pd.DataFrame) -> pd.DataFrame:
    """`costs`, to read: defense, attacker, median cost (`> 100` if it is inf) and withstood (`> 100 in 3 of 20`)."""
    shown = found[["defense", "attacker"]].copy()
    most = found["most"].map("> {}".format)
    shown["median cost"] = found["median_cost"].map("{:g}".format).where(np.isfinite(found["median_cost"]), most)
    parts = zip(most, found["withstood"], found["targets"])
    shown["withstood"] = [f"{words} in {withstood} of {targets}" for words, withstood, targets in parts]
    return shown


def _detection(rows):
    """How well a sanitiser told poison from clean examples, over all trials."""
    rows = [row for row in rows if "dropped" in row]
    dropped, poison, caught = (sum(row[name] for row in rows) for name in ("dropped", "poison", "dropped_poison"))
    return {
        "detection_precision": caught / dropped if dropped else math.nan,
        "detection_recall": caught / poison if poison else math.nan,
        "dropped": dropped / len(rows) if rows else math.nan,
    }


def _number(value):
    return "" if math.isnan(value) else f"{value:.3f}"


def _spans(frame, name, counts=None):
    def span(row):
        if math.isnan(row[name]):
            return ""
        whole = counts is not None and not math.isnan(row[counts[0]])
        text = f"{row[counts[0]]:.0f}/{row[counts[1]]:.0f}" if whole else f"{row[name]:.3f}"
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        return text if math.isnan(low) else f"{text} [{low:.3f}, {high:.3f}]"

    return frame.apply(span, axis=1)
