"""`python -m tfshape` lists the binaries and runs them; each has a file in bin/ and an installed command."""

import pathlib
import subprocess
import sys

import pytest

from tfshape.cli import BINARIES

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "tfshape", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_list():
    done = run()
    assert done.returncode == 0 and all(name in done.stdout for name in BINARIES)
    wrong = run("evalute")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "evalute" in wrong.stderr


@pytest.mark.parametrize("name", BINARIES)
def test_every_binary_has_help_a_file_and_an_entry_point(name):
    done = run(name, "--help")
    assert done.returncode == 0 and f"bin/{name}" in done.stdout and "--[no]quiet" in done.stdout
    assert f"-m tfshape {name} " in (ROOT / "bin" / name).read_text()
    assert f"tfshape-{name} = tfshape.cli.{name}:run" in (ROOT / "setup.py").read_text()
    assert done.stderr == ""
