"""Weights, non-finite rows, refusals, restoring, graphs, threads, precision, memory and second derivatives."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients_helpers import normal, precision, randomize
from per_example_reference import check, close, loop

from tfshape.gradients import per_example

L = keras.layers
MSE = "mean_squared_error"


def mlp(inputs=4, outputs=3):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((inputs,)), L.Dense(5, "tanh"), L.Dense(outputs)])


def mixture():
    """A rule of each storage: a kept kernel, a factored one, an outer product, a lookup-free fallback."""
    keras.utils.set_random_seed(0)
    layers = [L.Conv1D(3, 2, activation="tanh"), L.LayerNormalization(), L.PReLU(), L.Flatten(), L.Dense(3)]
    return keras.Sequential([keras.Input((5, 2)), *layers])


def everything(g, batch):
    direction = [np.ones(v.shape, "float32") for v in g.variables]
    found = [g.losses, g.norms, g.layer_norms, g.dot(direction), g.gram(), *g.weighted_sum(np.ones(batch))]
    return [np.asarray(t) for t in [*found, *g.materialize()]]


def test_sample_weight_multiplies():
    with precision("float64"):
        check(mixture(), normal((4, 5, 2)), normal((4, 3), 1), sample_weight=np.array([0.5, 2.0, 0.0, 1.0]))


def test_zero_weight_is_padding_whatever_the_example():
    x, y, weight = normal((4, 5, 2)), normal((4, 3), 1), np.array([1.0, 0.0, 2.0, 0.0], "float32")
    x[1], x[3] = np.nan, np.inf
    g = per_example(mixture(), MSE, x, y, sample_weight=weight)
    alone = per_example(mixture(), MSE, x[[0, 2]], y[[0, 2]], sample_weight=weight[[0, 2]])
    for quantity in (g.losses, g.norms):
        assert np.all(np.asarray(quantity)[[1, 3]] == 0)
    assert np.all(np.asarray(g.layer_norms)[:, [1, 3]] == 0) and np.all(np.asarray(g.gram())[[1, 3]] == 0)
    assert np.all(np.asarray(g.dot([np.ones(v.shape, "float32") for v in g.variables]))[[1, 3]] == 0)
    assert all(np.all(np.asarray(m)[[1, 3]] == 0) for m in g.materialize())
    np.testing.assert_allclose(np.asarray(g.norms)[[0, 2]], alone.norms, rtol=1e-6)
    for padded, expected in zip(g.weighted_sum(np.ones(4)), alone.weighted_sum(np.ones(2))):
        np.testing.assert_allclose(padded, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_row_of_weight_zero_adds_exactly_nothing(bad, graph):
    """Also if its gradient is not finite, and by layer too."""
    x, y = normal((3, 5, 2)), normal((3, 3), 1)
    x[1] = bad
    y[1] = bad
    model = mixture()

    def run(x, y, weights):
        g = per_example(model, MSE, x, y)
        return g.norms, g.weighted_sum(weights), g.weighted_sum(weights * tf.ones([len(g.layers), 1]))

    run = tf.function(run) if graph else run
    weights = tf.constant([0.5, 0.0, -1.0])
    norms, whole, layers = run(tf.constant(x), tf.constant(y), weights)
    np.testing.assert_array_equal(np.isfinite(norms), [True, bad == 1e30, True])  # too large to square, but not a norm
    zero = x.copy(), y.copy()
    zero[0][1], zero[1][1] = 0.0, 0.0
    _, expected, by_layer = run(tf.constant(zero[0]), tf.constant(zero[1]), weights)
    for found, same in zip([*whole, *layers], [*expected, *by_layer]):
        assert np.all(np.isfinite(found))
        np.testing.assert_allclose(found, same, rtol=1e-5, atol=1e-6)


def test_a_non_finite_row_leaves_the_others_norms_alone():
    x, y = normal((3, 5, 2)), normal((3, 3), 1)
    expected = np.asarray(per_example(mixture(), MSE, x, y).norms)
    x[1] = np.nan
    norms = np.asarray(per_example(mixture(), MSE, x, y).norms)
    np.testing.assert_allclose(norms[[0, 2]], expected[[0, 2]], rtol=1e-6)
    assert np.isnan(norms[1])


def normalised(trainable=True):
    return keras.Sequential(
        [keras.Input((4,)), L.Dense(3), L.BatchNormalization(trainable=trainable), L.Activation("tanh"), L.Dense(3)]
    )


def test_batch_normalisation_is_refused_in_training_only():
    x, y = normal((4, 4)), normal((4, 3), 1)
    with pytest.raises(
        ValueError, match=r"BatchNormalization.*mixes the examples.*GroupNormalization.*trainable=False"
    ):
        per_example(normalised(), MSE, x, y)
    with precision("float64"):
        x, y = normal((4, 4)), normal((4, 3), 1)
        model = normalised()
        model.layers[1].moving_mean.assign(normal(3, 2))
        assert len(check(model, x, y, training=False)) == 3  # with its gamma and beta
        assert len(check(normalised(trainable=False), x, y)) == 2


def test_losses_that_depend_on_activations_are_refused():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activity_regularizer="l2")])
    with pytest.raises(ValueError, match="activity_regularizer"):
        per_example(model, MSE, normal((4, 4)), normal((4, 3), 1))


def square(y_true, y_pred):
    return tf.reduce_mean((y_true - y_pred) ** 2, -1)


LOSSES = {
    "name": lambda: MSE,
    "class": lambda: keras.losses.MeanSquaredError,
    "sum": lambda: keras.losses.MeanSquaredError(reduction="sum"),
    "mean": lambda: keras.losses.MeanSquaredError(reduction="sum_over_batch_size"),
    "none": lambda: keras.losses.MeanSquaredError(reduction="none"),
    "function": lambda: square,
    "not reduced": lambda: lambda y_true, y_pred: (y_true - y_pred) ** 2,
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_every_kind(name):
    model, x, y = mlp(), normal((3, 4)), normal((3, 3), 1)
    losses, rows = loop(model, square, x, y)
    g = per_example(model, LOSSES[name](), x, y)
    close(g.losses, losses, losses.max(), "losses", 1e-6)
    norms = np.sqrt(sum((row.reshape(3, -1) ** 2).sum(1) for row in rows))
    close(g.norms, norms, norms, "norms", 1e-5)


@pytest.mark.parametrize("loss", [lambda y, p: tf.reduce_mean((y - p) ** 2), lambda y, p: tf.constant(1.0)])
def test_scalar_losses_are_refused(loss):
    with pytest.raises(ValueError, match="one value per example"):
        per_example(mlp(), loss, normal((3, 4)), normal((3, 3), 1))


@pytest.mark.parametrize("loss", [3, None])
def test_what_is_no_loss_is_refused(loss):
    with pytest.raises(ValueError, match="loss"):
        per_example(mlp(), loss, normal((3, 4)), normal((3, 3), 1))


def test_weights_of_a_wrong_rank_are_refused():
    g = per_example(mlp(), MSE, normal((3, 4)), normal((3, 3), 1))
    with pytest.raises(ValueError, match=r"weights.*\[B\]"):
        g.weighted_sum(np.ones((1, 1, 3)))


def attributes(model):
    layers = [model, *model.layers]
    return [{name: id(vars(layer)[name]) for name in ("call", "activation") if name in vars(layer)} for layer in layers]


class Fails(L.Layer):
    def call(self, inputs):
        raise RuntimeError("on purpose")


def test_layers_are_restored():
    model = mixture()
    before = attributes(model)
    x, y = normal((3, 5, 2)), normal((3, 3), 1)
    everything(per_example(model, MSE, x, y), 3)
    assert attributes(model) == before
    with pytest.raises(ValueError, match="per example"):
        per_example(model, lambda y, p: tf.reduce_sum(p), x, y)
    assert attributes(model) == before


def test_layers_are_restored_after_an_exception_inside():
    model = keras.Sequential([L.Dense(3, "tanh"), Fails()])
    model.layers[0].build((None, 4))
    model.built = True
    before = attributes(model)
    with pytest.raises(RuntimeError, match="on purpose"):
        per_example(model, MSE, normal((3, 4)), normal((3, 3), 1))
    assert attributes(model) == before
    model = normalised()
    before = attributes(model)
    with pytest.raises(ValueError, match="BatchNormalization"):
        per_example(model, MSE, normal((3, 4)), normal((3, 3), 1))
    assert attributes(model) == before
    model(normal((3, 4)), training=True)


def test_one_graph_for_every_batch_size():
    model, traces = mixture(), []

    @tf.function(input_signature=[tf.TensorSpec([None, 5, 2]), tf.TensorSpec([None, 3]), tf.TensorSpec([None])])
    def run(x, y, weights):
        traces.append(1)
        g = per_example(model, MSE, x, y)
        return g.norms, g.gram(), g.weighted_sum(weights), g.materialize()

    for batch in (1, 2, 7):
        x, y, weights = normal((batch, 5, 2), batch), normal((batch, 3), 1), normal(batch, 2)
        found = run(x, y, weights)
        g = per_example(model, MSE, x, y)
        expected = g.norms, g.gram(), g.weighted_sum(weights), g.materialize()
        for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert len(traces) == 1


def test_two_threads_at_once():
    """Of one model and of two: each sees its own batch."""
    models = [mixture(), mixture()]
    batches = [(normal((3, 5, 2), i), normal((3, 3), 10 + i)) for i in range(4)]
    expected = [np.asarray(per_example(models[i % 2], MSE, *batch).norms) for i, batch in enumerate(batches)]
    before = [attributes(model) for model in models]
    start, wrong = threading.Barrier(4), []

    def work(i):
        start.wait()
        for _ in range(5):
            try:
                found = np.asarray(per_example(models[i % 2], MSE, *batches[i]).norms)
                if not np.allclose(found, expected[i], rtol=1e-5):
                    wrong.append((i, found))
            except Exception as error:
                wrong.append((i, error))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and [attributes(model) for model in models] == before


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    full = mixture()
    keras.mixed_precision.set_global_policy(policy)
    try:
        half = mixture()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    half.set_weights(full.get_weights())
    x, y = normal((6, 5, 2)), normal((6, 3), 1)
    expected, g = per_example(full, MSE, x, y), per_example(half, MSE, x, y)
    tolerance = 0.01 if policy == "mixed_float16" else 0.06
    np.testing.assert_allclose(g.norms, expected.norms, rtol=tolerance)
    assert {t.dtype for t in (g.losses, g.norms, g.layer_norms, g.gram(), *g.weighted_sum(np.ones(6)))} == {tf.float32}
    scale = max(np.abs(t).max() for t in expected.weighted_sum(np.ones(6)))
    for a, b in zip(g.weighted_sum(np.ones(6)), expected.weighted_sum(np.ones(6))):
        np.testing.assert_allclose(a, b, atol=tolerance * scale)


def test_tiny_gradients_survive_float16():
    """1e-6 of a gradient is below what float16 holds; the engine scales the loss."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = mlp()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x, y = normal((3, 4)), normal((3, 3), 1)
    whole = np.asarray(per_example(model, MSE, x, y).norms)
    tiny = np.asarray(per_example(model, MSE, x, y, sample_weight=np.full(3, 3e-6, "float32")).norms)
    np.testing.assert_allclose(tiny / 3e-6, whole, rtol=0.05)


