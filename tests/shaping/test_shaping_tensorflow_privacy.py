"""tensorflow-privacy's optimizers through `shape`: the update is the clipped sum, whatever loss and last batch."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfshape as ts

KERAS2 = int(keras.__version__.split(".")[0]) == 2


def small(seed=0):
    init = [keras.initializers.GlorotUniform(seed=seed + i) for i in range(2)]
    layers = [keras.layers.Dense(5, activation="tanh", kernel_initializer=init[0])]
    layers.append(keras.layers.Dense(3, kernel_initializer=init[1]))
    return keras.Sequential([keras.Input([4]), *layers])


def data(rng, rows):
    return rng.normal(size=[rows, 4]).astype("float32") * 3, rng.integers(0, 3, rows)


def clipped_mean(model, x, y, clip, parts, weights=None):
    """The update by hand: each part's mean gradient, clipped, summed, over the number of parts."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    total = [np.zeros(v.shape) for v in model.trainable_variables]
    for rows in parts:
        with tf.GradientTape() as tape:
            values = loss(y[rows], model(x[rows]))
            mean = tf.reduce_mean(values if weights is None else values * weights[rows])
        grads = [g.numpy() for g in tape.gradient(mean, model.trainable_variables)]
        norm = np.sqrt(sum((g**2).sum() for g in grads))
        total = [t + g * min(1, clip / max(norm, 1e-30)) for t, g in zip(total, grads)]
    return [t / len(parts) for t in total]


def one_step(shaped, x, y, **fit):
    before = [w.numpy() for w in shaped.trainable_variables]
    shaped.fit(x, y, batch_size=len(x), epochs=1, shuffle=False, verbose=0, **fit)
    return [b - w.numpy() for b, w in zip(before, shaped.trainable_variables)]


