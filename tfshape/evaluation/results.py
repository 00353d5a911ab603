"""Results of an experiment: one row a trained victim, one row a defense, and the files that hold them."""

from __future__ import annotations

import json
import math
import os
import pathlib

import numpy as np
import pandas as pd

from tfshape.evaluation import statistics

SCHEMA = 1
CONFIG, TRIALS, SUMMARY = "config.json", "trials.jsonl", "results.csv"


class Results:
    """The rows of an experiment, in memory and, given a directory, in files that an interrupted run leaves whole.

    Attributes:
        experiment: the `ts.Experiment`.
        trials: list of dicts, one for each trained victim.
        directory: `pathlib.Path` or None.
        statements: dict of defense to its privacy statement.
    """

    def __init__(self, experiment, directory=None, provenance=None):
        """Opens `directory`, making it if need be; trials that an earlier run of the same experiment finished are read.

        Raises:
            ValueError: if the directory holds another experiment's results.
            OSError: if it cannot be written.
        """
        self.experiment, self.trials, self.statements = experiment, [], {}
        self.directory = None if directory is None else pathlib.Path(directory)
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        config = {"schema": SCHEMA, "experiment": experiment.to_dict(), **(provenance or {})}
        path = self.directory / CONFIG
        if path.exists():
            self._resume(path, config)
        else:
            write_atomically(path, json.dumps(config, indent=2) + "\n")

    def _resume(self, path, config):
        found = json.loads(path.read_text("utf-8"))
        same = found.get("schema") == SCHEMA and found.get("experiment") == json.loads(json.dumps(config["experiment"]))
        if not same:
            raise ValueError(
                f"output_dir={str(self.directory)!r}: holds another experiment; allowed is a new directory"
            )
        trials = self.directory / TRIALS
        if trials.exists():
            lines = trials.read_text("utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            self.trials = [json.loads(line) for line in whole]
            if len(whole) < len(lines):  # a line that a kill cut short
                write_atomically(trials, "".join(whole))

    def find(self, trial, defense, data):
        """The row of that victim, or None."""
        keys = {"trial": trial, "defense": defense, "data": data}
        return next((row for row in self.trials if keys.items() <= row.items()), None)

    def add(self, row):
        """Adds the row of a finished victim and puts it on the disk before returning."""
        self.trials.append({"schema": SCHEMA, **row})
        if self.directory is not None:
            with open(self.directory / TRIALS, "a", encoding="utf-8") as file:
                file.write(json.dumps(self.trials[-1]) + "\n")
                file.flush()
                os.fsync(file.fileno())
            write_atomically(self.directory / SUMMARY, self.frame().to_csv(index=False))

    def frame(self):
        """A pandas.DataFrame with one row a defense: the threat model, accuracies, success rates, privacy and cost."""
        return pd.DataFrame([self._summarise(defense) for defense in dict.fromkeys(r["defense"] for r in self.trials)])

    def _summarise(self, defense):
        e = self.experiment
        rows = [row for row in self.trials if row["defense"] == defense]
        poison, control = ([row for row in rows if row["data"] == data] for data in ("poison", "control"))
        out = {
            "schema": SCHEMA,
            **{name: getattr(e, name) for name in ("attack", "dataset", "model", "scenario", "target_rule")},
            "num_poisons": rows[0]["num_poisons"],
            "num_examples": rows[0]["num_examples"],
            "eps": e.eps,
            "defense": defense,
            "engine": rows[0]["engine"],
            "trials": len(poison),
            "control_trials": len(control),
        }
        if "success" not in rows[0]:
            out["target_rule"] = out["eps"] = None
        for prefix, group in (("", poison), ("control_", control)):
            accuracies = [row["accuracy"] for row in group]
            out[f"{prefix}accuracy"] = float(np.mean(accuracies)) if group else math.nan
            out[f"{prefix}accuracy_low"], out[f"{prefix}accuracy_high"] = statistics.mean_interval(accuracies)
            wins = [row["success"] for row in group if "success" in row]
            out[f"{prefix}successes"] = sum(wins) if wins else math.nan
            out[f"{prefix}asr"] = sum(wins) / len(wins) if wins else math.nan
            out[f"{prefix}asr_low"], out[f"{prefix}asr_high"] = statistics.wilson(sum(wins), len(wins))
        pairs = [(p["accuracy"], c["accuracy"]) for p in poison for c in control if c["trial"] == p["trial"]]
        losses = [clean - poisoned for poisoned, clean in pairs]
        out["accuracy_loss"] = float(np.mean(losses)) if losses else math.nan
        out["accuracy_loss_low"], out["accuracy_loss_high"] = statistics.mean_interval(losses)
        for name in ("sampling", "delta", "epsilon", "epsilon_if_poisson"):
            out[name] = rows[0][name]
        out["seconds"] = float(np.median([row["seconds"] for row in rows]))
        out["seed"] = e.seed
        return out

    def caption(self):
        """The threat model in a line, to stand above the table."""
        e, row = self.experiment, self.trials[0]
        words = f"{e.attack} on {e.dataset}, {e.model} {e.scenario}: "
        words += f"{max(r['num_poisons'] for r in self.trials):,} of {row['num_examples']:,} training examples poisoned"
        if "success" in row:
            words += f" within eps {e.eps:.4f}, targets by rule {e.target_rule}"
        return f"{words}; {e.trials} trials, 95% intervals; delta {e.delta:g}"

    def table(self):
        """A pandas.DataFrame to read or print: one row a defense, rates with their 95% intervals."""
        frame = self.frame()
        if frame.empty:
            return frame
        shown = {"defense": frame["defense"], "test accuracy": _spans(frame, "accuracy")}
        if frame["control_accuracy"].notna().any():
            shown["without attack"] = _spans(frame, "control_accuracy")
            if frame["asr"].isna().all():
                shown["accuracy lost"] = _spans(frame, "accuracy_loss")
        if frame["asr"].notna().any():
            shown["attack success rate"] = _spans(frame, "asr", counts=("successes", "trials"))
            if frame["control_asr"].notna().any():
                shown["control"] = _spans(frame, "control_asr", counts=("control_successes", "control_trials"))
        shown["epsilon"] = frame["epsilon"].map("{:.2f}".format)
        shown["if Poisson"] = frame["epsilon_if_poisson"].map("{:.2f}".format)
        shown["seconds"] = frame["seconds"].map("{:.1f}".format)
        return pd.DataFrame(shown)


def _spans(frame, name, counts=None):
    def span(row):
        text = f"{row[name]:.3f}" if counts is None else f"{row[counts[0]]:.0f}/{row[counts[1]]:.0f}"
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        return text if math.isnan(low) else f"{text} [{low:.3f}, {high:.3f}]"

    return frame.apply(span, axis=1)


def write_atomically(path, text):
    """Writes a text file so that readers and killed writers only ever leave the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
