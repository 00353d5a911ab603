"""Tables as CSV files that a spreadsheet shows and never runs."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from tfshape import atomic

if TYPE_CHECKING:
    import pandas as pd

# what a spreadsheet takes for a formula: also in fullwidth letters, and after blanks and control characters
_FORMULA = re.compile(r"[\s\x00-\x1f\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf", re.IGNORECASE)


def cell(value: Any) -> Any:
    """`value` as a cell of a CSV file: text that a spreadsheet would run as a formula has an apostrophe before it.

    Its lines end in "\\n", as a lone "\\r" would start another row.

    Example:
        >>> cell("=1+1"), cell("-0.5"), cell(-0.5)
        ("'=1+1", '-0.5', -0.5)
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def text(frame: pd.DataFrame) -> str:
    """A table without its index as the text of a CSV file; its texts and headings are `cell`s."""
    frame = frame.set_axis([cell(name) for name in frame.columns], axis=1)
    for place in range(frame.shape[1]):
        column = frame.iloc[:, place]
        if column.dtype.kind not in "biufc":
            # dtype=object: integers beside None stay integers
            frame.isetitem(place, type(column)([cell(value) for value in column], index=column.index, dtype=object))
    return frame.to_csv(index=False)


def write_csv(path: str | os.PathLike, frame: pd.DataFrame) -> None:
    """Puts a table's `text` at `path`, whole or not at all."""
    atomic.write_text(path, text(frame))
