"""JSON as its standard has it, without NaN and Infinity, and records that show when they were changed.

An infinite number is written as the string "inf" or "-inf", one that is not defined (NaN) as null.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from typing import Any

from tfshape import checks, files

SEAL = "sha256"
LARGEST = 1 << 26  # bytes of a file that is read
_INFINITE = {"inf": math.inf, "-inf": -math.inf}
_CONSTANTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any) -> Any:
    """`value` as JSON has it: tuples as lists, NumPy scalars as numbers, what JSON lacks as "inf", "-inf" or None."""
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    value = checks.scalar(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """A value as strict JSON.

    Example:
        >>> dumps({"epsilon": float("inf"), "low": float("nan")})
        '{"epsilon": "inf", "low": null}'
    """
    return json.dumps(plain(value), allow_nan=False, indent=indent)


def canonical(value: Any) -> str:
    """A value as strict JSON in its one spelling: keys sorted, no spaces."""
    return json.dumps(plain(value), allow_nan=False, sort_keys=True, separators=(",", ":"))


def loads(text: str | bytes, lenient: bool = False) -> Any:
    """The value of a JSON text in UTF-8.

    Args:
        text: the JSON.
        lenient: whether NaN, Infinity and -Infinity are read, which files of tfshape up to 2026-11 may have.

    Raises:
        ValueError: the text is not JSON; its message says why.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(text, parse_constant=_CONSTANTS.get if lenient else _refuse)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def _refuse(name):
    raise ValueError(f"it holds {name}, which is not JSON")


def numbers(value: Any) -> Any:
    """What `loads` gave, with "inf" and "-inf" as the numbers that `plain` had."""
    if isinstance(value, dict):
        return {name: numbers(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [numbers(entry) for entry in value]
    return _INFINITE.get(value, value) if isinstance(value, str) else value


def checksum(value: Any) -> str:
    """The SHA-256 of a JSON value, 64 hex digits."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """A record with its checksum, under "sha256"."""
    record = {name: value for name, value in record.items() if name != SEAL}
    return {**record, SEAL: checksum(record)}


def unsealed(record: Any, required: bool = True) -> dict[str, Any]:
    """A record without its checksum.

    Args:
        record: what `sealed` gave, or read back from JSON.
        required: whether there must be a checksum.

    Raises:
        ValueError: the record is not a JSON object, or was changed.
    """
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    rest = {name: value for name, value in record.items() if name != SEAL}
    if (required or SEAL in record) and record.get(SEAL) != checksum(rest):
        raise ValueError("its checksum does not match")
    return rest


def write_text(record: dict[str, Any]) -> str:
    """A record and its checksum as the text of a file."""
    return dumps(sealed(record), indent=2) + "\n"


def read(path: str | os.PathLike, remedy: str, required: bool = False) -> dict[str, Any]:
    """The record that a file holds.

    Args:
        path: the file.
        remedy: what to do about a damaged file, in words that end the message.
        required: whether the file must have a checksum; one that it has must always match.

    Raises:
        ValueError: the file is damaged. OSError: it cannot be read.
    """
    data = files.read_bytes(path, LARGEST)
    try:
        return unsealed(loads(data, lenient=not required), required)
    except ValueError as error:
        raise ValueError(f"{checks.escaped(str(path))} is damaged: {error}; {remedy}") from None
