"""Builds ROOT/FOLDER from setup.py and a constraints file; a last file, `ready`, tells a whole one from a half-made."""

import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import venv

BACKEND = {"setuptools", "wheel"}  # builds what has no wheel, and tfshape itself
EXTRA = {"ray"}  # of .venv only: large, and what most never use


def main(root, folder, constraints, stamp):
    target = root / folder
    ready = target / "ready"
    with open(root / ".venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second binary started meanwhile waits, then finds the work done
        if ready.exists() and ready.read_text().strip() == stamp:
            return 0
        again = "rebuilding the unfinished or outdated" if target.exists() else "setting up"
        version = ".".join(map(str, sys.version_info[:2]))
        print(f"tfshape: {again} {folder} with Python {version}; a few minutes and 3 GB, once", file=sys.stderr)
        shutil.rmtree(target, ignore_errors=True)
        venv.create(target, with_pip=True)
        pins = _pins((root / constraints).read_text("utf-8"))
        for names in (pins.keys() & BACKEND, pins.keys() - BACKEND - (EXTRA if folder == ".venv" else set())):
            wanted = target / "requirements.txt"
            wanted.write_text("".join(text for name in sorted(names) for text in pins[name]), "utf-8")
            if not _install(target, "--require-hashes", "--requirement", wanted):
                return 1
        if not _install(target, "--editable", root):
            return 1
        ready.write_text(stamp + "\n")
        _compile(target / "bin/python")
    return 0


def _pins(text):
    """The requirements in a constraints file, each a line and its hashes: dict of name to the list of them."""
    found = {}
    for block in re.findall(r"^[a-z].*\n(?: .*\n)*", text, re.MULTILINE):
        found.setdefault(block.partition("==")[0], []).append(block)
    return found


def _install(target, *what):
    """Whether pip installs it; if not, says why. The package index is asked for nothing that is not pinned."""
    log = target / "pip.log"
    # a third of all modules are ever imported: `_compile` is for those
    options = ["--no-deps", "--no-build-isolation", "--use-pep517", "--no-compile", "--disable-pip-version-check"]
    with log.open("ab") as output:  # in a session of its own, where Ctrl-C does not reach it
        command = [target / "bin/python", "-I", "-m", "pip", "install", *options, *what]
        pip = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            code = pip.wait()
        except KeyboardInterrupt:
            os.killpg(pip.pid, signal.SIGKILL)
            raise
    if code:
        lines = log.read_text("utf-8", "replace").splitlines()
        errors = [line.strip() for line in lines if re.match(r"\s*(ERROR|error|\w*Error)\b", line)] or lines
        causes = [before.strip() for before, line in zip(lines, lines[1:]) if "[end of output]" in line]
        cause = "; ".join(dict.fromkeys([*causes[-1:], *errors[-2:]]))
        print(f"tfshape: installing into {target.name} failed: {cause}; all that pip said is in {log}", file=sys.stderr)
    return not code


def _compile(python):
    """Imports what most runs do, so that none of them compiles it again where PYTHONDONTWRITEBYTECODE is set."""
    code = """import contextlib, importlib
for name in (
    "tensorflow", "keras", "pandas", "scipy.stats", "matplotlib.pyplot", "sklearn.neighbors", "cvxpy",
    "dp_accounting", "tensorflow_privacy", "tensorflow_datasets",
):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
"""
    subprocess.call([python, "-Ic", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        sys.exit(main(pathlib.Path(sys.argv[1]), *sys.argv[2:]))
    except KeyboardInterrupt:
        os._exit(130)
    except (OSError, subprocess.CalledProcessError) as error:
        folder = pathlib.Path(sys.argv[1], sys.argv[2])
        print(
            f"tfshape: {folder} cannot be made: {error}. Put tfshape where files can be written, "
            "or install it in a Python environment that is first on the path, as BUILD.md says",
            file=sys.stderr,
        )
        sys.exit(1)
