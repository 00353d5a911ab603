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
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tfshape import checks

REQUIRED: Any = dataclasses.MISSING  # the default of an option that has none


class Checked:
    """A base of frozen dataclasses that checks their options when one is made.

    Raises:
      ValueError: an option outside its range, by name.
    """

    def __post_init__(self) -> None:
        list(checked(self))


class Plain:
    """As `Checked`; NumPy scalars become Python numbers, and integers that stand for numbers floats."""

    def __post_init__(self) -> None:
        for name, value in checked(self):
            object.__setattr__(self, name, value)


def checked(options: Any) -> Iterator[tuple[str, Any]]:
    """The name of each declared option of a dataclass, and its value as its check gives it; None is left out."""
    for field in dataclasses.fields(options):
        value, rule = getattr(options, field.name), field.metadata
        if "check" in rule and not (rule["optional"] and value is None):
            yield field.name, rule["check"](field.name, value)


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