def test_regularisation_is_outside():
    plain, penal = (
        keras.Sequential([keras.Input((4,)), L.Dense(3, kernel_regularizer=k)])
        for k in (None, keras.regularizers.L2(0.5))
    )
    penal.set_weights(plain.get_weights())
    x, y = normal((3, 4)), normal((3, 3), 1)
    expected, found = per_example(plain, MSE, x, y), per_example(penal, MSE, x, y)
    np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-6)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-6)
    kernel, bias = found.regularization()
    np.testing.assert_allclose(kernel, 2 * 0.5 * np.asarray(penal.trainable_variables[0]), rtol=1e-6)
    assert bias is None and expected.regularization() is None


def cnn():
    layers = [L.Conv2D(16, 3, activation="relu"), L.Conv2D(32, 3, activation="relu"), L.MaxPooling2D()]
    return keras.Sequential([keras.Input((28, 28, 1)), *layers, L.Flatten(), L.Dense(256, "relu"), L.Dense(10)])


def wide_mlp():
    return keras.Sequential([keras.Input((784,)), L.Dense(256, "relu"), L.Dense(256, "relu"), L.Dense(10)])


@pytest.mark.parametrize("make", [wide_mlp, cnn])
def test_no_tensor_of_batch_times_parameters(make):
    """The step of norms and weighted sum has none, in the graph and in all the functions it calls."""
    batch, model = 64, make()
    parameters = model.count_params()

    def step(x, y):
        g = per_example(model, "sparse_categorical_crossentropy", x, y)
        return g.weighted_sum(tf.minimum(1.0, 1.0 / g.norms))

    def dense(x, y):
        return per_example(model, "sparse_categorical_crossentropy", x, y).materialize()

    signature = [tf.TensorSpec([batch, *model.input_shape[1:]]), tf.TensorSpec([batch], tf.int32)]
    sizes = largest(tf.function(step).get_concrete_function(*signature))
    assert sizes < batch * parameters / 4
    assert largest(tf.function(dense).get_concrete_function(*signature)) >= batch * parameters / 4  # the count can fail


