"""For MkDocs: puts the flags of the binaries, as `--help` prints them, where a page says `{{flags}}`; mends tables."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def on_page_markdown(markdown, **_):
    """The page with the help texts filled in."""
    return markdown.replace("{{flags}}", flags()) if "{{flags}}" in markdown else markdown


def on_post_page(output, **_):
    """Attributes that share a description, `a, b: …`, whose other names stand where the type should."""
    cell = r"<code><span[^>]*>(\w+),</span></code></td>\s*<td>\s*<code>(.*?)</code>"
    return re.sub(cell, lambda found: _names(found[1], found[2]), output, flags=re.DOTALL)


def _names(first, others):
    others = re.sub(r"<[^>]*>|[()]", "", others)
    return f"<code>{first}</code>, " + ", ".join(f"<code>{name}</code>" for name in others.split(", ")) + "</td><td>"


def flags():
    """A section a binary: its name, and its help text as it stands."""
    sys.path.insert(0, str(ROOT))
    from tfshape.cli import BINARIES

    sections = []
    for name in BINARIES:
        command = [sys.executable, "-m", "tfshape", name, "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        sections.append(f"## {name}\n\n```text\n{done.stdout}```\n")
    return "\n".join(sections)
