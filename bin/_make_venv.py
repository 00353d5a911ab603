"""Builds ROOT/FOLDER from setup.py and a constraints file; a last file, `ready`, tells a whole one from a half-made."""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import venv


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
        # a third of all modules are ever imported: `_compile` is for those
        pip = [target / "bin/python", "-m", "pip", "install", "-qq", "--no-compile", "--disable-pip-version-check"]
        if folder == ".venv":
            steps = [["--constraint", root / constraints, "--editable", f"{root}[test]"]]
        else:  # setup.py asks for the other stack on Python 3.11, so the whole list is installed as it stands
            steps = [["--no-deps", "--requirement", root / constraints], ["--no-deps", "--editable", root]]
        for step in steps:
            code = subprocess.call([*pip, *step], stdout=sys.stderr)
            if code:
                print(f"tfshape: installing into {folder} failed (pip exit code {code}); see above", file=sys.stderr)
                return 1
        ready.write_text(stamp + "\n")
        _compile(target / "bin/python")
    return 0


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
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.call([python, "-c", code], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    try:
        sys.exit(main(pathlib.Path(sys.argv[1]), *sys.argv[2:]))
    except KeyboardInterrupt:
        sys.exit(130)
