"""`python -m tfshape NAME …` runs one of the binaries; `bin/NAME` and the installed `tfshape-NAME` do the same.

`python -m tfshape completion` prints what bash needs to complete their flags.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the working directory, or this file's folder: modules there must not shadow others

import functools
import importlib

from tfshape import checks
from tfshape.cli import BINARIES, interrupt


def main() -> int | None:
    """Runs the binary named first on the command line; without a name, lists them."""
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name in BINARIES:
        del sys.argv[1]
        return run(name)
    if name == "completion":
        from tfshape.cli import completion

        print(completion.script(), end="")
        return 0
    listing = "\n".join(f"  {key:<10} {text}" for key, text in BINARIES.items())
    wrong = name not in (None, "--help", "-h", "help")
    if wrong:
        names = [*BINARIES, "completion"]
        listing = ", ".join(names)
        tip = checks.did_you_mean(name, names)
        print(f"tfshape: NAME must be one of {listing}, got {checks.shown(name)}{tip}", file=sys.stderr)
    else:
        print(f"python -m tfshape NAME [flags], where NAME is one of:\n{listing}")
        print("python -m tfshape completion prints what bash needs to complete their flags")
    return 2 if wrong else 0


def run(name: str) -> int | None:
    """Runs a binary on the flags in `sys.argv`."""
    interrupt.ends_at_once()
    from tfshape.cli import common

    with common.explained(name):
        module = importlib.import_module(f"tfshape.cli.{name}")
    return module.run()


def __getattr__(name):
    """The installed `tfshape-NAME` calls `tfshape.__main__:NAME`."""
    if name in BINARIES:
        return functools.partial(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(main())
