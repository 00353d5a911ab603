"""The example of the README: a plain Keras script poisoned in two added lines, on every stack at hand."""

import difflib
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLAIN, POISONED = ROOT / "examples/digits.py", ROOT / "examples/digits_poisoned.py"


def interpreters():
    """This Python and, where there is one, that of the Keras 3 stack."""
    found = {"this": sys.executable}
    other = os.environ.get("TFSHAPE_KERAS3_PYTHON", ROOT / ".venv-keras3/bin/python")
    if os.path.exists(other):
        found["keras3"] = str(other)
    return found


def accuracy(python, script):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([python, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(re.fullmatch(r"test accuracy: (\S+)\n", done.stdout)[1])


def test_two_lines_are_added_and_none_changed():
    lines = [path.read_text("utf-8").splitlines() for path in (PLAIN, POISONED)]
    changes = [line for line in difflib.ndiff(*lines) if line[0] in "+-?" and line[1:].strip()]
    assert [line[:2] for line in changes] == ["+ ", "+ "]
    assert changes[0] == "+ import tfshape as ts" and "train.apply(ts.poison." in changes[1]


@pytest.mark.parametrize("python", interpreters().values(), ids=interpreters())
def test_the_poison_does_harm(python):
    clean, poisoned = accuracy(python, PLAIN), accuracy(python, POISONED)
    assert clean > 0.9 and 0.4 < poisoned < clean - 0.15
