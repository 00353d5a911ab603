"""Experiments end to end on a small dataset: rows, files, resuming, determinism."""

import json
import math

import numpy as np
import pandas as pd
import pytest

import tfshape as ts

TIMES = ["seconds"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The path of a three-class dataset of 12 features, easy but for some noise."""
    generator = np.random.default_rng(0)
    centres = generator.uniform(0.2, 0.8, size=(3, 12))
    arrays = {}
    for part, size in (("train", 240), ("test", 90)):
        y = np.arange(size) % 3
        arrays[f"x_{part}"] = np.clip(centres[y] + 0.1 * generator.normal(size=(size, 12)), 0, 1).astype(np.float32)
        arrays[f"y_{part}"] = y.astype(np.int32)
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(path, **arrays)
    return f"npz:{path}"


def flips(small, **options):
    options = {"budget": 0.4, "trials": 2, "epochs": 4, "batch_size": 24, "learning_rate": 0.05, **options}
    return ts.Experiment(attack="label_flip", dataset=small, model="lr", **options)


def without_times(results):
    return results.frame().drop(columns=TIMES)


def test_label_flip_rows_and_files(small, tmp_path):
    seen = []
    results = ts.evaluate(flips(small), tmp_path, progress=lambda *args: seen.append(args))
    frame = results.frame()
    assert list(frame["defense"]) == ["none", "clip(1.0)|noise(1.0)"]
    assert frame["num_poisons"].eq(96).all() and frame["trials"].eq(2).all() and frame["asr"].isna().all()
    assert frame["control_accuracy"][0] > 0.9
    assert frame["accuracy_loss"][0] == pytest.approx(frame["control_accuracy"][0] - frame["accuracy"][0])
    assert frame["epsilon"][0] == math.inf
    expected = ts.privacy.epsilon(1.0, 24, 240, 40, 1e-5, sampling="shuffle")
    assert frame["epsilon"][1] == pytest.approx(expected)
    assert frame["epsilon_if_poisson"][1] < frame["epsilon"][1]
    assert [done for done, total, words in seen] == list(range(11)) and {total for _, total, _ in seen} == {10}
    read = pd.read_csv(tmp_path / "results.csv")
    pd.testing.assert_frame_equal(
        read.fillna("none"), frame.astype(object).where(frame.notna(), "none"), check_dtype=False
    )
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == results.trials and len(lines) == 8
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["experiment"] == json.loads(json.dumps(flips(small).to_dict())) and config["schema"] == 1
    assert config["versions"]["tensorflow"] and "git" in config
    poisons = ts.poison.Poisons.load(tmp_path / "poisons" / "trial-000.npz")
    assert len(poisons.y) == 96 and poisons.attack == "label_flip"


def test_trials_differ_and_the_seed_repeats_them(small):
    first, again, other = (ts.evaluate(flips(small, controls=False, seed=seed)) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(without_times(first), without_times(again))
    rows = [[row["accuracy"] for row in results.trials] for results in (first, other)]
    assert rows[0] != rows[1] and rows[0][:2] != rows[0][2:]


def test_interrupted_run_keeps_what_it_finished_and_goes_on(small, tmp_path):
    experiment = flips(small, controls=False)
    whole = ts.evaluate(experiment)

    def interrupt(done, total, words):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ts.evaluate(experiment, tmp_path, progress=interrupt)
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 3
    with open(tmp_path / "trials.jsonl", "a") as file:
        file.write('{"schema": 1, "trial": 1, "defen')  # what a kill in the middle of a write leaves
    worked = []
    resumed = ts.evaluate(experiment, tmp_path, progress=lambda done, total, words: worked.append(done))
    pd.testing.assert_frame_equal(without_times(resumed), without_times(whole))
    assert worked == [3, 5, 6]
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 4
    with pytest.raises(ValueError, match=r"^output_dir=.*another experiment"):
        ts.evaluate(flips(small, controls=False, seed=3), tmp_path)


def test_without_controls(small):
    results = ts.evaluate(flips(small, controls=False, trials=1, shaping="none"))
    assert len(results.trials) == 1 and results.frame()["control_accuracy"].isna().all()
    assert "without attack" not in results.table()


@pytest.mark.parametrize("scenario", ["scratch", "finetune"])
def test_targeted_rows(small, scenario):
    attack = "gradient_matching(steps=5, ensemble=1, checkpoints=1, retrain=0)"
    e = ts.Experiment(
        attack=attack,
        dataset=small,
        model="lr",
        scenario=scenario,
        trials=1,
        epochs=4,
        batch_size=24,
        learning_rate=0.05,
    )
    results = ts.evaluate(e)
    frame = results.frame()
    assert frame["num_poisons"].eq(12).all() and frame["asr"].between(0, 1).all()
    assert frame["control_trials"].eq(1).all() and frame["target_rule"].eq("runner_up").all()
    for row in results.trials:
        assert (
            row["success"] == (row["predicted_label"] == row["intended_label"])
            and row["intended_label"] != row["true_label"]
        )
    assert (frame["epsilon"][1] == math.inf) == (scenario == "finetune")
    assert "runner_up" in results.caption() and "attack success rate" in results.table()


def test_the_control_is_clean_training(small):
    """With eps too small to matter the attacked victim equals its control."""
    attack = "gradient_matching(steps=1, ensemble=1, checkpoints=1, retrain=0)"
    options = {"epochs": 2, "batch_size": 24, "trials": 1, "learning_rate": 0.05}
    results = ts.evaluate(ts.Experiment(attack=attack, dataset=small, model="lr", eps=1e-9, **options))
    accuracies = {(row["defense"], row["data"]): row["accuracy"] for row in results.trials}
    assert accuracies["none", "poison"] == accuracies["none", "control"]
