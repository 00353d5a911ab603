"""The callback on plain and shaped models: what it records, where it writes, and what it refuses."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf
from analysis_helpers import LOSS, batch, conv_model, dense_model

import tfshape as ts

Watch = ts.analysis.GradientArtifacts


def poisoned(rng, rows=48, shape=(6,)):
    x, y = batch(rng, rows, shape)
    return x, y, rng.permutation(np.arange(rows) < rows // 6)


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("build", [dense_model, conv_model])
def test_it_records_the_model_as_it_is_after_each_epoch_and_leaves_training_alone(rng, tmp_path, build):
    data = poisoned(rng, shape=(6,) if build is dense_model else (6, 6, 2))
    finals = []
    for watch in (None, Watch(data, csv_path=tmp_path / "new" / "a.csv", examples=None)):
        keras.utils.set_random_seed(1)
        model = build()
        model.compile(keras.optimizers.SGD(0.1), LOSS)
        callbacks = [] if watch is None else [watch]
        fit = model.fit(*data[:2], batch_size=16, epochs=3, verbose=0, callbacks=callbacks)
        finals.append(model.get_weights())
    for a, b in zip(*finals):
        np.testing.assert_array_equal(a, b)
    found = ts.gradients.per_example(model, LOSS, *data[:2], training=False)
    expected = ts.analysis.artifacts(found, data[2])
    rows = read(tmp_path / "new" / "a.csv")
    assert [int(row["epoch"]) for row in rows] == [e for e in range(4) for _ in expected]
    for row, want in zip(rows[-len(expected) :], expected):
        assert (row["view"], row["layer"]) == (want["view"], want["layer"])
        for key in set(want) - {"view", "layer"}:
            assert float(row[key]) == pytest.approx(want[key], rel=1e-4, abs=1e-6), key
    assert watch.history["cosine"] == fit.history["cosine"] and len(fit.history["cosine"]) == 3
    assert watch.start["cosine"] == pytest.approx(float(rows[0]["cosine"]))
    assert fit.history["magnitude_ratio"][-1] == pytest.approx(expected[0]["magnitude_ratio"], rel=1e-4)


@pytest.mark.parametrize("shaping", ["clip(0.1)|noise(1.0)", "per_layer_clip(0.1)", "geometric_median()"])
def test_a_shaped_model_shows_both_sides_of_the_shaping(rng, shaping):
    x, y, marks = poisoned(rng)
    model = ts.shape(dense_model(), ts.shaping.parse(shaping), seed=0)
    model.compile("sgd", LOSS)
    watch = Watch((x, y, marks), examples=None)
    fit = model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[watch])
    found = ts.gradients.per_example(model.model, LOSS, x, y, training=False)
    raw, *_, shaped, _, _ = ts.analysis.artifacts(found, marks, model.example_weights(found))
    assert shaped["view"] == "shaped" and shaped["layer"] == "all"
    for key in ("magnitude_ratio", "cosine", "share", "poison_norm_95"):
        assert fit.history[key][-1] == pytest.approx(raw[key], rel=1e-4)
        assert fit.history[f"shaped_{key}"][-1] == pytest.approx(shaped[key], rel=1e-4)
    if "clip" in shaping:
        assert fit.history["shaped_poison_norm_95"][-1] <= 0.1 * 1.0001 < raw["poison_norm_95"]


def test_every_batch_is_recorded_from_a_bounded_sample_and_an_epoch_is_their_mean(rng, tmp_path):
    x, y, marks = poisoned(rng)
    model = dense_model()
    model.compile("sgd", LOSS)
    watch = Watch((x, y, marks), every="batch", examples=12, csv_path=tmp_path / "b.csv")
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[watch])
    rows = [row for row in read(tmp_path / "b.csv") if row["layer"] == "all"]
    assert [(row["epoch"], row["batch"]) for row in rows] == [
        ("0", ""),
        *((epoch, batch) for epoch in "12" for batch in "012"),
    ]
    mean = np.mean([float(row["cosine"]) for row in rows[1:4]])
    assert watch.history["cosine"][0] == pytest.approx(mean) and len(watch.history["cosine"]) == 2


def test_tensorboard_gets_every_layer(rng, tmp_path):
    x, y, marks = poisoned(rng)
    model = dense_model()
    model.compile("sgd", LOSS)
    watch = Watch((x, y, marks), log_dir=tmp_path)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[watch])
    found = {}
    for path in tmp_path.glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert {layer for tag, _ in found for layer in [tag.split("/")[1]]} == {"all", "hidden", "logits"}
    for step in (1, 2):
        assert found["cosine/all/raw", step] == pytest.approx(watch.history["cosine"][step - 1], rel=1e-6)


def test_a_dataset_and_arrays_give_the_same(rng):
    x, y, marks = poisoned(rng)
    histories = []
    for data in ((x, y, marks), tf.data.Dataset.from_tensor_slices((x, y, marks))):
        model = dense_model()
        model.compile("sgd", LOSS)
        watch = Watch(data, examples=20)
        model.fit(x, y, shuffle=False, verbose=0, callbacks=[watch])
        histories.append(watch.history)
    assert histories[0] == histories[1]


def test_a_sample_keeps_the_share_of_poison_and_one_at_least(rng):
    from tfshape.analysis.callback import draw

    marks = np.arange(1000) < 100
    for examples, count in ((50, 5), (4, 1), (2, 1), (None, 100)):
        rows = draw(1000, marks, examples, rng)
        assert len(set(rows)) == len(rows) == (examples or 1000) and marks[rows].sum() == count
    assert 0 in draw(1000, np.arange(1000) < 1, 20, rng)


def test_nests_of_inputs_and_of_labels(rng):
    x, y, marks = poisoned(rng)
    left, right = keras.Input([3], name="left"), keras.Input([3], name="right")
    both = keras.layers.Concatenate()([left, right])
    model = keras.Model({"left": left, "right": right}, [keras.layers.Dense(3)(both), keras.layers.Dense(1)(both)])
    model.compile("sgd", [LOSS, "mse"])
    inputs, labels = {"left": x[:, :3], "right": x[:, 3:]}, (y, x[:, :1])

    def loss(true, found):
        first = keras.losses.sparse_categorical_crossentropy(true[0], found[0], from_logits=True)
        return first + tf.reduce_mean((true[1] - found[1]) ** 2, -1)

    with pytest.raises(ValueError, match="loss must be given, where the model is not compiled with exactly one"):
        model.fit(inputs, labels, verbose=0, callbacks=[Watch((inputs, labels, marks))])
    watch = Watch((inputs, labels, marks), loss=loss, examples=None)
    model.fit(inputs, labels, verbose=0, callbacks=[watch])
    found = ts.gradients.per_example(model, loss, inputs, labels, training=False)
    assert watch.history["cosine"][0] == pytest.approx(ts.analysis.artifacts(found, marks)[0]["cosine"], rel=1e-4)


def test_without_known_poison_the_alarm_names_indices_of_the_data(rng):
    x, y = batch(rng, 300)
    y = (x[:, 0] > 0).astype("int32")
    trusted = np.zeros(300, bool)
    trusted[rng.choice(300, 100, replace=False)] = True
    bad = rng.choice(np.flatnonzero(~trusted), 60, replace=False)
    y[bad] = 1 - y[bad]
    model = dense_model()
    model.compile(keras.optimizers.Adam(0.02), LOSS)
    watch = Watch((x, y), trusted=trusted)
    model.fit(x, y, batch_size=30, epochs=8, verbose=0, callbacks=[watch])
    assert watch.alarm.fired and watch.alarm.p_value <= 0.01
    assert np.isin(watch.alarm.suspicious, bad).mean() > 0.6
    assert not trusted[watch.alarm.suspicious].any()
    assert "suspicious" in str(watch.alarm) and "1.0%" in str(watch.alarm)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": "step"}, "every must be one of epoch, batch, got 'step'"),
        ({"examples": 1}, "examples must be an integer >= 2, got 1"),
        ({"batch_size": True}, "batch_size must be an integer >= 2, got True"),
        ({"trusted": np.zeros(48, bool)}, "trusted must be None where is_poison"),
        ({"data": (1,)}, "data must be"),
        ({"data": (np.zeros(3), np.zeros(4))}, "data must be arrays of one length"),
        ({"data": (np.zeros(3), np.zeros(3), np.zeros(3))}, "is_poison must be one bool"),
        ({"data": (np.zeros(3), np.zeros(3)), "trusted": np.ones(3, bool)}, "trusted must be one bool per example"),
        (
            {"data": (np.zeros(3), np.zeros(3)), "trusted": np.arange(3) < 2, "false_alarm_rate": 2},
            "false_alarm_rate must be .*, got 2",
        ),
    ],
)
def test_bad_values_are_refused_in_a_line(rng, options, words):
    options = {"data": poisoned(rng), **options}
    with pytest.raises(ValueError, match=words) as error:
        Watch(**options)
    assert "\n" not in str(error.value)


def test_a_model_without_a_loss_is_refused(rng):
    watch = Watch(poisoned(rng))
    watch.set_model(dense_model())
    with pytest.raises(ValueError, match="loss must be given"):
        watch.on_train_begin()
