"""Results of an experiment: one row a trained victim, one row a defense, and the files that hold them."""

from __future__ import annotations

import math
import os
import pathlib
from typing import Any

import numpy as np
import pandas as pd

from tfshape import atomic, checks, folders, imports, strict_json, tables
from tfshape.evaluation import aggregates, columns, frontier, records
from tfshape.evaluation import verdict as verdicts
from tfshape.evaluation.experiment import Experiment
from tfshape.evaluation.records import SCHEMA, VictimRecord

CONFIG, TRIALS, SUMMARY, COSTS = "config.json", "trials.jsonl", "results.csv", "costs.csv"
POISONS = "poisons"  # a folder
_DAMAGED = "restore it from a copy, or use a new folder"


class Results:
    """The rows of an experiment, in memory and, given a directory, in files that an interrupted run leaves whole.

    Attributes:
        experiment: the `ts.Experiment`.
        records: list of `VictimRecord`s, one for each trained victim.
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
        self.records: list[VictimRecord] = []
        self.statements: dict[str, str] = {}
        self.imports: list[str] = []
        self.directory = None if directory is None else pathlib.Path(directory)
        self._found: dict[tuple, VictimRecord] = {}
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
            results = cls(Experiment.from_dict(config["experiment"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{checks.escaped(str(path))} is damaged: its experiment is not one ({error})") from None
        results.directory, results.imports = folder, imports.names(config.get("imports"))
        for record in _rows(trials, config.get("schema"))[0]:
            results._keep(record)
        return results

    @property
    def trials(self) -> list[dict[str, Any]]:
        """`records` as dicts, as trials.jsonl has them: what does not apply to a victim is left out."""
        return [{"schema": SCHEMA, **record.to_dict()} for record in self.records]

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
        for record in rows:
            self._keep(record)
        if not whole or found["schema"] != SCHEMA:
            atomic.write_text(trials, "".join(map(_line, rows)))
        if found["schema"] != SCHEMA:
            atomic.write_text(path, strict_json.write_text(config))
        if rows:
            self.write_tables()

    def _keep(self, record):
        if record.key in self._found:
            of = zip(("trial", "count", "defense", "data"), record.key)
            words = ", ".join(f"{name} {value}" for name, value in of if value is not None)
            raise ValueError(
                f"{checks.escaped(str(self._path(TRIALS)))} holds two rows of one victim ({checks.escaped(words)}): "
                "two runs wrote it at once; use a new folder"
            )
        self._found[record.key] = record
        place = len(self.records)
        while place and self.records[place - 1].trial > record.trial:  # trials that ran side by side
            place -= 1
        self.records.insert(place, record)

    def find(self, trial: int, count: int, defense: str, data: str) -> VictimRecord | None:
        """The record of that victim, or None."""
        return self._found.get((trial, count, defense, data))

    def add(self, *rows: VictimRecord | dict[str, Any]) -> None:
        """Adds finished victims, `VictimRecord`s or dicts of them, and puts them on the disk before returning."""
        for row in rows:
            record = row if isinstance(row, VictimRecord) else VictimRecord.from_dict(row)
            if self.directory is not None:
                folders.append(self._path(TRIALS), _line(record))
            self._keep(record)
        if self.directory is not None:
            self.write_tables()

    def write_tables(self) -> None:
        """Writes results.csv and, for several numbers of poisons, costs.csv, if they are not as the rows say."""
        found = {SUMMARY: self.frame}
        if len(self.experiment.counts) > 1 and any(r.intended_label is not None for r in self.records):
            found[COSTS] = lambda: costs(self.records)
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
        return [columns.summarize(defense) for defense in records.defenses(self.experiment, self.records)]

    def cost(self) -> pd.DataFrame:
        """The adversary's cost in words: see `costs`. For experiments with several numbers of poisons and a target."""
        return in_words(costs(self.records))

    def caption(self) -> str:
        """The threat model in a line, to stand above the table."""
        e, first = self.experiment, self.records[0]
        counts = e.counts if len(e.counts) > 1 else (max(record.num_poisons for record in self.records),)
        words = f"{e.attack if e.poisons is None else e.poisons} on {e.dataset}, {e.model} {e.scenario} {e.knowledge}: "
        words += f"{', '.join(f'{c:,}' for c in counts)} of {first.num_examples:,} training examples poisoned"
        if first.inserted:
            words += " (inserted)"
        if first.intended_label is not None:
            words += f" within eps {e.eps:.4f}, targets by rule {e.target_rule}"
        trials = len({record.trial for record in self.records})
        return f"{words}; {trials} trials, 95% intervals; delta {e.delta:g}"

    def table(self) -> pd.DataFrame:
        """A pandas.DataFrame of texts to read or print: one row for each defense, rates with their 95% intervals."""
        return columns.text_table(self.frame())

    @property
    def verdict(self) -> verdicts.Verdict:
        """What the rows show, and what to run next: `str` of it is one to four sentences."""
        return verdicts.verdict(self.trials)

    def curve(self) -> pd.DataFrame:
        """Success and accuracy of undefended training if it is stopped early, one row for each moment of it.

        Columns: as `frontier.curve` has them. Of several numbers of poisons, the largest counts.
        """
        plain = [record for record in self.records if record.defense == "none"]
        most = max((record.num_poisons for record in plain), default=0)
        rows = [vars(record) for record in plain if record.num_poisons == most]
        mine, clean = ([row for row in rows if row["data"] == data] for data in ("poison", "control"))
        if mine and mine[0]["success"] is None:
            mine = frontier.harm(mine, clean)
        return pd.DataFrame(frontier.curve(mine))

    def classes(self) -> pd.DataFrame:
        """The accuracy on each class, a mean over the trials, NaN for one without test examples: one row a defense and
        data, "poison" or "control".

        Columns: poisons (where there are several numbers of them), defense, trained on, and the classes.
        """
        groups: dict[tuple, list[VictimRecord]] = {}
        for record in self.records:
            groups.setdefault(record.key[1:], []).append(record)
        found = []
        for (count, defense, data), victims in groups.items():
            means = aggregates.of_classes(victims)
            poisons = {"poisons": count} if len(self.experiment.counts) > 1 else {}
            classes = {label: round(mean, 3) for label, mean in enumerate(means)}
            row: dict = {**poisons, "defense": defense, "trained on": data}
            found.append({**row, **classes})
        return pd.DataFrame(found)