if KERAS2:

    @pytest.mark.parametrize("vectorized", [True, False])
    @pytest.mark.parametrize("num_microbatches", [None, 2])
    @pytest.mark.parametrize("loss", ["object", "function", "none"])
    def test_update_is_the_clipped_sum(rng, vectorized, num_microbatches, loss):
        model, (x, y) = small(), data(rng, 6)
        parts = np.array_split(np.arange(6), num_microbatches or 6)
        expected = clipped_mean(model, x, y, 0.3, parts)
        cls = keras.losses.SparseCategoricalCrossentropy
        given = {
            "object": cls(from_logits=True),
            "none": cls(from_logits=True, reduction="none"),
            "function": lambda t, p: keras.losses.sparse_categorical_crossentropy(t, p, from_logits=True),
        }[loss]
        shaped = ts.shaping.tensorflow_privacy.shape(
            model, ts.shaping.dp_sgd(0.3, 0.0), num_microbatches, vectorized=vectorized
        )
        shaped.compile("sgd", loss=given)
        shaped.optimizer.learning_rate = 1.0
        for a, b in zip(one_step(shaped, x, y), expected):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    def test_partial_last_batch_is_split_as_evenly_as_can_be(rng):
        model, (x, y) = small(), data(rng, 7)
        shaped = ts.shaping.tensorflow_privacy.shape(model, ts.shaping.Clip(0.3), num_microbatches=2)
        shaped.compile(keras.optimizers.SGD(1.0), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        first = clipped_mean(model, x, y, 0.3, [[0, 1], [2, 3]])
        before = [w.numpy() for w in model.trainable_variables]
        model.set_weights([b - u for b, u in zip(before, first)])
        second = clipped_mean(model, x, y, 0.3, [[4, 5], [6]])
        model.set_weights(before)
        shaped.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        for b, u, v, w in zip(before, first, second, model.trainable_variables):
            np.testing.assert_allclose(w.numpy(), b - u - v, rtol=1e-4, atol=1e-6)

    def test_weight_zero_drops_an_example(rng):
        model, (x, y) = small(), data(rng, 4)
        weights = np.array([1, 0, 2, 0.5], "float32")
        expected = clipped_mean(model, x, y, 0.3, [[i] for i in range(4)], weights)
        shaped = ts.shaping.tensorflow_privacy.shape(model, ts.shaping.Clip(0.3))
        shaped.compile(keras.optimizers.SGD(1.0), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        for a, b in zip(one_step(shaped, x, y, sample_weight=weights), expected):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    def test_microbatches_that_do_not_divide_are_named(rng):
        shaped = ts.shaping.tensorflow_privacy.shape(small(), ts.shaping.Clip(1.0), num_microbatches=3)
        shaped.compile("sgd", "mse")
        x, y = data(rng, 8)
        with pytest.raises(ValueError, match="num_microbatches must divide the batch size 4, got 3"):
            shaped.fit(x, y, batch_size=4)
        with pytest.raises(ValueError, match="num_microbatches must divide the batch size 8, got 3"):
            shaped.fit(tf.data.Dataset.from_tensors((x, y)))

    @pytest.mark.parametrize("name, words", [("adam", {"beta_1": 0.5}), ("adagrad", {"epsilon": 0.1}), ("sgd", {})])
    def test_optimizer_options_are_taken_over(rng, name, words):
        given = {"adam": keras.optimizers.Adam, "adagrad": keras.optimizers.Adagrad, "sgd": keras.optimizers.SGD}
        shaped = ts.shaping.tensorflow_privacy.shape(small(), ts.shaping.dp_sgd(1.0, 0.5))
        shaped.compile(given[name](0.25, **words), "mse")
        config = {**shaped.optimizer.get_config()}
        assert float(config["learning_rate"]) == 0.25
        assert all(config[key] == value for key, value in words.items())
        assert type(shaped.optimizer).__module__.startswith("tensorflow_privacy")

    def test_optimizer_options_that_would_be_lost_are_refused():
        shaped = ts.shaping.tensorflow_privacy.shape(small(), ts.shaping.Clip(1.0))
        with pytest.raises(ValueError, match=r"optimizer must not use weight_decay with tensorflow-privacy, got 0.1"):
            shaped.compile(keras.optimizers.SGD(0.1, weight_decay=0.1), "mse")
        with pytest.raises(ValueError, match=r"optimizer must be one of sgd, adam, adagrad, got 'rmsprop'"):
            shaped.compile("rmsprop", "mse")

    def test_trains_on_a_schedule_and_reports_metrics(rng):
        x, y = data(rng, 12)
        shaped = ts.shaping.tensorflow_privacy.shape(small(), ts.shaping.dp_sgd(1.0, 0.1))
        rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        shaped.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
        history = shaped.fit(x, y, batch_size=4, verbose=0, epochs=2, validation_data=(x, y)).history
        assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(history)
        assert np.isfinite(history["loss"]).all()

    def test_the_reported_losses_are_means_over_the_epoch(rng):
        x, y = data(rng, 10)
        shaped = ts.shaping.tensorflow_privacy.shape(small(), ts.shaping.Clip(1.0))
        shaped.compile(keras.optimizers.SGD(0.0), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        history = shaped.fit(x, y, batch_size=4, verbose=0, validation_data=(x, y), validation_batch_size=4).history
        values = keras.losses.sparse_categorical_crossentropy(y, shaped.model(x), from_logits=True)
        np.testing.assert_allclose(history["loss"], [np.mean(values)], rtol=1e-5)
        np.testing.assert_allclose(history["val_loss"], [np.mean(values)], rtol=1e-5)

    def test_regularisation_is_refused(rng):
        x, y = data(rng, 4)
        dense = keras.layers.Dense(3, kernel_regularizer="l2")
        shaped = ts.shaping.tensorflow_privacy.shape(keras.Sequential([keras.Input([4]), dense]), ts.shaping.Clip(1.0))
        shaped.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(ValueError, match="regularisation"):
            shaped.fit(x, y, verbose=0)

    def test_large_models_take_the_optimizer_that_is_not_vectorised(rng):
        for batch_size, kind in [(64, "Vectorized"), (10**8, "DPKeras")]:
            shaped = ts.shaping.tensorflow_privacy.shape(small(), ts.shaping.Clip(1.0), batch_size=batch_size)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                shaped.compile("sgd", "mse")
            assert ("vectorized" in type(shaped.optimizer).__module__) == (kind == "Vectorized")
            assert any("GB a step" in str(w.message) for w in caught) == (kind == "DPKeras")

else:

    def test_keras3_says_what_is_needed():
        with pytest.raises(ImportError, match="needs Keras 2 with tensorflow-privacy"):
            ts.shaping.tensorflow_privacy.shape(small(), ts.shaping.dp_sgd(1.0, 1.0))
        with pytest.raises(ImportError, match="engine `fast`"):
            ts.shaping.tensorflow_privacy.optimizer("sgd", 0.1, 1.0, 1.0)


def test_bad_values_are_one_line():
    module = ts.shaping.tensorflow_privacy
    with pytest.raises(ValueError, match="optimizer must be one of sgd, adam, adagrad"):
        module.optimizer("rmsprop", 0.1, 1.0, 1.0)
    with pytest.raises(ValueError, match="clip must be"):
        module.optimizer("sgd", 0.1, -1.0, 1.0)
    with pytest.raises(ValueError, match="num_microbatches must be an integer >= 1, got 0"):
        module.shape(small(), ts.shaping.Clip(1.0), num_microbatches=0)
    with pytest.raises(ValueError, match="shaping must be clip"):
        module.shape(small(), ts.shaping.GaussianNoise(stddev=1.0))
