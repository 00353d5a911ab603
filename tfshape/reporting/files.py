"""The files of a report."""

from __future__ import annotations

import os
import pathlib

from tfshape import atomic, checks, folders
from tfshape.reporting import escaping, tables
from tfshape.reporting.material import Material
from tfshape.reporting.page import caption, page, verdicts
from tfshape.tables import write_csv


def write(material: Material, folder: str | os.PathLike) -> list[pathlib.Path]:
    """Writes report.html, report.md and report.csv.

    Args:
        material: a `Material`.
        folder: where to; made if need be.

    Returns:
        The three paths.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folders.inside(folder, name) for name in ("report.html", "report.md", "report.csv")]
    atomic.write_text(paths[0], page(material))
    atomic.write_text(paths[1], markdown(material))
    write_csv(paths[2], tables.summary(material.summary).frame())
    return paths


def markdown(material):
    """The report as Markdown: its tables, and the command of each row."""
    table = tables.summary(material.summary)
    parts = [
        f"# {escaping.cell(material.folder.resolve().name)}",
        *map(escaping.paragraph, verdicts(material)),
        escaping.paragraph(caption(material)),
        "## Results",
        _table(table),
    ]
    others = {
        "What success costs the attacker": tables.cost(material.costs),
        "Gradient artifacts": tables.artifacts(material.artifacts, material.summary),
        "Failed trials": tables.failures(material.failed),
    }
    for title, other in others.items():
        if other is not None:
            parts += [f"## {title}", _table(other)]
    if table.commands:
        lines = "\n".join(f"    {checks.escaped(str(c))}  # {number}" for number, c in enumerate(table.commands, 1))
        parts += ["## To train a row again", lines]
    return "\n\n".join(parts) + "\n"


def _table(table):
    def line(texts):
        return "| " + " | ".join(map(escaping.cell, texts)) + " |"

    rows = [line(cell.text for cell in row) for row in table.rows]
    return "\n".join([line(table.columns), "|" + "---|" * len(table.columns), *rows])
