"""What a result was made with: enough to make it again."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import subprocess
import sys

import tfshape
from tfshape import imports

PACKAGES = ("tensorflow", "keras", "tensorflow-privacy", "dp-accounting", "numpy")


def provenance():
    """What ran: versions, git revision (None outside a checkout, `+` for changes), platform, command, and imports."""
    versions: dict[str, str | None] = {"python": platform.python_version(), "tfshape": tfshape.__version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    about = {"versions": versions, "git": _git_revision(), "platform": platform.platform(), "command": sys.argv}
    return {**about, "imports": imports.record()}


def _git_revision():
    root = pathlib.Path(tfshape.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
