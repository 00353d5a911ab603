"""Options of attacks and defenses, each declared once: default and range stand in the class, and are checked there.

    @dataclasses.dataclass(frozen=True)
    class Sphere(options.Checked):
        rate: float = options.real(0.05, 0, 1, below=True)

Messages are those of `tfshape.checks`, with the option's name.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

from tfshape import checks


class Checked:
    """A base of frozen dataclasses that checks their options when one is made.

    Raises:
      ValueError: an option outside its range, by name.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, rule = getattr(self, field.name), field.metadata
            if "check" in rule and not (rule["optional"] and value is None):
                rule["check"](field.name, value)


def integer(default: Any, low: int | None = None, high: int | None = None, optional: bool = False) -> Any:
    """A field for an integer from `low` to `high`; with `optional`, or None."""
    return _option(default, functools.partial(checks.integer, low=low, high=high), optional)


def real(
    default: Any, low: float, high: float = math.inf, above: bool = False, below: bool = False, optional: bool = False
) -> Any:
    """A field for a number from `low` to `high`, excluded by `above` and `below`; with `optional`, or None."""
    return _option(default, functools.partial(checks.real, low=low, high=high, above=above, below=below), optional)


def choice(default: Any, allowed: Iterable[Any]) -> Any:
    """A field for one of the values `allowed`."""
    return _option(default, functools.partial(checks.choice, allowed=tuple(allowed)))


def flag(default: bool) -> Any:
    """A field for True or False."""
    return _option(default, lambda name, value: checks.choice(name, checks.scalar(value), (True, False)))


def _option(default: Any, check: Callable[[str, Any], Any], optional: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={"check": check, "optional": optional})