def _line(record):
    return strict_json.dumps(strict_json.sealed({"schema": SCHEMA, **record.to_dict()})) + "\n"


def _rows(path, schema):
    """-> (the records of a trials.jsonl, whether it ends with a whole line: a kill cuts the last one short)."""
    *lines, rest = path.read_bytes().split(b"\n")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            row = strict_json.unsealed(strict_json.loads(line, lenient=schema == 2), required=schema != 2)
            found.append(VictimRecord.from_dict(row))
        except ValueError as error:
            raise ValueError(
                f"{checks.escaped(str(path))} is damaged in line {number}: {error}; "
                "delete that line, and the same command trains its victim again"
            ) from None
    return found, not rest


def costs(victims: list[VictimRecord]) -> pd.DataFrame:
    """The adversary's cost: the least number of poisons that succeeded, for every target.

    Args:
        victims: of a targeted attack with several numbers of poisons; a trial's target is the same for all numbers.

    Returns:
        A row a defense and attacker: defense; attacker, "adaptive" or ""; median_cost over the targets, inf where half
        of them or more withstood the largest number; most, that number; withstood, how many targets did; targets.
    """
    found = []
    kinds = dict.fromkeys((victim.defense, victim.data) for victim in victims if victim.data != "control")
    for defense, data in kinds:
        mine = [victim for victim in victims if (victim.defense, victim.data) == (defense, data)]
        least = {victim.trial: math.inf for victim in mine}
        for victim in mine:
            if victim.success:
                least[victim.trial] = min(least[victim.trial], victim.num_poisons)
        numbers = np.array([*least.values()])
        found.append(
            {
                "defense": defense,
                "attacker": "adaptive" if data == "adaptive" else "",
                "median_cost": float(np.median(numbers)),
                "most": max(victim.num_poisons for victim in mine),
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
