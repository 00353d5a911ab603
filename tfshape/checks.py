"""Checks of arguments, and the one form of their messages: `NAME must be WHAT IS ALLOWED, got VALUE`."""

from __future__ import annotations

import difflib
import math
import numbers
import unicodedata
from collections.abc import Iterable
from typing import Any, NoReturn

LONGEST = 200  # characters of a value in a message


def shown(value: Any) -> str:
    """How a message shows a value: its `repr` on one line, without control characters, at most `LONGEST` characters.

    Example:
        >>> shown("a\\nb")
        "'a\\\\nb'"
    """
    if isinstance(value, (str, bytes)) and len(value) > LONGEST:  # escaping a megabyte takes a while
        value = value[: LONGEST + 1]
    try:
        text = repr(scalar(value))
    except ValueError:  # an int of more digits than Python prints
        text = f"an integer of {value.bit_length()} bits"
    text = escaped(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def escaped(text: str) -> str:
    """`text` with every control, format and unpaired surrogate character written as its escape (`\\x1b`, `\\u202e`).

    What strangers wrote, such as file names and stored errors, can then neither move a terminal's cursor nor start
    another line.
    """
    return "".join(
        letter.encode("unicode_escape").decode("ascii")
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else letter
        for letter in text
    )


def scalar(value: Any) -> Any:
    """The Python number that a NumPy scalar or a NumPy array of no dimensions holds; any other value as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def fail(name: str, allowed: str, value: Any) -> NoReturn:
    """Raises the ValueError that says what `name` must be, and which value it got."""
    raise ValueError(f"{name} must be {allowed}, got {shown(value)}")


def require(name: str, good: Any, allowed: str, value: Any) -> None:
    """Raises ValueError unless `good`."""
    if not good:
        fail(name, allowed, value)


def integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """`value` as an int.

    Args:
        name: what it is called, for the message.
        value: an int or a NumPy integer, not a bool.
        low, high: the smallest and largest that are allowed; None: no bound.

    Raises:
        ValueError: for anything else.
    """
    number = scalar(value)
    good = isinstance(number, numbers.Integral) and not isinstance(number, bool)
    if not (good and (low is None or number >= low) and (high is None or number <= high)):
        if high is None:
            allowed = "an integer" if low is None else f"an integer >= {low}"
        else:
            allowed = f"an integer <= {high}" if low is None else f"an integer from {low} to {high}"
        fail(name, allowed, value)
    return int(number)


def real(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
    below: bool = False,
) -> float:
    """`value` as a finite float.

    Args:
        name: what it is called, for the message.
        value: an int, a float or a NumPy number, not a bool.
        low, high: the interval that it must lie in.
        above, below: whether `low`, `high` themselves are excluded.

    Raises:
        ValueError: for anything else; an int that no float can hold included.
    """
    number = scalar(value)
    try:
        good = isinstance(number, numbers.Real) and not isinstance(number, bool) and math.isfinite(number)
    except OverflowError:
        good = False
    if not (good and (low < number if above else low <= number) and (number < high if below else number <= high)):
        left = "" if low == -math.inf else f"{'>' if above else '>='} {low:g}"
        right = "" if high == math.inf else f"{'<' if below else '<='} {high:g}"
        words = "a finite number" if not left and not right else "a number"
        fail(name, " ".join(filter(None, (words, " and ".join(filter(None, (left, right)))))), value)
    return float(number)


def choice(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """`value`, if it is one of `allowed`. Raises ValueError, naming the nearest, for anything else."""
    choices = list(allowed)
    if not any(type(value) is type(option) and value == option for option in choices):
        listing = ", ".join(map(str, choices))
        raise ValueError(f"{name} must be one of {listing}, got {shown(value)}{did_you_mean(value, choices)}")
    return value


def did_you_mean(value: Any, names: Iterable[Any]) -> str:
    """`". Did you mean 'flip'?"` where one of `names` is spelled almost like `value`, else `""`; ends a message."""
    if not isinstance(value, str) or len(value) > LONGEST:
        return ""
    near = difflib.get_close_matches(value, [str(name) for name in names], n=1)
    return f". Did you mean {near[0]!r}?" if near else ""
