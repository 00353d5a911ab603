"""`bin/benchmark --suite=attacks`: the same problem for both tools, measured by the same rule."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tfshape import models
from tfshape.benchmarks import attacks

pytestmark = pytest.mark.one_stack

ROOT = pathlib.Path(__file__).resolve().parents[2]
# stands for ART: noise of the full size, which meets the bounds and matches nothing
NOISE = """
import sys, numpy as np
problem = np.load(sys.argv[2])
signs = np.random.default_rng(0).choice([-1, 1], problem["x"].shape)
x = np.clip(problem["x"] + float(problem["eps"]) * signs, 0, 1).astype(np.float32)
np.savez(sys.argv[3], x=x, seconds=7.0)
"""


@pytest.mark.slow
def test_ours_matches_and_a_stand_in_of_the_same_size_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(attacks, "STEPS", 40)
    monkeypatch.setattr(attacks, "VICTIMS", 1)
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{NOISE}")
    python.chmod(0o755)
    seen = []
    rows = attacks.rows(str(python), trials=1, save=lambda rows: seen.append(len(rows)))
    ours, untouched, other = rows
    assert [row["tool"] for row in rows] == ["tfshape", "untouched", "ART"] and seen == [3]
    assert ours["matching_loss"] < untouched["matching_loss"] - 0.1 < other["matching_loss"]
    assert (
        other["seconds"] == 7 and other["ratio"] == pytest.approx(7 / ours["seconds"]) and untouched["seconds"] is None
    )
    assert "ART" in attacks.table(rows)


def test_the_worker_of_art_takes_the_weights_that_keras_gives():
    """Its program cannot run here; the order and number of the arrays it relies on can be seen."""
    weights = models.build("small_cnn", (28, 28, 1), 10).get_weights()
    assert [weight.ndim for weight in weights] == [4, 1, 4, 1, 2, 1, 2, 1]
    assert weights[4].shape == (5 * 5 * 32, 64) and np.prod(weights[0].shape) == 9 * 16


def test_flags_of_other_suites_are_refused(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for flags, words in (
        (["--suite=attacks", "--models=mlp"], "models must be left out unless suite is shaping, got ['mlp']"),
        (["--suite=poison", "--art_python=x"], "art_python must be left out unless suite is attacks, got 'x'"),
        (["--suite=attacks", "--art_python=/nowhere/python"], "got '/nowhere/python'"),
    ):
        command = [sys.executable, "-m", "tfshape", "benchmark", *flags]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 2 and words in done.stderr and not list(tmp_path.iterdir())
