"""`python -m tfshape analyze` as a user types it."""

import json
import os
import pathlib
import re
import subprocess
import sys

import forked
import numpy as np
import pandas as pd
import pytest

import tfshape as ts

pytestmark = pytest.mark.one_stack

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = ["--dataset=digits", "--model=lr", "--epochs=2", "--batch_size=50"]
CONFIGS = sorted((ROOT / "configs" / "analysis").glob("*.flags"))


def run(cwd, *flags):
    return forked.run(cwd, "analyze", *flags)


def test_a_study_prints_a_table_an_epoch_and_writes_its_files(tmp_path):
    flags = ["--attack=interpolation", "--alpha=0,1", "--num_poisons=30", "--shaping=clip(0.1)", "--output_dir=out"]
    done = run(tmp_path, *QUICK, *flags)
    assert done.returncode == 0, done.stderr
    titles = [f"alpha {a}, {d}: 30 of" for a in (0, 1) for d in ("none", r"clip\(0.1\)")]
    assert all(re.search(title, done.stdout) for title in titles)
    assert done.stdout.count("before shaping") == 4 and done.stdout.count("after shaping\n epoch") == 2
    folder = tmp_path / "out"
    for name in ("artifacts", "norms", "layers"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    epochs = pd.read_csv(folder / "epochs.csv")
    assert epochs["epoch"].tolist() == [0, 1, 2] * 4
    rows = pd.read_csv(folder / "artifacts-alpha-1-clip-0.1.csv")
    assert set(rows["epoch"]) == {0, 1, 2} and set(rows["view"]) == {"raw", "shaped"}
    shaped = rows[(rows["view"] == "shaped") & (rows["layer"] == "all")]
    assert (shaped["poison_norm_95"] <= 0.1001).all()
    plain = epochs[epochs["defense"] == "none"].groupby("study")["cosine"].last()
    assert plain["alpha 1"] < plain["alpha 0"]
    config = json.loads((folder / "config.json").read_text())
    assert config["flags"]["alpha"] == ["0", "1"] and config["experiment"]["attack"] == "interpolation"
    with np.load(folder / "trusted.npz", allow_pickle=False) as trusted:
        assert len(trusted["x"]) == len(trusted["y"]) == 100

    again = run(tmp_path, *QUICK, *flags)
    assert again.returncode == 2 and again.stderr.startswith(
        "analyze: output_dir must be a new folder, not one with results, got 'out'"
    )


def test_the_smoke_alarm_goes_off_on_flips_and_not_without(tmp_path):
    flags = ["--attack=label_flip", "--budget=0.4", "--trusted=200", "--trials=2", "--output_dir=out", "--quiet"]
    done = run(tmp_path, *QUICK, *flags)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    found = pd.read_csv(tmp_path / "out" / "alarms.csv").groupby("data")["fired"].sum()
    assert found["poison"] == 2 and found["clean"] == 0
    assert "false-alarm rate 0.01, 200 trusted examples" in done.stdout


@pytest.mark.slow
def test_saved_poison_is_watched_as_crafted_poison_is(tmp_path):
    crafted = run(tmp_path, *QUICK, "--attack=label_flip", "--budget=0.1", "--output_dir=crafted", "--quiet")
    poisons = ts.attacks.get("label_flip")().craft(first_problem())
    poisons.save(tmp_path / "trial-000.npz")
    saved = run(tmp_path, *QUICK, "--poisons=.", "--output_dir=saved", "--quiet")
    assert crafted.returncode == saved.returncode == 0, crafted.stderr + saved.stderr
    tables = [pd.read_csv(tmp_path / name / "epochs.csv").drop(columns="study") for name in ("crafted", "saved")]
    pd.testing.assert_frame_equal(*tables)


def first_problem():
    """What the attacker of the first trial of the quick experiment has."""
    from tfshape import evaluation

    settings = {"dataset": "digits", "model": "lr", "epochs": 2, "batch_size": 50}
    plan = evaluation.plan(ts.Experiment(attack="label_flip", budget=0.1, **settings))
    return plan.settings[0].problem(plan.counts[0])


@pytest.mark.slow
def test_tracin_finds_the_poison_of_a_targeted_attack(tmp_path):
    attack = "--attack=gradient_matching(steps=30, ensemble=1, checkpoints=1, retrain=0)"
    flags = ["--dataset=digits", "--model=mlp", "--epochs=3", "--tracin", "--trials=2", "--output_dir=out"]
    done = run(tmp_path, *flags, attack)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out" / "tracin.csv")
    assert set(table["trial"]) == {0, 1} and set(table["ranking"]) == {"TracIn", "gradient norm", "chance"}
    precision = table[table["k"] == 10].groupby("ranking")["precision"].mean()
    assert precision["TracIn"] > 2 * precision["chance"] > 0
    with np.load(tmp_path / "out" / "influence-001.npz") as found:
        chosen = np.argsort(-found["scores"], kind="stable")[:10]
        of_trial = table[(table["trial"] == 1) & (table["k"] == 10) & (table["ranking"] == "TracIn")]
        assert found["is_poison"][chosen].mean() == pytest.approx(of_trial["precision"].item())
    assert re.search(r"none\s+\d/2\s+TracIn\s+[\d.]+ \[", done.stdout)


BAD = [
    (["--attack=interpolation", "--alpha=2"], "alpha must be numbers from 0 to 1, such as 0.1,0.4, got '2'"),
    (
        ["--attack=label_flip", "--tracin"],
        "tracin must be left out with label_flip, which is not a targeted",
    ),
    (["--attack=gradient_matching", "--tracin", "--trusted=9"], "trusted must be left out with --tracin, got 9"),
    (["--attack=label_flip", "--trusted=1"], "trusted must be an integer from 2 to 1000000, got 1"),
    (["--attack=nothing"], "got 'nothing'"),
]
BAD_TOO = [
    (["--alpha=0.5"], "alpha must be left out unless attack is interpolation, got (0.5,)"),
    (["--attack=interpolation(base_class=1)"], "other_class must be another class than base_class, got 1"),
    (["--attack=feature_insertion", "--patch_size=99"], "size"),
    (["--attack=label_flip", "--num_poisons=1,2"], "num_poisons must be one count for bin/analyze, got (1, 2)"),
    (["--attack=label_flip", "--shaping=clop(1)"], "clop"),
    (["--attack=label_flip", "--defense=spectral_signatures"], "defense must be shapings for bin/analyze"),
    (["--attack=label_flip", "--examples=1"], "examples must be an integer from 2 to 1000000, got 1"),
    (["--attack=label_flip", "--output_dir=/proc/nowhere"], "output_dir='/proc/nowhere'"),
]


@pytest.mark.parametrize(("flags", "words"), [*BAD, *(pytest.param(*case, marks=pytest.mark.slow) for case in BAD_TOO)])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, flags, words):
    done = run(tmp_path, *QUICK, "--output_dir=out", *flags)
    assert done.returncode == 2 and done.stdout == "", done.stdout
    assert done.stderr.startswith("analyze: ") and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


ABSENT = """
import sys
from tfshape.datasets import registry
def offline(*_): raise ValueError("offline")
registry._DEBIAN.clear()
registry.tfds.find, registry.tfds.download = lambda *_: None, offline
from tfshape.cli import analyze
try:
    analyze.run()
finally:
    print("tensorflow" in sys.modules)
"""


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if "dataset" in path.read_text()], ids=lambda path: path.stem
)
def test_the_flagfiles_say_that_they_need_the_full_dataset_before_tensorflow_loads(tmp_path, path):
    command = [sys.executable, "-c", ABSENT, f"--flagfile={path}", "--output_dir=out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("analyze: dataset fashion_mnist was not found"), done.stderr
    assert done.stdout == "False\n" and list(tmp_path.iterdir()) == []


def test_there_are_flagfiles():
    studies = {f"{study}_{model}" for study in ("interpolation", "insertion") for model in ("lr", "mlp")}
    assert {path.stem for path in CONFIGS} >= {*studies, "alarm_flips", "alarm_slab", "alarm_badnets"}
