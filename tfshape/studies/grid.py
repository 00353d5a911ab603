"""Grids: `noise=0,0.1,1` and `clip=1,4` make six experiments of one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

from tfshape import calls, checks
from tfshape.evaluation import Experiment

_FIXED = ("trials", "classes", "data_dir")
_SPELLED = ("shaping", "defense")  # of which "none" is one
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse(texts: Iterable[str]) -> dict[str, tuple]:
    """The axes of a grid: dict of an `Experiment` attribute to its values, a tuple.

    Args:
        texts: strings such as "noise=0,0.1,1", an axis each; commas in parentheses belong to a value. Values are read
            as the attribute's type; "none" is None where that is allowed.

    Raises:
        ValueError: an attribute that is not one of a grid, or a value that it cannot have.
    """
    fields = {field.name: field for field in dataclasses.fields(Experiment) if field.name not in _FIXED}
    axes = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip()
        checks.require("grid", equals and values.strip(), "name=value,value,…, such as noise=0,0.1,1", text)
        checks.require("grid", name in fields, f"an axis of {', '.join(fields)}", text)
        checks.require("grid", name not in axes, "one axis of each name", text)
        axes[name] = tuple(_value(fields[name], word) for word in calls.split(f"grid={name}", values))
        checks.require("grid", len(set(axes[name])) == len(axes[name]), "different values", text)
    return axes


def _value(field, text):
    kinds = [kind.strip() for kind in str(field.type).split("|")]
    if "None" in kinds and text.lower() == "none" and field.name not in _SPELLED:
        return None
    if "str" in kinds:
        return text
    try:
        if "bool" in kinds:
            return _WORDS[text.lower()]
        return int(text) if "int" in kinds else float(text)
    except (KeyError, ValueError):
        words = "true or false" if "bool" in kinds else "whole numbers" if "int" in kinds else "numbers"
        checks.fail(f"grid's {field.name}", words, text)


def points(base: Experiment, axes: dict[str, tuple]) -> list[tuple[dict[str, Any], Experiment]]:
    """The experiments of a grid: `base` with every combination of values, the last axis fastest.

    Returns:
        A list of (dict of axis to value, `Experiment`).

    Raises:
        ValueError: a value that an `Experiment` cannot have.
    """
    combinations = (dict(zip(axes, values)) for values in itertools.product(*axes.values()))
    return [(values, dataclasses.replace(base, **values)) for values in combinations]
