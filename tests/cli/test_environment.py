"""`bin/*` find or make the Python environment they need; tried on a toy checkout whose package needs nothing."""

import os
import pathlib
import shutil
import subprocess
import sys

import keras
import pytest

BIN = pathlib.Path(__file__).resolve().parents[2] / "bin"


@pytest.fixture
def checkout(tmp_path):
    """A folder with this repository's set-up files, a package without needs, and a binary that names its Python."""
    root = tmp_path / "check out"
    (root / "bin").mkdir(parents=True)
    for name in ("_environment.sh", "_make_venv.py"):
        shutil.copy(BIN / name, root / "bin" / name)
    (root / "keras.py").write_text("")
    (root / "setup.py").write_text(
        "import setuptools\nsetuptools.setup(name='toy', py_modules=['keras'], extras_require={'test': []})\n"
    )
    (root / "constraints.txt").write_text("six==1.17.0\n")
    (root / "constraints-keras3.txt").write_text("six==1.17.0\n")
    script = root / "bin" / "which"
    script.write_text(
        '#!/bin/sh\n. "$(dirname -- "$0")/_environment.sh"\nexec "$python" -c "import sys; print(sys.prefix)"\n'
    )
    script.chmod(0o755)
    return root


def which(root, path, **variables):
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env.update(variables, PATH=path)
    return subprocess.run([root / "bin" / "which"], env=env, capture_output=True, text=True, cwd="/")


def path_with(folder, **commands):
    """A PATH that has, of all Pythons, only these commands, each a shell script."""
    folder.mkdir()
    for tool in ("sh", "dirname", "readlink", "cat", "cksum"):
        (folder / tool).symlink_to(shutil.which(tool))
    for name, body in commands.items():
        (folder / name.replace("_", ".")).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name.replace("_", ".")).chmod(0o755)
    return str(folder)


def real_python():
    return os.path.realpath(sys.executable)


def test_no_supported_python_says_which_to_install(checkout, tmp_path):
    done = which(checkout, path_with(tmp_path / "bin", python3="exit 1"))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "Python 3.9 to 3.13" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_has_everything_is_used(checkout, tmp_path):
    done = which(
        checkout, path_with(tmp_path / "bin", python3=f'PYTHONPATH="{BIN.parent}" exec "{sys.executable}" "$@"')
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, sys.prefix, "")
    assert not (checkout / ".venv").exists()


def test_the_second_stack_has_an_environment_of_its_own(checkout, tmp_path):
    path = path_with(tmp_path / "bin", python3_12=f'exec "{real_python()}" -I "$@"', python3="exit 1")
    prefix = str(checkout / ".venv-keras3")
    first = which(checkout, path)  # no Python of the first stack is at hand
    assert (first.returncode, first.stdout.strip()) == (0, prefix), first.stderr
    assert "setting up .venv-keras3" in first.stderr and not (checkout / ".venv").exists()
    second = which(checkout, path, stack="keras3")
    assert (second.returncode, second.stdout.strip(), second.stderr) == (0, prefix, "")
    third = which(checkout, path, stack="main")
    assert third.returncode == 1 and third.stderr.count("\n") == 1 and "main needs 3.9, 3.10 or 3.11" in third.stderr


def test_a_python_of_the_other_stack_is_not_used(checkout, tmp_path):
    other = "main" if keras.__version__.startswith("3.") else "keras3"
    path = path_with(tmp_path / "bin", python3=f'PYTHONPATH="{BIN.parent}" exec "{sys.executable}" "$@"')
    own = "keras3" if other == "main" else "main"
    assert which(checkout, path, stack=own).stdout.strip() == sys.prefix
    (checkout / "constraints-keras3.txt").write_text("no such requirement\n")
    (checkout / "setup.py").write_text("raise SystemExit('broken on purpose')\n")
    done = which(checkout, path, stack=other)  # makes its own, or has no Python for it
    assert done.returncode == 1 and done.stdout == ""
    assert f"installing into .venv{'-keras3' * (other == 'keras3')} failed" in done.stderr or "no Python" in done.stderr


@pytest.mark.parametrize("flag", ["--stack=jax", "--stack="])
def test_an_unknown_stack_is_one_line(flag):
    done = subprocess.run([BIN / "test", flag], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == [f"test: {flag[2:]}: allowed are main, keras3"]


def test_venv_is_made_once_and_rebuilt_if_half_made_or_outdated(checkout, tmp_path):
    # This Python without what is installed in its environment.
    path = path_with(tmp_path / "bin", python3_11=f'exec "{real_python()}" -I "$@"', python3="exit 1")
    prefix = str(checkout / ".venv")
    first = which(checkout, path, PYTHONDONTWRITEBYTECODE="1")
    assert (first.returncode, first.stdout.strip()) == (0, prefix), first.stderr
    assert first.stderr.count("tfshape:") == 1 and "setting up .venv" in first.stderr
    assert list((checkout / "__pycache__").glob("keras.*.pyc"))  # what all runs import is compiled once for all
    second = which(checkout, path)
    assert (second.returncode, second.stdout.strip(), second.stderr) == (0, prefix, "")

    (checkout / ".venv" / "ready").unlink()  # as a killed install leaves it
    (checkout / ".venv" / "left over").touch()
    third = which(checkout, path)
    assert (third.returncode, third.stdout.strip()) == (0, prefix)
    assert "rebuilding" in third.stderr and not (checkout / ".venv" / "left over").exists()

    (checkout / "setup.py").write_text("raise SystemExit('broken on purpose')\n")  # an outdated one is rebuilt, too
    done = which(checkout, path)
    assert done.returncode == 1 and "rebuilding" in done.stderr and "installing into .venv failed" in done.stderr
    assert not (checkout / ".venv" / "ready").exists()
