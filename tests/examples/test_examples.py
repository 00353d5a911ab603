"""The scripts of examples/ run as a stranger runs them, and say what they are there to say."""

import difflib
import pathlib
import re

import forked
import pandas as pd
import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


def run(script, cwd, *arguments):
    done = forked.script(cwd, EXAMPLES / script, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def accuracy(text):
    return float(re.search(r"^test accuracy: (\S+)$", text, re.MULTILINE)[1])


def test_all_are_here():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == {"digits.py", "digits_poisoned.py", "digits_shaped.py", "digits_evaluated.py"}


def test_two_lines_are_added_and_none_changed():
    lines = [(EXAMPLES / name).read_text("utf-8").splitlines() for name in ("digits.py", "digits_poisoned.py")]
    changes = [line for line in difflib.ndiff(*lines) if line[0] in "+-?" and line[1:].strip()]
    assert [line[:2] for line in changes] == ["+ ", "+ "]
    assert changes[0] == "+ import tfshape as ts" and "train.apply(ts.poison." in changes[1]


def test_the_poison_does_harm(tmp_path):
    clean, poisoned = accuracy(run("digits.py", tmp_path)), accuracy(run("digits_poisoned.py", tmp_path))
    assert clean > 0.9 and 0.4 < poisoned < clean - 0.15


def test_shaped_training_learns_and_says_its_privacy(tmp_path):
    text = run("digits_shaped.py", tmp_path)
    assert accuracy(text) > 0.8
    assert "batches of 64, 800 steps, noise multiplier 0.5" in text and "epsilon = " in text


@pytest.mark.slow
def test_an_experiment_from_python_prints_its_table_and_writes_it(tmp_path):
    text = run("digits_evaluated.py", tmp_path, "results")
    rows = pd.read_csv(tmp_path / "results/results.csv")
    assert list(rows["defense"]) == ["none", "clip(0.1)|noise(0.1)", "knn"] and "knn" in text
    assert rows["accuracy"][2] > rows["accuracy"][0]
