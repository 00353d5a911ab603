"""For MkDocs: puts the flags of the binaries, as `--help` prints them, where a page says `{{flags}}`."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def on_page_markdown(markdown, **_):
    """The page with the help texts filled in."""
    return markdown.replace("{{flags}}", flags()) if "{{flags}}" in markdown else markdown


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
