"""fit, predict and accuracy: determinism, exact batches, shuffling, and what is refused."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfshape as ts
from tfshape.privacy.sampling import shuffle
from tfshape.training import OPTIMIZERS

Recipe = ts.training.Recipe


@pytest.fixture
def blobs(rng):
    """Three separable classes in four dimensions: x [150, 4], y [150]."""
    y = np.repeat(np.arange(3, dtype=np.int32), 50)
    centres = 3 * np.eye(3, 4, dtype=np.float32)
    return ts.datasets.Split(centres[y] + 0.3 * rng.standard_normal((150, 4)).astype(np.float32), y)


def weights_of(name, data, recipe, shape, classes, seed=7, build_seed=1, **options):
    model = ts.models.build(name, shape, classes, build_seed)
    ts.training.fit(model, data, recipe, seed, **options)
    return model.get_weights()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_and_has_its_rate(optimizer, blobs):
    rate = {"adadelta": 10.0, "adagrad": 0.3}.get(optimizer, 0.05)
    model = ts.models.build("lr", (4,), 3)
    history = ts.training.fit(model, blobs.as_dataset(), Recipe(optimizer, rate, 10, 5), seed=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(rate)
    assert ts.models.accuracy(model, blobs) > 0.95
    assert len(history.history["loss"]) == 5
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert history.history["accuracy"][-1] > 0.9


def test_momentum_is_sgd_with_momentum(blobs):
    optimizer = Recipe("momentum", 0.1).make_optimizer()
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert optimizer.momentum == 0.9
    assert Recipe("sgd", 0.1).make_optimizer().momentum == 0.0


@pytest.mark.parametrize("name", ["lr", "mlp", "cnn", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_same_seed_same_weights_to_the_bit(name, rng):
    x = rng.random((96, 12, 12, 1), np.float32)
    data = ts.datasets.Split(x, rng.integers(0, 4, 96).astype(np.int32)).as_dataset()
    recipe = Recipe("adam", 1e-2, 32, 2)
    first = weights_of(name, data, recipe, (12, 12, 1), 4)
    for one, same in zip(first, weights_of(name, data, recipe, (12, 12, 1), 4)):
        np.testing.assert_array_equal(one, same)
    other = weights_of(name, data, recipe, (12, 12, 1), 4, seed=8)
    assert any(not np.array_equal(one, two) for one, two in zip(first, other))


def test_sgd_step_is_the_gradient_of_the_mean_loss(blobs):
    """One batch of everything: one step of plain gradient descent, computed here by hand."""
    model = ts.models.build("lr", (4,), 3, seed=2)
    kernel, bias = model.get_weights()
    ts.training.fit(model, blobs.as_dataset(), Recipe("sgd", 0.5, 150, 1), seed=0)
    logits = blobs.x @ kernel + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    errors = (probabilities - np.eye(3)[blobs.y]) / 150
    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.5 * blobs.x.T @ errors, atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], bias - 0.5 * errors.sum(axis=0), atol=1e-6)


def test_batches_are_whole_and_epochs_are_new_permutations():
    data = tf.data.Dataset.range(23).map(lambda i: (i, 10 * i))
    batches, steps = shuffle(data, 5, epochs=30, seed=3)
    assert steps == 4
    assert int(batches.cardinality()) == 120
    seen = [(x.numpy(), y.numpy()) for x, y in batches]
    assert all(len(x) == 5 and np.array_equal(y, 10 * x) for x, y in seen)
    epochs = [np.concatenate([x for x, _ in seen[start : start + 4]]) for start in range(0, 120, 4)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 30
    assert set(np.concatenate(epochs)) == set(range(23))
    counts = np.bincount(np.concatenate(epochs), minlength=23)
    assert counts.min() >= 30 - 15, "the examples left over must differ from epoch to epoch"


def test_order_depends_on_the_seed_alone():
    def order(seed, global_seed):
        tf.random.set_seed(global_seed)
        data = tf.data.Dataset.from_tensor_slices((tf.range(20), tf.range(20)))
        return [tuple(x.numpy()) for x, _ in shuffle(data, 4, 3, seed)[0]]

    assert order(1, 5) == order(1, 6)
    assert order(1, 5) != order(2, 5)


def test_fit_takes_its_batches_from_there(blobs):
    """The model trained by fit equals one trained by hand on the same batches."""
    recipe = Recipe("sgd", 0.1, 40, 3)
    model = ts.models.build("mlp", (4,), 3, seed=2)
    ts.training.fit(model, blobs.as_dataset(), recipe, seed=5)
    by_hand = ts.models.build("mlp", (4,), 3, seed=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for x, y in shuffle(blobs.as_dataset(), 40, 3, seed=5)[0]:
        with tf.GradientTape() as tape:
            value = loss(y, by_hand(x, training=True))
        for variable, gradient in zip(by_hand.trainable_variables, tape.gradient(value, by_hand.trainable_variables)):
            variable.assign_sub(0.1 * gradient)
    for one, two in zip(model.get_weights(), by_hand.get_weights()):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_data_of_unknown_length(blobs):
    data = blobs.as_dataset().filter(lambda x, y: y < 2)
    assert int(data.cardinality()) == tf.data.UNKNOWN_CARDINALITY
    assert len(list(shuffle(data, 100, 2, 0)[0])) == 2
    with pytest.raises(ValueError, match="at most the number of examples, 100, got 101"):
        shuffle(data, 101, 2, 0)


def test_callbacks_see_every_step_and_loss_is_used(blobs):
    class Count(keras.callbacks.Callback):
        steps = epochs = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1

    count = Count()
    zero = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    zero_loss = lambda y, logits: 0.0 * zero(y, logits)  # noqa: E731
    before = ts.models.build("lr", (4,), 3, 1).get_weights()
    after = weights_of("lr", blobs.as_dataset(), Recipe("sgd", 1.0, 40, 2), (4,), 3, callbacks=(count,), loss=zero_loss)
    assert (count.steps, count.epochs) == (6, 2)
    for one, two in zip(before, after):
        np.testing.assert_array_equal(one, two)


def test_a_subclass_with_a_train_step_of_its_own(blobs):
    class OwnStep(keras.Model):
        calls = 0

        def train_step(self, data):
            OwnStep.calls += 1
            return super().train_step(data)

    base = ts.models.build("lr", (4,), 3)
    model = OwnStep(base.input, base.output)
    ts.training.fit(model, blobs.as_dataset(), Recipe("adam", 0.05, 10, 5), seed=0)
    assert OwnStep.calls >= 1
    assert ts.models.accuracy(model, blobs) > 0.95


def test_predict_in_batches_is_predict_at_once(rng):
    model = ts.models.build("mlp", (4,), 3)
    x = rng.random((25, 4), np.float32)
    logits = ts.models.predict(model, x, batch_size=10)
    assert logits.shape == (25, 3) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, np.asarray(model(x)), rtol=1e-5, atol=1e-6)
    assert ts.models.predict(model, x[:0]).shape == (0, 3)


def test_predict_follows_the_weights_and_skips_dropout(rng):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(2, use_bias=False)])
    x = rng.random((6, 4), np.float32)
    before = ts.models.predict(model, x)
    np.testing.assert_allclose(before, x @ model.get_weights()[0], rtol=1e-5)
    model.set_weights([3 * weight for weight in model.get_weights()])
    np.testing.assert_allclose(ts.models.predict(model, x), 3 * before, rtol=1e-5)


def test_accuracy_counts():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Activation("linear")])
    x = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    assert ts.models.accuracy(model, ts.datasets.Split(x, np.array([0, 1, 2, 1], np.int32))) == 0.75


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "adm"),
        ("optimizer", None),
        ("learning_rate", 0.0),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", "0.1"),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("batch_size", True),
        ("epochs", 0),
        ("epochs", "3"),
    ],
)
def test_bad_recipes(field, value):
    with pytest.raises(ValueError, match=field) as error:
        Recipe(**{field: value})
    assert repr(value) in str(error.value)


def test_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().epochs = 3


def test_bad_data_and_seeds(blobs):
    model = ts.models.build("lr", (4,), 3)
    with pytest.raises(ValueError, match="batch_size must be at most the number of examples, 150, got 151"):
        ts.training.fit(model, blobs.as_dataset(), Recipe(batch_size=151), seed=0)
    with pytest.raises(ValueError, match="data must have an end"):
        ts.training.fit(model, blobs.as_dataset().repeat(), Recipe(), seed=0)
    for seed in (-1, 2**32, 0.5):
        with pytest.raises(ValueError, match="seed must be an integer"):
            ts.training.fit(model, blobs.as_dataset(), Recipe(), seed=seed)


def test_sampling_shuffle_is_the_default_and_unknown_ones_are_named(blobs):
    recipe = Recipe("sgd", 0.1, 40, 2)
    default = weights_of("lr", blobs.as_dataset(), recipe, (4,), 3)
    named = weights_of("lr", blobs.as_dataset(), recipe, (4,), 3, sampling="shuffle")
    given = weights_of("lr", blobs.as_dataset(), recipe, (4,), 3, sampling=shuffle)
    for one, two, three in zip(default, named, given):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    with pytest.raises(ValueError, match=r"sampling must be one of shuffle, poisson, balls_in_bins.*got 'poison'"):
        weights_of("lr", blobs.as_dataset(), recipe, (4,), 3, sampling="poison")


@pytest.mark.parametrize("sampling", ["poisson", "balls_in_bins"])
def test_random_batch_sizes_train_a_shaped_model(blobs, sampling):
    def train(seed):
        base = ts.models.build("lr", (4,), 3, seed=2)
        model = ts.shape(base, ts.shaping.dp_sgd(1.0, 0.1), batch_size=30, seed=1)
        history = ts.training.fit(model, blobs.as_dataset(), Recipe("sgd", 1.0, 30, 10), seed, sampling=sampling)
        return base, history.history

    model, history = train(0)
    assert ts.models.accuracy(model, blobs) > 0.9
    assert len(history["loss"]) == 10 and 0.8 < history["accuracy"][-1] <= 1  # padding is not counted as wrong
    for one, two in zip(model.get_weights(), train(0)[0].get_weights()):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(model.get_weights()[0], train(1)[0].get_weights()[0])


@pytest.mark.parametrize("sampling", ["shuffle", "poisson"])
def test_a_step_is_traced_once(sampling):
    model, calls = ts.models.build("lr", (4,), 3, seed=0), []
    step = model.train_step
    model.train_step = lambda data: calls.append(data) or step(data)
    data = tf.data.Dataset.from_tensor_slices((np.eye(4, dtype=np.float32), np.arange(4) % 3))
    ts.training.fit(model, data, Recipe(epochs=2, batch_size=2), seed=0, sampling=sampling)
    assert len(calls) == 1


def test_numpy_scalars_are_numbers():
    recipe = ts.training.Recipe("sgd", np.float32(0.5), np.int64(8), np.uint8(2))
    assert recipe == ts.training.Recipe("sgd", 0.5, 8, 2)
    assert [type(value) for value in dataclasses.astuple(recipe)] == [str, float, int, int]
