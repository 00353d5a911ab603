"""Experiments end to end on a small dataset: rows, files, resuming, determinism."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import three_classes

import tfshape as ts
from tfshape.evaluation import victims

pytestmark = pytest.mark.one_stack

TIMES = ["seconds"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return three_classes.write(tmp_path_factory.mktemp("data"), 240, 90)


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
    assert frame["epsilon"][1] == pytest.approx(ts.privacy.epsilon(1.0, 24, 240, 40, 1e-5))
    assert frame["sampling"].tolist() == ["shuffle", "poisson"]
    assert [done for done, _, _ in seen] == [0, 1, 2] and {total for _, total, _ in seen} == {2}
    read = pd.read_csv(tmp_path / "results.csv")
    pd.testing.assert_frame_equal(
        read.fillna("none"), frame.astype(object).where(frame.notna(), "none"), check_dtype=False
    )
    assert ts.evaluation.Results.load(tmp_path).trials == results.trials and len(results.trials) == 8
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["experiment"] == json.loads(json.dumps(flips(small).to_dict())) and config["schema"] == 3
    assert config["versions"]["tensorflow"] and "git" in config
    poisons = ts.poison.Poisons.load(tmp_path / "poisons" / "trial-000.npz")
    assert len(poisons.y) == 96 and poisons.attack == "label_flip"


def test_trials_differ_and_the_seed_repeats_them(small):
    first, again, other = (ts.evaluate(flips(small, controls=False, seed=seed)) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(without_times(first), without_times(again))
    rows = [[row["accuracy"] for row in results.trials] for results in (first, other)]
    assert rows[0] != rows[1] and rows[0][:2] != rows[0][2:]


def test_interrupted_run_keeps_what_it_finished_and_goes_on(small, tmp_path, monkeypatch):
    experiment = flips(small, controls=False)
    whole = ts.evaluate(experiment)
    trained, train = [], victims.train

    def interrupt(*arguments, **options):
        trained.append(arguments)
        if len(trained) == 4:
            raise KeyboardInterrupt
        train(*arguments, **options)

    monkeypatch.setattr(victims, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):  # while the second victim of the second trial is trained
        ts.evaluate(experiment, tmp_path)
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 2
    with open(tmp_path / "trials.jsonl", "a") as file:
        file.write('{"schema": 3, "trial": 1, "defen')  # what a kill in the middle of a write leaves
    resumed = ts.evaluate(experiment, tmp_path)
    assert len(trained) == 5  # that victim, and no other
    pd.testing.assert_frame_equal(without_times(resumed), without_times(whole))
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


MATCHING = "gradient_matching(steps=5, ensemble=1, checkpoints=1, retrain=0)"
QUICK = {"model": "lr", "trials": 1, "epochs": 4, "batch_size": 24, "learning_rate": 0.05}


def test_several_defenses_stand_side_by_side_on_the_same_poison(small):
    names = ["none", "clip(1.0)|noise(0.1)", "knn", "deep_partition_aggregation(partitions=5)"]
    results = ts.evaluate(
        ts.Experiment(attack="label_flip", dataset=small, budget=0.2, defense=", ".join(names), **QUICK)
    )
    frame = results.frame().set_index("defense")
    assert list(frame.index) == names and frame["num_poisons"].eq(48).all()
    assert frame.loc["knn", "detection_recall"] > 0.8 and frame.loc["knn", "detection_precision"] > 0.8
    assert frame["detection_recall"].isna().tolist() == [True, True, False, True]
    assert frame["certified_accuracy"].isna().tolist() == [True, True, True, False]
    assert frame.loc["knn", "accuracy"] >= frame.loc["none", "accuracy"]
    assert {"precision", "recall", "certified"} <= set(results.table())
    classes = results.classes().set_index(["defense", "trained on"])
    assert len(classes) == 8
    for row in results.trials:
        assert classes.loc[(row["defense"], row["data"])].tolist() == pytest.approx(row["class_accuracy"], abs=1e-3)


@pytest.mark.slow
def test_the_curve_over_numbers_of_poisons_and_the_cost(small, tmp_path):
    e = ts.Experiment(attack=MATCHING, dataset=small, num_poisons=(1, 4), adaptive=True, **QUICK)
    results = ts.evaluate(e, tmp_path)
    keys = [(row["num_poisons"], row["defense"], row["data"]) for row in results.trials]
    shaped = "clip(1.0)|noise(1.0)"
    each = [("none", "poison"), ("none", "control"), *((shaped, d) for d in ("poison", "adaptive", "control"))]
    assert keys == [(count, *rest) for count in (1, 4) for rest in each]
    assert len({row["target_index"] for row in results.trials}) == 1
    assert results.frame()["num_poisons"].tolist() == [1, 1, 4, 4] and "poisons" in results.table()
    files = {path.name for path in (tmp_path / "poisons").iterdir()}
    assert files == {f"trial-000-{k}{tail}.npz" for k in (1, 4) for tail in ("", "-clip_1.0__noise_1.0_")}
    one, other = (
        ts.poison.Poisons.load(tmp_path / "poisons" / f"trial-000-4{t}.npz") for t in ("", "-clip_1.0__noise_1.0_")
    )
    assert one.config["shaping"] is None and other.config["shaping"] == shaped and (one.x != other.x).any()

    results.records = [  # the cost is read off the successes
        dataclasses.replace(v, success=(v.data, v.defense, v.count) == ("poison", "none", 4)) for v in results.records
    ]
    cost = results.cost()
    assert cost["median cost"].tolist() == ["4", "> 4", "> 4"]
    assert cost["withstood"].tolist() == ["> 4 in 0 of 1", "> 4 in 1 of 1", "> 4 in 1 of 1"]


def test_saved_poison_gives_the_rows_that_crafting_gave(small, tmp_path):
    options = {"attack": MATCHING, "dataset": small, "num_poisons": 4, **QUICK}
    first = ts.evaluate(ts.Experiment(**options), tmp_path / "first")
    folder = tmp_path / "first" / "poisons"
    again = ts.evaluate(ts.Experiment(**options, poisons=str(folder)))
    (tmp_path / "plain").mkdir()
    for path in folder.iterdir():  # as another program would save it
        arrays = {name: array for name, array in np.load(path).items() if name != "meta"}
        np.savez(tmp_path / "plain" / path.name, **arrays)
    plain = ts.evaluate(ts.Experiment(**options, poisons=str(tmp_path / "plain")))
    names = ["defense", "data", "accuracy", "predicted_label", "success"]
    rows = [[[row[n] for n in names] for row in found.trials] for found in (first, again, plain)]
    assert rows[0] == rows[1] == rows[2]
    with pytest.raises(ValueError, match=r"^poisons must be a folder with .npz files of poison, got "):
        ts.evaluate(ts.Experiment(poisons=str(tmp_path)))
    with pytest.raises(ValueError, match=r"^poisons must be .*digits has them, got .*trial-000.npz"):
        ts.evaluate(ts.Experiment(poisons=str(folder), dataset="digits"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes of 8 x 8 images, dark and bright, with noise."""
    generator = np.random.default_rng(1)
    arrays = {}
    for part, size in (("train", 200), ("test", 60)):
        y = np.arange(size) % 2
        x = 0.3 + 0.3 * y[:, None, None, None] + 0.1 * generator.normal(size=(size, 8, 8, 1))
        arrays.update({f"x_{part}": np.clip(x, 0, 1).astype(np.float32), f"y_{part}": y.astype(np.int32)})
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_a_backdoor_is_measured_on_stamped_test_images(images):
    options = {"attack": "badnets(size=3)", "dataset": images, "budget": 0.1, **QUICK}
    results = ts.evaluate(ts.Experiment(**{**options, "epochs": 20}))
    frame = results.frame().set_index("defense")
    assert frame.loc["none", "asr"] > 0.9 and frame.loc["none", "control_asr"] < 0.1
    assert frame.loc["none", "accuracy"] > 0.9 and "ceiling" in frame
    assert frame["target_rule"].isna().all()


