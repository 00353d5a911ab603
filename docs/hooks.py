"""For MkDocs: fills in what pages leave to the code, and mends tables.

`{{flags}}` becomes the flags of the binaries, as `--help` prints them; `{{columns}}`, the columns of results.csv.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def on_page_markdown(markdown, **_):
    """The page with flags and columns filled in."""
    for name, text in {"{{flags}}": flags, "{{columns}}": columns}.items():
        markdown = markdown.replace(name, text()) if name in markdown else markdown
    return markdown


def on_post_page(output, **_):
    """Attributes that share a description, `a, b: …`, whose other names stand where the type should."""
    cell = r"<code><span[^>]*>(\w+),</span></code></td>\s*<td>\s*<code>(.*?)</code>"
    return re.sub(cell, lambda found: _names(found[1], found[2]), output, flags=re.DOTALL)


def _names(first, others):
    others = re.sub(r"<[^>]*>|[()]", "", others)
    return f"<code>{first}</code>, " + ", ".join(f"<code>{name}</code>" for name in others.split(", ")) + "</td><td>"


def columns():
    """A table of the columns of results.csv: their names, their heading in printed tables, and what they mean."""
    from tfshape.evaluation.columns import COLUMNS

    lines = ["| column | in tables | |", "|---|---|---|"]
    for column in COLUMNS:
        names = ", ".join(f"`{name}`" for name in column.names)
        lines.append(f"| {names} | {column.title or ''} | {column.meaning} |")
    return "\n".join(lines)


def flags():
    """A section a binary: its name, and its help text as it stands."""
    from tfshape.cli import BINARIES

    sections = []
    for name in BINARIES:
        command = [sys.executable, "-m", "tfshape", name, "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        sections.append(f"## {name}\n\n```text\n{done.stdout}```\n")
    return "\n".join(sections)
