"""The published tables: the study of each, and its report."""

from __future__ import annotations

import importlib
import os
import pathlib
from typing import Any

from tfshape import atomic, studies

TITLES = {
    "gradients": "Gradients of poison (sections 3 and 4)",
    "indiscriminate": "Indiscriminate attacks (section 6.2)",
    "targeted": "Targeted attacks (sections 6.3 and 6.4)",
}


def study(name: str, folder: str | os.PathLike, **options: Any) -> studies.Study:
    """The `Study` of a table in `TITLES`; options are those of its module's `study`. Raises ValueError as that does."""
    return _module(name).study(folder, **options)


def run(name: str, found: studies.Study, runner: Any, progress: Any = None) -> tuple[str, dict[str, int]]:
    """Runs what is missing of a table's `Study` and writes its report.md.

    Returns:
        (the report as Markdown, dict of status to how many trials have it).
    """
    counts = studies.run(found, runner, progress=progress)
    text = _module(name).report(found.folder) if counts["done"] else "Every trial failed."
    text = f"## {TITLES[name]}\n\n{text}\n"
    atomic.write_text(pathlib.Path(found.folder) / "report.md", text)
    return text, counts


def _module(name):
    return importlib.import_module(f"tfshape.reproductions.{name}")
