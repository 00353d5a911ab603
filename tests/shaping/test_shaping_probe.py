"""Training that is not private is refused at its first step, by name; everything else trains as without the probe."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from selection import most_slow
from shaping_helpers import (
    CROSS_ENTROPY,
    BatchMean,
    MixesItself,
    RunningMean,
    attention,
    batch,
    contrastive,
    dense_model,
    sequences,
    two_outputs,
)

import tfshape as ts

S, L = ts.shaping, keras.layers


def balanced(y_true, y_pred):
    """Weighs a row by how rare its label is in the batch: only labels mix."""
    y_true = tf.reshape(tf.cast(y_true, tf.int32), [-1])
    counts = tf.reduce_sum(tf.cast(y_true[:, None] == y_true[None, :], tf.float32), 1)
    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True) / counts


class MixesInTraining(L.Layer):
    def call(self, inputs, training=None):
        return 0.9 * inputs + 0.1 * tf.roll(inputs, 1, 0) if training else inputs


class MixesStopped(L.Layer):
    """Divides by the largest entry of the batch, of which no gradient tells."""

    def call(self, inputs):
        return inputs / tf.stop_gradient(tf.reduce_max(tf.abs(inputs)))


@tf.custom_gradient
def _mix_backwards(inputs):
    return tf.identity(inputs), lambda upstream: upstream + tf.reduce_mean(upstream, 0, keepdims=True)


class MixesBackwards(L.Layer):
    def call(self, inputs):
        return _mix_backwards(inputs)


def model_with(*layers):
    return keras.Sequential(
        [keras.Input([4]), L.Dense(5, name="first"), L.Dropout(0.5), *layers, L.Dense(3, name="last")]
    )


MIXING = {
    "loss": (model_with, contrastive, r"^loss must give each row .*, got contrastive: "),
    "loss of labels": (model_with, balanced, r"^loss must give each row .*, got balanced: "),
    "mean": (lambda: model_with(BatchMean(name="it")), CROSS_ENTROPY, r"^layer it \(BatchMean\) mixes the examples"),
    "training": (lambda: model_with(MixesInTraining(name="it")), CROSS_ENTROPY, r"^layer it \(MixesInTraining\) mixes"),
    "stopped": (lambda: model_with(MixesStopped(name="it")), CROSS_ENTROPY, r"^layer it \(MixesStopped\) mixes"),
    "backwards": (lambda: model_with(MixesBackwards()), CROSS_ENTROPY, r"^model must give each row a gradient"),
    "state": (
        lambda: model_with(RunningMean(name="it")),
        CROSS_ENTROPY,
        r"^layer it \(RunningMean\) keeps values .*mean",
    ),
    "call": (MixesItself, CROSS_ENTROPY, r"^layer outer \(MixesItself\) mixes .* hands to layer last"),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_examples_is_refused_by_name(rng, name):
    build, loss, words = MIXING[name]
    model, (x, y) = build(), batch(rng, 8)
    model(x)
    shaped = ts.shape(model, S.dp_sgd(0.1, 1.0))
    shaped.compile("sgd", loss)
    before = model.get_weights()
    with pytest.raises(ValueError, match=words) as caught:
        shaped.fit(x, y, verbose=0)
    assert "\n" not in str(caught.value)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("rows", most_slow([2, 3], 2))
def test_small_and_later_batches_and_both_ways_in(rng, rows):
    (x, y), model = batch(rng, 2 * rows), model_with(BatchMean(name="it"))
    shaped = ts.shape(model, S.Clip(0.1))
    shaped.compile("sgd", CROSS_ENTROPY)
    shaped.train_on_batch(x[:1], y[:1])  # nothing can mix
    shaped.train_on_batch(x[[0, 0]], y[[0, 0]])  # nothing can be seen to
    with pytest.raises(ValueError, match=r"^layer it"):
        shaped.train_on_batch(x, y)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(rows)
    for options in ({"steps_per_execution": 2}, {"run_eagerly": True}):
        shaped.compile("sgd", CROSS_ENTROPY, **options)
        with pytest.raises(ValueError, match=r"^layer it"):
            shaped.fit(data, verbose=0)


def test_xla_compiles_the_steps_after_the_one_that_is_examined(rng):
    x, y = batch(rng, 9)
    shaped = ts.shape(dense_model(), S.Clip(0.1))
    shaped.compile("sgd", CROSS_ENTROPY, jit_compile=True)
    shaped.fit(x, y, batch_size=3, verbose=0)
    assert shaped.jit_compile
    shaped = ts.shape(model_with(BatchMean(name="it")), S.Clip(0.1))
    shaped.compile("sgd", CROSS_ENTROPY, jit_compile=True)
    with pytest.raises(ValueError, match=r"^layer it"):
        shaped.fit(x, y, batch_size=3, verbose=0)


def test_by_name_it_trains_all_the_same(rng):
    x, y = batch(rng, 8)
    shaped = ts.shape(model_with(BatchMean()), S.Clip(0.1), probe=False)
    shaped.compile("sgd", contrastive)
    assert np.isfinite(shaped.fit(x, y, verbose=0).history["loss"]).all()
    assert shaped.get_config()["probe"] is False


def images(rng):
    return batch(rng, 6, (6, 6, 2))


def augmented():
    return keras.Sequential(
        [
            keras.Input([6, 6, 2]),
            L.RandomFlip(),
            L.GaussianNoise(0.1),
            L.Conv2D(4, 3),
            L.GroupNormalization(2),
            L.SpatialDropout2D(0.3),
            L.Flatten(),
            L.Dense(3),
        ]
    )


def recurrent():
    return keras.Sequential([keras.Input([5], dtype="int32"), L.Embedding(9, 4), L.LSTM(3, dropout=0.2), L.Dense(3)])


def plain(rng):
    return batch(rng, 6)


def huge(rng):
    x, y = batch(rng, 6)
    return x * np.logspace(-12, 12, 6, dtype="float32")[:, None], y


def with_nan(rng):
    x, y = batch(rng, 6)
    x[2] = np.nan
    return x, y


ZOO = {
    "dropout": (model_with, plain, {}),
    "huge": (dense_model, huge, {}),
    "nan": (dense_model, with_nan, {}),
    "float64": (lambda: dense_model(dtype="float64"), plain, {}),
    "float16": (lambda: dense_model(dtype="mixed_float16"), plain, {}),
    "bfloat16": (lambda: dense_model(dtype="mixed_bfloat16"), plain, {}),
    "attention": (attention, sequences, {}),
    "augmented": (augmented, images, {}),
    "microbatch": (model_with, plain, {"microbatch": 4}),
    "recurrent": (recurrent, sequences, {}),
}


@pytest.mark.parametrize("name", most_slow(ZOO, *{*ZOO} - {"recurrent"}))
def test_no_false_alarm_and_not_one_number_changed(rng, name):
    build, data, options = ZOO[name]
    x, y = data(rng)
    weights = rng.uniform(size=6).astype("float32")
    weights[1] = 0
    trained = []
    for probe in (True, False):
        keras.utils.set_random_seed(1)
        shaped = ts.shape(build(), S.dp_sgd(1.0, 0.1), seed=2, probe=probe, **options)
        shaped.compile(keras.optimizers.Adam(0.01), CROSS_ENTROPY, weighted_metrics=["accuracy"])
        history = shaped.fit(x, y, sample_weight=weights, batch_size=4, epochs=2, verbose=0).history
        after = [tf.random.uniform([3]), np.random.rand(3)]
        trained.append([*shaped.get_weights(), *after, *(history[key] for key in sorted(history))])
    for a, b in zip(*trained):
        np.testing.assert_array_equal(a, b)


def test_several_outputs_class_weights_and_regularization(rng):
    x, y = batch(rng, 8)
    shaped = ts.shape(two_outputs(), S.Clip(1.0))
    shaped.compile("sgd", {"left": CROSS_ENTROPY, "right": "mse"})
    shaped.fit(x, {"left": y, "right": rng.normal(size=[8, 3])}, batch_size=3, verbose=0)
    shaped = ts.shape(dense_model(kernel_regularizer="l2"), S.Clip(1.0))
    shaped.compile("sgd", CROSS_ENTROPY)
    shaped.fit(x, y, batch_size=1, class_weight={0: 1.0, 1: 2.0, 2: 0.0}, verbose=0)


class Own(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.last = L.Dense(3)

    def call(self, inputs):
        return self.last(inputs)


@pytest.mark.parametrize("method", ["train_step", "compute_loss", "make_train_function", "fit", "train_on_batch"])
def test_own_training_methods_are_refused(method):
    model = type("Mine", (Own,), {method: lambda self, *args, **options: None})()
    with pytest.raises(ValueError, match=rf"^{method} must be that of keras.Model, got Mine.{method}: a shaped model"):
        ts.shape(model, S.Clip(1.0))
    harmless = type("Mine", (Own,), {"test_step": lambda self, data: {}, "predict_step": lambda self, data: 0})()
    assert ts.shape(harmless, S.Clip(1.0)).model is harmless


def test_a_training_method_put_on_the_model_itself_is_refused():
    model = Own()
    model.train_step = lambda data: {}
    with pytest.raises(ValueError, match=r"^train_step must be that of keras.Model"):
        ts.shape(model, S.Clip(1.0))


def test_shaped_models_are_not_shaped_again():
    shaped = ts.shape(dense_model(), S.Clip(1.0))
    with pytest.raises(ValueError, match=r"^model must not be shaped already, got sequential.*_shaped: shape its"):
        ts.shape(shaped, S.Clip(1.0))
    inputs = keras.Input([4])
    nested = keras.Model(inputs, L.Dense(3)(shaped(inputs)), name="outer")
    with pytest.raises(
        ValueError, match=r"^model must not be shaped already, got sequential.*_shaped, in outer: shape its"
    ):
        ts.shape(nested, S.Clip(1.0))
    with pytest.raises(ValueError, match=r"^model must be a keras.Model, got 'mlp'"):
        ts.shape("mlp", S.Clip(1.0))
