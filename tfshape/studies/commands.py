"""Command lines that train an experiment again."""

from __future__ import annotations

import dataclasses
import shlex

from tfshape.evaluation import Experiment


def command(experiment, imports=()):
    """The `bin/evaluate` command line of an experiment: the flags that are not as by default.

    imports: names of the files and modules that --import is to name.
    """
    usual = Experiment(scenario=experiment.scenario)
    flags = [shlex.quote(f"--import={name}") for name in imports]
    for field in dataclasses.fields(Experiment):
        value = getattr(experiment, field.name)
        standard = field.default if field.name == "scenario" else getattr(usual, field.name)
        if value == standard or value is None:
            continue
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        flags.append(shlex.quote(f"--{field.name}={value}"))
    return " ".join(["bin/evaluate", *flags])