def test_transfer_trains_the_last_layer_only(images):
    options = {"attack": "feature_collision(steps=5)", "dataset": images, "num_poisons": 1, **QUICK, "model": "mlp"}
    results = ts.evaluate(ts.Experiment(**options, scenario="transfer", finetune_examples=50, finetune_epochs=3))
    frame = results.frame()
    assert frame["num_examples"].eq(50).all() and frame["knowledge"].eq("white_box").all()
    assert frame["epsilon"].eq(math.inf).all() and frame["ceiling"].eq(1).all()


def test_the_ceiling_is_the_accountants_and_binds(small):
    e = ts.Experiment(attack=MATCHING, dataset=small, num_poisons=1, **{**QUICK, "trials": 2}, noise=20.0)
    results = ts.evaluate(e)
    row = results.frame().iloc[1]
    clean = ts.evaluation.statistics.wilson(row["control_successes"], 2)[1]
    plan = (20.0, 24, 240, 40)
    expected = ts.certificates.poisoning_ceiling(*plan, 1, clean, truncation=ts.privacy.sampling.TRUNCATION)
    assert row["ceiling"] == pytest.approx(expected) and row["ceiling"] < 1
    assert row["asr_low"] <= row["ceiling"] and "ceiling" in results.table()


@pytest.mark.slow
def test_the_noise_for_an_epsilon_is_sought_once(small, monkeypatch):
    """Not for every row that is written: it takes seconds."""
    sought = []
    real = ts.privacy.noise_for
    monkeypatch.setattr(ts.privacy, "noise_for", lambda *args, **options: sought.append(args) or real(*args, **options))
    results = ts.evaluate(ts.Experiment(attack=MATCHING, dataset=small, num_poisons=1, epsilon=3.0, **QUICK))
    row = results.frame().iloc[1]
    assert len(sought) == 1 and row["epsilon"] <= 3.0 and 0 < row["ceiling"] <= 1
