"""Victims trained side by side are those that are trained alone."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfshape as ts
from tfshape import evaluation
from tfshape.evaluation import accounting, victims
from tfshape.studies import trial
from tfshape.training import stacking

pytestmark = pytest.mark.one_stack


def experiment(**options):
    options = {"attack": "label_flip", "budget": 0.2, "dataset": "digits", "trials": 3, "batch_size": 100, **options}
    return ts.Experiment(**{"learning_rate": 0.003, "epochs": 2, **options})


def untimed(results):
    dropped = ("seconds", "crafting_seconds")
    return [[{k: v for k, v in row.items() if k not in dropped} for row in result["rows"]] for result in results]


@pytest.mark.parametrize(
    ("model", "shaping", "options"),
    [
        ("lr", "clip(0.5)|noise(0.1)", {}),
        pytest.param("lr", "none", {"optimizer": "momentum"}, marks=pytest.mark.slow),
        pytest.param("mlp", "clip(0.5)", {}, marks=pytest.mark.slow),
        pytest.param("mlp", "clip(0.5)|noise(0.1)", {"optimizer": "sgd"}, marks=pytest.mark.slow),
        pytest.param("lr", "clip(0.5)|noise(0.1)", {"sampling": "shuffle"}, marks=pytest.mark.slow),
        pytest.param("mlp", "none", {"scenario": "finetune"}, marks=pytest.mark.slow),
        pytest.param("cnn", "none", {"epochs": 1}, marks=pytest.mark.slow),
    ],
)
def test_each_is_as_if_alone(model, shaping, options):
    e = experiment(model=model, shaping=shaping, **options)
    plan = evaluation.plan(e)
    choice = list(plan.defenses.values())[-1]
    assert all(stacking.can(setting, choice) for setting in plan.settings)
    poisons = [setting.craft(plan.counts[0])[0] for setting in plan.settings]
    examples = [setting.examples("poison", p)[:2] for setting, p in zip(plan.settings, poisons)]
    together = [setting.new_victim() for setting in plan.settings]
    seeds, scheme = [setting.seed("victim") for setting in plan.settings], accounting.sampling(e, choice.shaper)
    stacking.train(together, [choice.shaper] * 3, victims.recipe(e), seeds, examples, scheme)
    x = plan.dataset.test.x
    logits = [ts.models.predict(model, x) for model in together]
    for setting, p, stacked in zip(plan.settings, poisons, logits):
        known = {}
        victims.train_and_measure(setting, choice, "poison", p, known)
        ((_, (predict, *_), _),) = known.values()
        np.testing.assert_allclose(stacked, predict(x), atol=1e-4)
    assert np.abs(logits[0] - logits[1]).max() > 0.01  # of their own


@pytest.mark.parametrize(
    ("model", "scheme"),
    [
        ("lr", "shuffle"),
        pytest.param("mlp", "shuffle", marks=pytest.mark.slow),
        pytest.param("lr", "poisson", marks=pytest.mark.slow),
    ],
)
def test_defenses_side_by_side_on_the_same_batches(model, scheme):
    """Undefended, clipped and noisy victims of one seed, with their accuracies after every epoch."""
    data = ts.datasets.load("digits")
    recipe = ts.training.Recipe("adam", 0.003, batch_size=100, epochs=2)
    names = ["clip(0.02)", "clip(0.5)|noise(0.0)", "clip(0.5)|noise(0.1)"]
    shapers = [None] * (scheme == "shuffle") + [ts.shaping.parse(name) for name in names]
    together = [ts.models.build(model, data.input_shape, 10, seed=3) for _ in shapers]
    examples = data.train.x, data.train.y
    paths = stacking.train(together, shapers, recipe, [7] * len(shapers), examples, scheme, data.test)
    assert paths.shape == (2, len(shapers))
    logits = []
    for k, (shaper, stacked) in enumerate(zip(shapers, together)):
        alone = ts.models.build(model, data.input_shape, 10, seed=3)
        shaped = ts.shape(alone, shaper, batch_size=None if scheme == "shuffle" else 100, seed=7)
        ts.training.fit(shaped, data.train.as_dataset(), recipe, 7, sampling=scheme)
        logits.append(ts.models.predict(stacked, data.test.x))
        np.testing.assert_allclose(logits[-1], ts.models.predict(alone, data.test.x), atol=1e-4)
        assert paths[-1, k] == pytest.approx(ts.models.accuracy(stacked, data.test), abs=1e-6)
    assert min(np.abs(one - other).max() for one, other in zip(logits, logits[1:])) > 0.01  # of their own


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"model": "lr", "shaping": "normalize()"}, False),
        ({"model": "cnn", "shaping": "clip(1.0)"}, False),
        ({"model": "mlp", "scenario": "transfer"}, False),
        ({"model": "lr", "optimizer": "adagrad"}, False),
        ({"model": "lr", "secure_noise": True}, False),
        ({"model": "lr", "defense": "spectral_signatures"}, False),
        ({"model": "mlp", "shaping": "clip(1.0)"}, True),
        ({"model": "cnn", "shaping": "none"}, True),
    ],
)
def test_what_can_be_stacked(options, allowed, monkeypatch):
    plan = evaluation.plan(experiment(**options))
    setting, choice = plan.settings[0], list(plan.defenses.values())[-1]
    monkeypatch.setattr(type(setting), "initial_model", None)
    assert stacking.can(setting, choice) == allowed


@pytest.mark.slow
def test_stacked_trials_have_the_rows_of_single_ones(tmp_path):
    config = experiment(model="lr", shaping="clip(0.5)|noise(0.1)").to_dict()
    config = json.loads(json.dumps({name: value for name, value in config.items() if name != "trials"}))
    stacked = trial.run.stacked(config, [0, 1, 2], tmp_path / "stacked")
    single = [trial.run(config, k, tmp_path / "single") for k in range(3)]
    for one, other in zip(untimed(stacked), untimed(single)):
        for row, same in zip(one, other):
            assert row.keys() == same.keys()
            assert row["accuracy"] == pytest.approx(same["accuracy"], abs=1e-4)
            assert row["class_accuracy"] == pytest.approx(same["class_accuracy"], abs=0.02)
            kept = [name for name in row if name not in ("accuracy", "class_accuracy")]
            assert [row[name] for name in kept] == [same[name] for name in kept]


def test_no_magnitude_exceeds_the_clip():
    """Inputs whose squares overflow, errors whose squares underflow, and an ordinary example beside them."""
    sizes = np.array([1, 1e18, 1e25, 1e-30, 1e30], "float32")
    x, y = np.ones((1, 5, 4), "float32") * sizes[:, None], np.zeros((1, 5), "int32")
    weights = [np.zeros((1, 4, 2), "float32"), np.zeros((1, 2), "float32")]
    for logit in (0.0, 20.0, 50.0):  # the larger, the smaller the errors
        weights[1][..., 0] = logit
        for clip in (1e-30, 1e-3, 1.0):
            for row in range(5):
                marks = np.eye(5, dtype="float32")[row][None]
                arguments = map(tf.constant, (x, y, marks, np.float32(1), np.float32([clip])))
                found = stacking._gradients((("dense", False),), list(map(tf.constant, weights)), *arguments)
                norm = np.sqrt(sum(np.sum(np.float64(part) ** 2) for part in found))
                errors = np.array([np.float32(0.5) if logit == 0 else 0.0, 1 / (1 + np.exp(np.float64(logit)))])
                right = min(clip, np.linalg.norm(errors) * np.sqrt(1 + 4 * np.float64(sizes[row]) ** 2))
                assert norm <= right * 1.0005, (logit, clip, row)
                assert clip < 1e-3 or norm >= right * 0.9995, (logit, clip, row)  # less where a scale underflows
