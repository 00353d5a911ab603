"""One step of a shaped model against gradients computed one example at a time."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from shaping_helpers import (
    CROSS_ENTROPY,
    KERAS3,
    Capture,
    batch,
    clipped,
    conv_model,
    dense_model,
    example_gradients,
    flat,
    two_outputs,
    update,
)

import tfshape as ts

S = ts.shaping


def close(actual, expected, rtol=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("build, shape", [(dense_model, (4,)), (conv_model, (6, 6, 2))])
def test_clip_is_the_mean_of_clipped_gradients(rng, build, shape):
    model, (x, y) = build(), batch(rng, 6, shape)
    g = example_gradients(model, x, y)
    clip = float(np.median(np.linalg.norm(g, axis=1)))
    close(update(ts.shape(model, S.Clip(clip)), x, y), clipped(g, clip).mean(0))


def test_float64_to_1e_10(rng):
    model, (x, y) = dense_model(dtype="float64"), batch(rng, 6, dtype="float64")
    g = example_gradients(model, x, y)
    clip = float(np.median(np.linalg.norm(g, axis=1)))
    close(update(ts.shape(model, S.Clip(clip)), x, y), clipped(g, clip).mean(0), rtol=1e-10)


def test_normalize(rng):
    model, (x, y) = dense_model(), batch(rng, 6)
    g = example_gradients(model, x, y)
    expected = (g * 0.7 / (np.linalg.norm(g, axis=1, keepdims=True) + 0.05)).mean(0)
    close(update(ts.shape(model, S.Normalize(0.7, gamma=0.05)), x, y), expected)


def test_per_layer_clip(rng):
    model, (x, y) = dense_model(), batch(rng, 6)
    g = example_gradients(model, x, y)
    first = int(np.prod(model.layers[0].kernel.shape)) + 5
    parts = [clipped(g[:, :first], 0.5 / np.sqrt(2)), clipped(g[:, first:], 0.5 / np.sqrt(2))]
    expected = np.concatenate(parts, axis=1)
    assert (np.linalg.norm(g[:, first:], axis=1) > 0.5 / np.sqrt(2)).any()
    close(update(ts.shape(model, S.PerLayerClip(0.5)), x, y), expected.mean(0))
    chain = S.Chain([S.PerLayerClip(0.5), S.Clip(0.3)])
    close(update(ts.shape(model, chain), x, y), clipped(expected, 0.3).mean(0))


def cosines(g, reference):
    return g @ reference / (np.linalg.norm(g, axis=1) * np.linalg.norm(reference))


def median(g, iterations=100):
    point = g.mean(0)
    for _ in range(iterations):
        w = 1 / np.maximum(np.linalg.norm(g - point, axis=1), 1e-12)
        point = (w[:, None] * g).sum(0) / w.sum()
    return point


@pytest.mark.parametrize("reference", ["batch_mean", "geometric_median"])
def test_orient(rng, reference):
    model, (x, y) = dense_model(), batch(rng, 8)
    g = example_gradients(model, x, y)
    c = cosines(g, g.mean(0) if reference == "batch_mean" else median(g, 10))
    bound = float(np.sort(c)[3:5].mean())
    close(
        update(ts.shape(model, S.Orient(bound, reference, drop=True)), x, y), (g * (c >= bound)[:, None]).mean(0), 1e-4
    )
    weights = np.where(c < bound, (1 + c) / (1 + bound), 1)
    close(update(ts.shape(model, S.Orient(bound, reference)), x, y), (g * weights[:, None]).mean(0), 1e-4)


def test_orient_behind_a_clip_sees_clipped_gradients(rng):
    model, (x, y) = dense_model(), batch(rng, 8)
    g = clipped(example_gradients(model, x, y), 0.5)
    bound = float(np.sort(cosines(g, g.mean(0)))[3:5].mean())
    keep = cosines(g, g.mean(0)) >= bound
    chain = S.Chain([S.Clip(0.5), S.Orient(bound, drop=True)])
    close(update(ts.shape(model, chain), x, y), (g * keep[:, None]).mean(0))


def test_orient_to_momentum_follows_past_updates(rng):
    model, (x, y) = dense_model(), batch(rng, 6)
    shaped = ts.shape(model, S.Orient(0.2, "momentum", drop=True, decay=0.5))
    optimizer = Capture(model.trainable_variables)
    shaped.compile(optimizer, loss=CROSS_ENTROPY)
    momentum, kept = 0.0, []
    for start in [0, 3, 0, 3]:
        g = example_gradients(model, x[start : start + 3], y[start : start + 3])
        keep = np.ones(3, bool) if np.ndim(momentum) == 0 else cosines(g, momentum) >= 0.2
        expected = (g * keep[:, None]).mean(0)
        shaped.train_on_batch(x[start : start + 3], y[start : start + 3])
        close(flat(optimizer.captured), expected)
        momentum = 0.5 * momentum + 0.5 * expected
        kept.append(keep.sum())
    assert min(kept) < 3


def test_geometric_median(rng):
    model, (x, y) = dense_model(), batch(rng, 7)
    g = example_gradients(model, x, y)
    close(update(ts.shape(model, S.GeometricMedian(iterations=60)), x, y), median(g), 1e-3)


def test_geometric_median_resists_huge_examples(rng):
    model, (x, y) = dense_model(), batch(rng, 9)
    g = example_gradients(model, x, y)
    weights = np.ones(9, "float32")
    weights[:2] = 1e4  # an example's weight multiplies its gradient
    robust = update(ts.shape(model, S.GeometricMedian()), x, y, weights)
    assert np.linalg.norm(robust) < 3 * np.linalg.norm(g[2:], axis=1).max()
    assert np.linalg.norm((g * weights[:, None]).mean(0)) > 100 * np.linalg.norm(robust)


@pytest.mark.parametrize("keep", [None, 1])
def test_krum(rng, keep):
    model, (x, y) = dense_model(), batch(rng, 9)
    g = example_gradients(model, x, y)
    squares = ((g[:, None] - g[None]) ** 2).sum(-1)
    scores = np.sort(squares, axis=1)[:, 1 : 1 + 9 - 2 - 2].sum(1)  # rate 0.2 of 9: f = 2
    chosen = np.argsort(scores)[: keep or 7]
    close(update(ts.shape(model, S.Krum(0.2, keep)), x, y), g[chosen].mean(0))


def test_trim(rng):
    model, (x, y) = dense_model(), batch(rng, 9)
    g = example_gradients(model, x, y)
    kept = np.argsort(np.linalg.norm(g - median(g, 10), axis=1))[:6]
    close(update(ts.shape(model, S.Trim(0.3)), x, y), g[kept].mean(0))


@pytest.mark.parametrize("shaper", [S.GeometricMedian(), S.Krum(0.2), S.Trim(0.2), S.Orient(0.1)], ids=str)
def test_padding_does_not_count_as_an_example(rng, shaper):
    model, (x, y) = dense_model(), batch(rng, 7)
    whole = update(ts.shape(model, shaper, batch_size=7), x, y)
    padded_x = np.concatenate([x, np.full([3, 4], np.nan, "float32")])
    padded_y, weights = np.concatenate([y, [0, 0, 0]]), np.array([1.0] * 7 + [0.0] * 3, "float32")
    close(update(ts.shape(model, shaper, batch_size=7), padded_x, padded_y, weights), whole)


def test_adaptive_clip_follows_the_quantile(rng):
    model, (x, y) = dense_model(), batch(rng, 20)
    g = example_gradients(model, x, y)
    norms = np.linalg.norm(g, axis=1)
    shaped = ts.shape(model, S.AdaptiveClip(0.5, initial=0.1, learning_rate=0.3, count_stddev=0.0))
    optimizer = Capture(model.trainable_variables)
    shaped.compile(optimizer, loss=CROSS_ENTROPY)
    clip = 0.1
    for _ in range(4):
        shaped.train_on_batch(x, y)
        close(flat(optimizer.captured), clipped(g, clip).mean(0), 1e-4)
        clip *= np.exp(-0.3 * ((norms <= clip).mean() - 0.5))
    shaped.fit(np.tile(x, [60, 1]), np.tile(y, 60), batch_size=20, shuffle=False, verbose=0)
    found = float(np.asarray(shaped.non_trainable_weights[0]))
    assert np.mean(norms <= 0.8 * found) <= 0.5 <= np.mean(norms <= 1.25 * found)


def test_sample_weights_multiply_before_the_clip(rng):
    model, (x, y) = dense_model(), batch(rng, 5)
    weights = np.array([2.0, 0.0, 0.5, 1.0, 3.0], "float32")
    g = example_gradients(model, x, y, weights)
    close(update(ts.shape(model, S.Clip(0.8)), x, y, weights), clipped(g, 0.8).mean(0))


@pytest.mark.parametrize(
    "shaper, bad, build, shape",
    [
        ("clip(0.5)", np.nan, conv_model, (6, 6, 2)),
        ("clip(0.5)", np.inf, dense_model, (4,)),
        ("normalize()", np.nan, dense_model, (4,)),
        ("per_layer_clip(1.0)", np.nan, conv_model, (6, 6, 2)),
        ("geometric_median", np.nan, conv_model, (6, 6, 2)),
        ("orient()", np.nan, dense_model, (4,)),
        ("krum()", np.inf, dense_model, (4,)),
    ],
)
def test_rows_that_are_not_finite_contribute_exactly_nothing_and_are_counted(rng, shaper, bad, build, shape):
    model, (x, y) = build(), batch(rng, 6, shape)
    broken = x.copy()
    broken[2].flat[1] = bad
    weights = np.array([1, 1, 0, 1, 1, 1], "float32")
    expected = update(ts.shape(model, S.parse(shaper)), x, y, weights)
    shaped = ts.shape(model, S.parse(shaper))
    np.testing.assert_array_equal(update(shaped, broken, y), expected)
    history = shaped.fit(broken, y, batch_size=2, epochs=2, verbose=0, validation_data=(x, y)).history
    assert history["nonfinite"] == [1.0, 1.0]
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["val_loss"]).all()
    assert "val_nonfinite" not in history


def test_padding_that_is_not_finite_is_not_counted(rng):
    model, (x, y) = dense_model(), batch(rng, 4)
    x[3] = np.nan
    shaped = ts.shape(model, S.Clip(1.0))
    shaped.compile("sgd", loss=CROSS_ENTROPY)
    history = shaped.fit(x, y, sample_weight=np.array([1, 1, 1, 0.0]), batch_size=4, verbose=0).history
    assert history["nonfinite"] == [0.0] and np.isfinite(history["loss"]).all()


def test_a_batch_of_nothing_but_padding_is_a_step_of_zero(rng):
    model, (x, y) = dense_model(), batch(rng, 4)
    for shaper in ("clip(1.0)", "normalize()", "orient()", "geometric_median", "krum()", "trim()"):
        found = update(ts.shape(model, S.parse(shaper)), x, y, np.zeros(4, "float32"))
        np.testing.assert_array_equal(found, np.zeros_like(found))


@pytest.mark.parametrize("text", ["clip(1.0)", "geometric_median", "orient()"])
def test_a_batch_without_rows_is_a_step_of_zero(rng, text):
    model = dense_model()
    shaped = ts.shape(model, S.parse(text))
    optimizer = Capture(model.trainable_variables)
    shaped.compile(optimizer, loss=CROSS_ENTROPY)
    x, y = batch(rng, 4)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4).map(lambda a, b: (a[:0], b[:0]))
    shaped.fit(data, verbose=0)
    np.testing.assert_array_equal(flat(optimizer.captured), 0)


def test_batch_size_is_the_divisor(rng):
    model, (x, y) = dense_model(), batch(rng, 6)
    g = example_gradients(model, x, y)
    close(update(ts.shape(model, S.Clip(0.5), batch_size=10), x, y), clipped(g, 0.5).sum(0) / 10)


@pytest.mark.parametrize(
    "shaping, microbatch, build, shape",
    [
        ("clip(0.5)", 1, dense_model, (4,)),
        ("clip(0.5)|noise(1.0)", 4, conv_model, (6, 6, 2)),
        ("clip(0.5)", 16, dense_model, (4,)),
        ("normalize()", 4, dense_model, (4,)),
        ("per_layer_clip(0.5)", 5, dense_model, (4,)),
        ("adaptive_clip(count_stddev=0.0)|clip(0.7)|noise(0.5)", 3, dense_model, (4,)),
        ("orient(reference='momentum')", 3, dense_model, (4,)),
        pytest.param("normalize()|noise(1.0)", 1, conv_model, (6, 6, 2), marks=pytest.mark.slow),
        pytest.param("per_layer_clip(0.5)", 3, conv_model, (6, 6, 2), marks=pytest.mark.slow),
        pytest.param("adaptive_clip()|noise(0.5)", 10, conv_model, (6, 6, 2), marks=pytest.mark.slow),
        pytest.param("clip(1)|orient(reference='momentum')|noise(1)", 7, conv_model, (6, 6, 2), marks=pytest.mark.slow),
    ],
)
def test_microbatches_give_the_same_update_and_metrics(rng, shaping, microbatch, build, shape):
    model, (x, y) = build(), batch(rng, 10, shape)
    x[5].flat[0] = np.nan
    weights = np.array([1, 1, 0, 2, 1, 1, 1, 1, 1, 0.5], "float32")
    found = []
    for size in (None, microbatch):
        shaped = ts.shape(model, S.parse(shaping), microbatch=size, seed=3)
        one = update(shaped, x, y, weights, compile_options={"metrics": ["accuracy"]})
        history = shaped.fit(x, y, sample_weight=weights, batch_size=10, verbose=0).history
        found.append((one, history, [np.asarray(w) for w in shaped.non_trainable_weights]))
    close(found[1][0], found[0][0])
    assert found[0][1]["nonfinite"] == found[1][1]["nonfinite"] == [1.0]
    np.testing.assert_allclose(found[1][1]["loss"], found[0][1]["loss"], rtol=1e-5)
    np.testing.assert_allclose(found[1][1]["accuracy"], found[0][1]["accuracy"])
    for a, b in zip(found[0][2], found[1][2]):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shaper", ["orient()", "geometric_median", "krum()", "trim()"])
def test_microbatches_are_refused_where_weights_need_the_whole_batch(shaper):
    with pytest.raises(ValueError, match=r"microbatch must be None with .* needs all rows, got 4"):
        ts.shape(dense_model(), S.parse(shaper), microbatch=4)


def test_regularisation_stays_outside_the_clip(rng):
    model = dense_model(kernel_regularizer=keras.regularizers.L2(0.1))
    x, y = batch(rng, 6)
    g = example_gradients(model, x, y)
    penalty = flat([0.2 * v.numpy() if len(v.shape) == 2 else 0 * v.numpy() for v in model.trainable_variables])
    expected = clipped(g, 0.5).mean(0) + penalty
    close(update(ts.shape(model, S.Clip(0.5)), x, y), expected)
    close(update(ts.shape(model, S.Clip(0.5), microbatch=4), x, y), expected)


def test_the_reported_loss_is_that_of_keras(rng):
    for model in (dense_model(), dense_model(kernel_regularizer="l2")):
        x, y = batch(rng, 7)
        shaped = ts.shape(model, S.Clip(1.0))
        shaped.compile(keras.optimizers.SGD(0.0), loss=CROSS_ENTROPY, metrics=["accuracy"])
        history = shaped.fit(x, y, batch_size=3, verbose=0, validation_data=(x, y)).history
        model.compile(loss=CROSS_ENTROPY, metrics=["accuracy"])
        expected = model.evaluate(x, y, verbose=0, return_dict=True)
        for key in ("loss", "accuracy"):
            np.testing.assert_allclose([history[key][0], history[f"val_{key}"][0]], expected[key], rtol=1e-5)


def losses():
    cls, function = keras.losses.SparseCategoricalCrossentropy, keras.losses.sparse_categorical_crossentropy
    yield "object", cls(from_logits=True)
    for reduction in ("sum", "none", "sum_over_batch_size"):
        yield reduction, cls(from_logits=True, reduction=reduction)
    yield "function", lambda t, p: function(t, p, from_logits=True)


@pytest.mark.parametrize("loss", [pytest.param(loss, id=name) for name, loss in losses()])
def test_any_loss_whatever_its_reduction(rng, loss):
    model, (x, y) = dense_model(), batch(rng, 5)
    close(update(ts.shape(model, S.Clip(0.5)), x, y, loss=loss), clipped(example_gradients(model, x, y), 0.5).mean(0))


def test_loss_by_name(rng):
    model, (x, _) = dense_model(), batch(rng, 5)
    y = rng.normal(size=[5, 3]).astype("float32")
    g = example_gradients(model, x, y, loss=lambda t, p: tf.reduce_mean((t - p) ** 2, -1))
    close(update(ts.shape(model, S.Clip(0.5)), x, y, loss="mse"), clipped(g, 0.5).mean(0))


@pytest.mark.parametrize("kind", [list, dict])
def test_several_outputs(rng, kind):
    model, (x, y) = two_outputs(), batch(rng, 5)
    z = rng.normal(size=[5, 3]).astype("float32")
    rows = []
    for i in range(5):
        with tf.GradientTape() as tape:
            left, right = model(x[i : i + 1])
            value = tf.reduce_sum(CROSS_ENTROPY(y[i : i + 1], left)) + 2 * tf.reduce_mean((right - z[i : i + 1]) ** 2)
        rows.append(flat(tape.gradient(value, [v.value if KERAS3 else v for v in model.trainable_variables])))
    loss, weights, target = [CROSS_ENTROPY, "mse"], [1.0, 2.0], [y, z]
    if kind is dict:
        loss, weights, target = ({"left": a, "right": b} for a, b in (loss, weights, target))
    shaped = ts.shape(model, S.Clip(0.7))
    found = update(shaped, x, target, loss=loss, compile_options={"loss_weights": weights})
    close(found, clipped(np.stack(rows), 0.7).mean(0))
    assert np.isfinite(shaped.evaluate(x, target, verbose=0, return_dict=True)["loss"])


def test_losses_that_do_not_fit_are_one_line():
    with pytest.raises(ValueError, match=r"^loss must be given.*, got None$"):
        ts.shape(dense_model(), S.Clip(1.0)).compile("sgd")
    with pytest.raises(ValueError, match=r"^loss must be a Keras loss by name.*, got 'nonsense'$"):
        ts.shape(dense_model(), S.Clip(1.0)).compile("sgd", "nonsense")
    with pytest.raises(ValueError, match=r"^loss must be a list or dict"):
        ts.shape(two_outputs(), S.Clip(1.0)).compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"^loss must name outputs among left, right, got 'up'$"):
        ts.shape(two_outputs(), S.Clip(1.0)).compile("sgd", {"up": "mse"})
    with pytest.raises(ValueError, match=r"^loss must be a list of 2, one entry for each output, got \['mse'\]$"):
        ts.shape(two_outputs(), S.Clip(1.0)).compile("sgd", ["mse"])
    for model, loss, weights, words in [
        (dense_model(), "mse", [0.5, 1], r"a list of 1, one entry for each output, got \[0.5, 1\]"),
        (dense_model(), "mse", ["half"], "a finite number, got 'half'"),
        (two_outputs(), ["mse", "mse"], [0.5], r"a list of 2, one entry for each output, got \[0.5\]"),
        (two_outputs(), ["mse", "mse"], 0.5, "a list or dict, with one entry for each output, got 0.5"),
    ]:
        with pytest.raises(ValueError, match=f"^loss_weights must be {words}$"):
            ts.shape(model, S.Clip(1.0)).compile("sgd", loss, loss_weights=weights)
    with pytest.raises(
        ValueError, match=r"^loss_weights must name outputs among left, right, got 'rigt'. Did you mean"
    ):
        ts.shape(two_outputs(), S.Clip(1.0)).compile("sgd", ["mse", "mse"], loss_weights={"rigt": 1.0})


@pytest.mark.parametrize("weights", [[0.5], 0.5, np.float32(0.5), {"out": 0.5}], ids=str)
def test_the_weight_of_a_single_loss_scales_it(rng, weights):
    inputs = keras.Input([4])
    model, (x, y) = keras.Model(inputs, keras.layers.Dense(3, name="out")(inputs)), batch(rng, 5)
    half = update(ts.shape(model, S.Clip(1e6)), x, y, compile_options={"loss_weights": weights})
    close(half, 0.5 * update(ts.shape(model, S.Clip(1e6)), x, y))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_close_to_full(rng, policy):
    x, y = batch(rng, 16)
    full = update(ts.shape(dense_model(), S.Clip(0.5)), x, y)
    half = dense_model(dtype=policy)
    found = update(ts.shape(half, S.Clip(0.5)), x, y)
    assert np.linalg.norm(found - full) < 0.03 * np.linalg.norm(full)
    keras.mixed_precision.set_global_policy(policy)
    try:
        shaped = ts.shape(half, S.dp_sgd(0.5, 0.0))
        shaped.compile(keras.optimizers.SGD(1.0), loss=CROSS_ENTROPY)
        before = flat(half.get_weights())
        shaped.fit(x, y, batch_size=16, verbose=0)
        assert np.linalg.norm(before - flat(half.get_weights()) - full) < 0.03 * np.linalg.norm(full)
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("steps", [1, 3])
def test_fit_with_steps_per_execution_and_callbacks(rng, steps):
    x, y = batch(rng, 60)
    model = dense_model()
    shaped = ts.shape(model, S.dp_sgd(1.0, 0.1), seed=1)
    shaped.compile("adam", CROSS_ENTROPY, ["accuracy"], steps_per_execution=steps)
    stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
    history = shaped.fit(x, y, batch_size=10, epochs=5, verbose=0, callbacks=[stop]).history
    assert len(history["loss"]) == 2
    assert set(history) == {"loss", "accuracy", "nonfinite"}


def test_the_weights_are_shared_and_training_learns(rng):
    x, _ = batch(rng, 240)
    y = (x[:, 0] > 0).astype("int64")
    model = dense_model(outputs=2)
    shaped = ts.shape(model, S.dp_sgd(1.0, 0.5), seed=0)
    shaped.compile(keras.optimizers.Adam(0.05), loss=CROSS_ENTROPY, metrics=["accuracy"])
    shaped.fit(x, y, batch_size=40, epochs=8, verbose=0)
    np.testing.assert_array_equal(np.asarray(shaped(x)), np.asarray(model(x)))
    assert np.mean(np.argmax(model.predict(x, verbose=0), 1) == y) > 0.85
    assert shaped.trainable_variables[0] is model.trainable_variables[0]


def test_datasets_with_weights_and_a_dynamic_last_batch(rng):
    x, y = batch(rng, 10)
    w = rng.uniform(size=10).astype("float32")
    shaped = ts.shape(dense_model(), S.Clip(1.0))
    shaped.compile("sgd", loss=CROSS_ENTROPY, weighted_metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices((x, y, w)).batch(4)
    assert np.isfinite(shaped.fit(data, epochs=2, verbose=0).history["loss"]).all()


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(5, activation="relu"), keras.layers.Dense(3)

    def call(self, inputs):
        return self.out(self.hidden(inputs))


@pytest.mark.parametrize("text", ["dp_sgd(1.0, 1.0)", "orient(reference='momentum')"])
def test_a_subclassed_model_need_not_be_built(rng, text, tmp_path):
    x, y = batch(rng, 6)
    model = Subclassed()
    if "momentum" in text:
        with pytest.raises(ValueError, match="model must be built"):
            ts.shape(model, S.parse(text))
        model(x)
    shaped = ts.shape(model, S.parse(text))
    shaped.compile("sgd", loss=CROSS_ENTROPY, metrics=["accuracy"])
    shaped.fit(x, y, batch_size=3, verbose=0)
    shaped.save_weights(tmp_path / "m.weights.h5")
    assert len(model.get_weights()) == 4
    assert np.isfinite(shaped.evaluate(x, y, verbose=0, return_dict=True)["loss"])


def test_frozen_layers_stay_and_run_eagerly(rng):
    model, (x, y) = dense_model(), batch(rng, 6)
    model.layers[0].trainable = False
    before = flat(model.layers[0].get_weights())
    shaped = ts.shape(model, S.dp_sgd(1.0, 1.0))
    shaped.compile("sgd", loss=CROSS_ENTROPY, run_eagerly=True)
    shaped.fit(x, y, batch_size=3, verbose=0)
    np.testing.assert_array_equal(before, flat(model.layers[0].get_weights()))


def test_none_is_the_model_itself_and_bad_values_are_one_line():
    model = dense_model()
    assert ts.shape(model, None) is model
    for options, words in [
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"microbatch": 2.5}, "microbatch must be an integer >= 1, got 2.5"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
    ]:
        with pytest.raises(ValueError, match=words):
            ts.shape(model, S.Clip(1.0), **options)
    with pytest.raises(ValueError, match="shaping must be a Shaper"):
        ts.shape(model, "clip(1.0)")
    with pytest.raises(ValueError, match=r"noise\(1.0\) follows shapers without a sensitivity"):
        ts.shape(model, S.GaussianNoise(1.0))


if not KERAS3:

    def test_the_update_is_that_of_tensorflow_privacy(rng):
        model, (x, y) = dense_model(), batch(rng, 6)
        ours = update(ts.shape(model, S.dp_sgd(0.4, 0.0)), x, y)
        theirs = S.tensorflow_privacy.shape(model, S.dp_sgd(0.4, 0.0))
        theirs.compile(keras.optimizers.SGD(1.0), loss=CROSS_ENTROPY)
        before = flat(model.get_weights())
        theirs.fit(x, y, batch_size=6, verbose=0)
        np.testing.assert_allclose(before - flat(model.get_weights()), ours, rtol=1e-5, atol=1e-6)
