"""TracIn against its definition and against what a step of SGD really does."""

import keras
import numpy as np
import pytest
from analysis_helpers import LOSS, batch, dense_model

import tfshape as ts


def flat(parts, rows):
    return np.concatenate([np.asarray(part, np.float64).reshape(rows, -1) for part in parts], 1)


def test_it_is_the_sum_over_checkpoints_of_dots_with_the_target(rng, tmp_path):
    x, y = batch(rng, 20)
    tx, ty = batch(rng, 2)
    model = dense_model()
    model.compile("sgd", LOSS)
    checkpoints, expected = [], np.zeros(20)
    for k, rate in enumerate((0.5, 0.1)):
        model.fit(x, y, verbose=0, epochs=2)
        path = tmp_path / f"{k}.weights.h5"
        model.save_weights(path)
        checkpoints.append(path if k else model.get_weights())
        found = ts.gradients.per_example(model, LOSS, x, y, training=False)
        target = ts.gradients.per_example(model, LOSS, tx, ty, training=False)
        expected += rate * flat(found.materialize(), 20) @ flat(target.materialize(), 2).mean(0)
    model.fit(x, y, verbose=0)
    before = model.get_weights()
    scores = ts.analysis.influence(model, checkpoints, x, y, tx, ty, learning_rates=(0.5, 0.1), batch_size=8)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_the_score_is_how_much_a_step_on_the_example_lowers_the_target_loss(rng):
    x, y = batch(rng, 6)
    tx, ty = batch(rng, 1)
    model = dense_model()
    start, rate = model.get_weights(), 1e-3
    scores = ts.analysis.influence(model, [start], x, y, tx, ty, loss=LOSS, learning_rates=[rate])
    for i in range(6):
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(rate), LOSS)
        before = float(LOSS(ty, model(tx)))
        model.fit(x[i : i + 1], y[i : i + 1], verbose=0)
        assert before - float(LOSS(ty, model(tx))) == pytest.approx(scores[i], rel=0.05, abs=1e-5)


def test_precision_counts_poison_among_the_highest():
    scores, marks = np.array([3.0, -1.0, 2.0, 5.0]), np.array([True, False, False, True])
    assert [ts.analysis.precision_at(k, scores, marks) for k in (1, 2, 3, 4)] == [1, 1, 2 / 3, 0.5]
    with pytest.raises(ValueError, match="k must be an integer from 1 to 4, got 5"):
        ts.analysis.precision_at(5, scores, marks)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checkpoints": []}, "checkpoints must be at least one"),
        ({"learning_rates": [1, 2]}, "one for each of the 1 checkpoints"),
        ({"target_x": np.zeros((0, 6)), "target_y": []}, "at least one target"),
        ({"y": np.zeros(4, int)}, "must have one length"),
        ({"loss": None}, "loss must be given"),
    ],
)
def test_bad_values_are_refused(rng, change, words):
    model = dense_model()
    x, y = batch(rng, 5)
    options = {"checkpoints": [model.get_weights()], "x": x, "y": y, "target_x": x[:1], "target_y": y[:1], "loss": LOSS}
    with pytest.raises(ValueError, match=words):
        ts.analysis.influence(model, **{**options, **change})
