"""Published tables as studies: trains what is missing, then puts ours beside theirs."""

from __future__ import annotations

import importlib
import pathlib

from tfshape import atomic
from tfshape.studies import driver

TITLES = {
    "gradients": "Gradients of poison (sections 3 and 4)",
    "indiscriminate": "Indiscriminate attacks (section 6.2)",
    "targeted": "Targeted attacks (sections 6.3 and 6.4)",
}


def study(name, folder, **options):
    """The `Study` of a table in `TITLES`; options are those of its module's `study`. Raises ValueError as that does."""
    return _module(name).study(folder, **options)


def run(name, found, runner, progress=None):
    """Runs what is missing of a table's `Study` and writes its report.md.

    Returns:
        (the report as Markdown, dict of status to how many trials have it).
    """
    counts = driver.run(found, runner, progress=progress)
    text = _module(name).report(found.folder) if counts["done"] else "Every trial failed."
    text = f"## {TITLES[name]}\n\n{text}\n"
    atomic.write_text(pathlib.Path(found.folder) / "report.md", text)
    return text, counts


def _module(name):
    return importlib.import_module(f"tfshape.studies.{name}")