def largest(concrete):
    """Entries of the largest tensor of the graph and of all functions it calls, branches and loops among them."""
    definition = concrete.graph.as_graph_def(add_shapes=True)
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    shapes = [tf.TensorShape(shape) for node in nodes for shape in node.attr["_output_shapes"].list.shape]
    assert len(shapes) > 50
    return max(shape.num_elements() for shape in shapes if shape.is_fully_defined())


def test_second_derivatives():
    """An outer tape over the shaped gradient, with respect to the batch, against finite differences."""
    with precision("float64"):
        keras.utils.set_random_seed(2)
        layers = [L.Conv2D(3, 2, activation="tanh"), L.Flatten(), L.Dense(4, "tanh"), L.Dense(2)]
        model = randomize(keras.Sequential([keras.Input((4, 4, 1)), *layers]))
        x, y = normal((3, 4, 4, 1), 1), normal((3, 2), 2)

        def value(x):
            g = per_example(model, MSE, x, y)
            weights = tf.minimum(tf.constant(1.0, tf.float64), 0.7 / g.norms)
            total = tf.add_n([tf.reduce_sum(s**2) for s in g.weighted_sum(weights)])
            return total + tf.reduce_sum(g.gram() * normal((3, 3), 3)) + tf.reduce_sum(g.layer_norms)

        tensor = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            total = value(tensor)
        gradient = tape.gradient(total, tensor).numpy()
        for seed in range(3):
            direction = normal(x.shape, 10 + seed)
            step = 1e-5
            expected = (value(tf.constant(x + step * direction)) - value(tf.constant(x - step * direction))) / (
                2 * step
            )
            np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=1e-6)
