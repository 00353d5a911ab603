"""`bin/*` find or make the Python environment they need; tried on a toy checkout whose package needs nothing."""

import os
import pathlib
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time

import keras
import pytest

pytestmark = pytest.mark.one_stack

BIN = pathlib.Path(__file__).resolve().parents[2] / "bin"
CONSTRAINTS = BIN.parent / "constraints.txt"
PINS = runpy.run_path(str(BIN / "_make_venv.py"))["_pins"]


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
    pins = "".join(pin for name in ("setuptools", "six", "wheel") for pin in PINS(CONSTRAINTS.read_text())[name])
    for name in ("constraints.txt", "constraints-keras3.txt"):
        (root / name).write_text(pins)
    script = root / "bin" / "which"
    script.write_text(
        '#!/bin/sh\n. "$(dirname -- "$0")/_environment.sh"\nexec "$python" -c "import sys; print(sys.prefix)"\n'
    )
    script.chmod(0o755)
    return root


def which(root, path, cwd="/", **variables):
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env.update(variables, PATH=path)
    return subprocess.run([root / "bin" / "which"], env=env, capture_output=True, text=True, cwd=cwd)


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
    (checkout / "setup.py").write_text("raise SystemExit('broken on purpose')\n")
    done = which(checkout, path, stack=other)  # makes its own, or has no Python for it
    assert done.returncode == 1 and done.stdout == ""
    assert f"installing into .venv{'-keras3' * (other == 'keras3')} failed" in done.stderr or "no Python" in done.stderr
    assert done.stderr.count("\n") <= 2


@pytest.mark.parametrize("flag", ["--stack=jax", "--stack="])
def test_an_unknown_stack_is_one_line(flag):
    done = subprocess.run([BIN / "test", flag], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == [f"test: {flag[2:]}: allowed are main, keras3"]


def test_venv_is_made_once_and_rebuilt_if_half_made_or_outdated(checkout, tmp_path):
    # This Python without what is installed in its environment.
    path = path_with(tmp_path / "bin", python3_11=f'exec "{real_python()}" -I "$@"', python3="exit 1")
    prefix = str(checkout / ".venv")
    sprung, downloaded = tmp_path / "sprung", tmp_path / "downloaded"
    downloaded.mkdir()
    for name in ("ensurepip", "venv", "pip", "logging", "setuptools", "runpy", "sitecustomize"):
        (downloaded / f"{name}.py").write_text(f"open({str(sprung)!r}, 'a').write({name!r})\nraise ImportError\n")
    first = which(checkout, path, cwd=downloaded, PYTHONPATH=":", PYTHONDONTWRITEBYTECODE="1")
    assert not sprung.exists(), sprung.read_text()  # nothing is imported from where it was started
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
    assert done.returncode == 1 and not (checkout / ".venv" / "ready").exists()
    first, last = done.stderr.splitlines()
    assert "rebuilding" in first and last.startswith("tfshape: installing into .venv failed: broken on purpose; ")
    assert last.endswith(f"all that pip said is in {checkout / '.venv' / 'pip.log'}")


def python3_11(tmp_path):
    return path_with(tmp_path / "bin", python3_11=f'exec "{real_python()}" -I "$@"', python3="exit 1")


def test_what_is_not_the_file_that_was_pinned_is_not_installed(checkout, tmp_path):
    text = (checkout / "constraints.txt").read_text()
    (checkout / "constraints.txt").write_text(re.sub(r"(?<=\n    --hash=sha256:)\w{4}", "0000", text))
    done = which(checkout, python3_11(tmp_path))
    assert done.returncode == 1 and not (checkout / ".venv" / "ready").exists()
    assert "hash" in done.stderr.lower() and done.stderr.count("\n") == 2, done.stderr


@pytest.mark.parametrize("constraints", ["constraints.txt", "constraints-keras3.txt"])
def test_every_pin_has_its_hashes(constraints):
    text = (BIN.parent / constraints).read_text()
    pins = [pin for named in PINS(text).values() for pin in named]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", pin) for pin in pins) and "://" not in text
    assert len(pins) == len(re.findall(r"^[^ #\n]", text, re.MULTILINE))


def test_a_checkout_that_cannot_be_written_is_one_line_and_runs_what_is_there(checkout, tmp_path):
    (checkout / ".venv.lock").mkdir()  # no file can be opened there, whoever asks
    path = python3_11(tmp_path)
    done = which(checkout, path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert f"{checkout / '.venv'} cannot be made" in done.stderr and "BUILD.md" in done.stderr

    stamp = subprocess.run(
        ["cksum"],
        input=(checkout / "setup.py").read_bytes() + (checkout / "constraints.txt").read_bytes(),
        capture_output=True,
    ).stdout
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(real_python())
    (checkout / ".venv" / "ready").write_bytes(stamp)
    done = which(checkout, path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("seconds", [0.02, 0.5, 1.5, 3.0])
def test_interrupted_set_up(checkout, tmp_path, seconds):
    process = subprocess.Popen(
        [checkout / "bin" / "which"],
        env={"PATH": python3_11(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(seconds)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=30)[1]
    assert process.returncode in (130, -signal.SIGINT) and err.count("\n") <= 1 and "Traceback" not in err, err
    assert not (checkout / ".venv" / "ready").exists()
