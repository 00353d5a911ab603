"""Builds ROOT/.venv from setup.py and constraints.txt; a last file, `ready`, tells a whole one from a half-made one."""

import fcntl
import pathlib
import shutil
import subprocess
import sys
import venv


def main(root, stamp):
    target = root / ".venv"
    ready = target / "ready"
    with open(root / ".venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second binary started meanwhile waits, then finds the work done
        if ready.exists() and ready.read_text().strip() == stamp:
            return 0
        again = "rebuilding the unfinished or outdated" if target.exists() else "setting up"
        version = ".".join(map(str, sys.version_info[:2]))
        print(f"tfshape: {again} .venv with Python {version}; a few minutes and 3 GB, once", file=sys.stderr)
        shutil.rmtree(target, ignore_errors=True)
        venv.create(target, with_pip=True)
        command = [target / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--constraint", root / "constraints.txt", "--editable", f"{root}[test]"]
        code = subprocess.call(command, stdout=sys.stderr)
        if code:
            print(f"tfshape: installing into .venv failed (pip exit code {code}); see above", file=sys.stderr)
            return 1
        ready.write_text(stamp + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit(130)
