"""Whole models against a loop of tapes: every way to put layers together, and layers without a rule."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients_helpers import normal, precision, randomize
from per_example_reference import TOLERANCE, check, close, loop, raw
from selection import most_slow

from tfshape.gradients import per_example

L = keras.layers


class Scale(L.Layer):
    """No rule: one weight of its own, used twice."""

    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1],), initializer="ones", trainable=True)
        super().build(shape)

    def call(self, inputs):
        return tf.sin(inputs * self.w) + inputs * self.w**2


class Mixed(L.Layer):
    """No rule for its own weight, rules for the layers inside, and a weight of one of them is read here too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(3, activation="tanh")
        self.norm = [L.LayerNormalization()]

    def build(self, shape):
        self.v = self.add_weight(name="v", shape=(3, 2), initializer="glorot_uniform", trainable=True)
        self.inner.build(shape)
        self.norm[0].build((*shape[:-1], 3))
        super().build(shape)

    def call(self, inputs):
        hidden = self.norm[0](self.inner(inputs)) + tf.reduce_sum(self.inner.kernel)
        return tf.matmul(hidden, tf.convert_to_tensor(self.v))


class MyDense(L.Dense):
    """A subclass that does something else than its parent, so that the parent's rule is wrong for it."""

    def call(self, inputs):
        return super().call(inputs) * tf.reduce_mean(inputs, -1, keepdims=True)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = {"a": L.Conv1D(3, 2, activation="relu"), "b": [L.Dense(4, "tanh")]}
        self.head = L.Dense(2)

    def call(self, inputs, training=None):
        hidden = self.blocks["b"][0](self.blocks["a"](inputs))
        return self.head(tf.reduce_mean(hidden, 1))


class Tied(keras.Model):
    """The output reads the embedding's table, which the embedding owns."""

    def __init__(self):
        super().__init__()
        self.table = L.Embedding(5, 3)
        self.mix = L.Dense(3, "tanh")

    def call(self, inputs, training=None):
        hidden = self.mix(self.table(inputs))
        return tf.matmul(hidden, tf.convert_to_tensor(self.table.embeddings), transpose_b=True)


def functional(inputs, build):
    inputs = [keras.Input(shape) for shape in inputs]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], build(*inputs))


def several_inputs():
    return functional([(3,), (4, 2)], lambda a, b: L.Dense(2)(L.Concatenate()([L.Dense(3, "tanh")(a), L.GRU(2)(b)])))


def shared_layer():
    shared = L.Dense(3, "tanh")
    return functional([(4,), (4,)], lambda a, b: L.Dense(2)(L.Concatenate()([shared(a), shared(b)])))


def used_twice(shape, layer):
    return lambda: functional([shape], lambda a: L.Dense(2, "tanh")(layer()(a)))


def twice(make):
    layer = make()
    return lambda a: layer(layer(a))


def nested():
    inner = keras.Sequential([L.Dense(4, "tanh"), keras.Sequential([L.Dense(3, "tanh"), Scale()])])
    return functional([(3,)], lambda a: L.Dense(2)(inner(inner(a))))


def sequential(*layers):
    return lambda: keras.Sequential([make() for make in layers])


def mask_model():
    return sequential(lambda: L.Embedding(5, 3, mask_zero=True), lambda: L.LSTM(3), lambda: L.Dense(2, "tanh"))()


def wrapped(cell):
    return sequential(lambda: L.Bidirectional(cell(3, return_sequences=True)), lambda: L.Dense(2, "tanh"))


IDS = "ids"
MODELS = {
    # name: (model, shapes of the inputs, or ids)
    "sequential": (sequential(lambda: L.Dense(4, "relu"), lambda: L.Dense(3), lambda: L.ReLU()), [(5,)]),
    "residual": (lambda: functional([(4,)], lambda a: L.Dense(2)(L.Add()([a, L.Dense(4, "tanh")(a)]))), [(4,)]),
    "nested": (nested, [(3,)]),
    "subclassed": (Subclassed, [(5, 2)]),
    "several inputs": (several_inputs, [(3,), (4, 2)]),
    "shared layer": (shared_layer, [(4,), (4,)]),
    "Dense used twice": (used_twice((3,), lambda: twice(lambda: L.Dense(3, "tanh"))), [(3,)]),
    "Dense over time used twice": (used_twice((4, 3), lambda: twice(lambda: L.Dense(3, "tanh"))), [(4, 3)]),
    "Conv2D used twice": (
        used_twice((4, 4, 2), lambda: twice(lambda: L.Conv2D(2, 3, padding="same", activation="tanh"))),
        [(4, 4, 2)],
    ),
    "LayerNormalization used twice": (used_twice((4,), lambda: twice(L.LayerNormalization)), [(4,)]),
    "Scale used twice": (used_twice((4,), lambda: twice(Scale)), [(4,)]),
    "LSTM": (sequential(lambda: L.LSTM(3, return_sequences=True), lambda: L.Dense(2, "tanh")), [(4, 2)]),
    "GRU": (sequential(lambda: L.GRU(3), lambda: L.Dense(2)), [(4, 2)]),
    "SimpleRNN": (sequential(lambda: L.SimpleRNN(3, return_sequences=True)), [(4, 2)]),
    "Bidirectional": (wrapped(L.GRU), [(3, 2)]),
    "TimeDistributed": (sequential(lambda: L.TimeDistributed(L.Dense(3, "tanh")), lambda: L.Dense(2)), [(3, 2)]),
    "masked LSTM": (mask_model, IDS),
    "Embedding and recurrent": (sequential(lambda: L.Embedding(5, 3), lambda: L.GRU(3)), IDS),
    "tied embedding": (Tied, IDS),
    "custom layer": (sequential(lambda: L.Dense(3), Scale, lambda: L.Dense(2)), [(4,)]),
    "custom layer with layers inside": (sequential(Mixed, lambda: L.Dense(2)), [(4,)]),
    "subclass of Dense": (sequential(lambda: MyDense(3, "tanh"), lambda: L.Dense(2)), [(4,)]),
    "PReLU": (sequential(lambda: L.Conv2D(2, 2), L.PReLU, L.Flatten, lambda: L.Dense(2)), [(4, 4, 1)]),
    "unused layer": (lambda: functional([(3,)], unused), [(3,)]),
}


def unused(a):
    """A layer whose output the loss does not depend on: its gradient is zero."""
    return L.Add()([L.Dense(2)(a), Stop()(L.Dense(2)(a))])


class Stop(L.Layer):
    def call(self, inputs):
        return tf.stop_gradient(inputs)


def make_case(name, batch=3):
    build, shapes = MODELS[name]
    keras.utils.set_random_seed(1)
    model = build()
    if shapes is IDS:
        x = np.array([[1, 2, 1, 0], [3, 4, 0, 0], [2, 2, 2, 2]])[:batch]
    else:
        x = [normal((batch, *shape), i) for i, shape in enumerate(shapes)]
        x = x if len(x) > 1 else x[0]
    return randomize(warm(model, x)), x, normal(model(x).shape, 7)


def warm(model, x):
    model(x)
    return model


@pytest.mark.parametrize("name", most_slow(MODELS, *{*MODELS} - {"SimpleRNN", "Bidirectional"}))
def test_float64(name):
    with precision("float64"):
        model, x, y = make_case(name)
        check(model, x, y)


@pytest.mark.parametrize("name", ["sequential", "nested", "GRU", "custom layer"])
def test_float32(name):
    check(*make_case(name))


GRAPHS = ["several inputs", "custom layer with layers inside", "tied embedding"]


@pytest.mark.parametrize("name", most_slow(GRAPHS, "custom layer with layers inside"))
def test_dynamic_batch_in_a_graph(name):
    with precision("float64"):
        model, x, y = make_case(name)
        check(model, x, y, mode="dynamic")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eager", "dynamic"])
def test_loops_too_long_to_unroll(mode):
    with precision("float64"):
        model = warm(keras.Sequential([L.LSTM(2), L.Dense(2)]), normal((2, 25, 2)))
        check(randomize(model), normal((2, 25, 2)), normal((2, 2)), mode=mode)


@pytest.mark.slow
def test_recurrent_subset_of_the_variables():
    test_subset_of_the_variables("LSTM", "of several layers")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["graph", "dynamic"])
@pytest.mark.parametrize("name", MODELS)
def test_graphs(name, mode):
    with precision("float64"):
        model, x, y = make_case(name)
        check(model, x, y, mode=mode)


@pytest.mark.parametrize("name", ["sequential", "nested"])
def test_batch_of_one(name):
    with precision("float64"):
        check(*make_case(name, batch=1))


def test_layers_have_a_row_each():
    model, x, y = make_case("several inputs")
    g = per_example(model, "mean_squared_error", x, y)
    assert [name for name, _ in g.layers] == [layer.name for layer in model.layers if layer.trainable_variables]
    assert sorted(i for _, indices in g.layers for i in indices) == list(range(len(model.trainable_variables)))


class Noted(L.Dropout):
    """Dropout that keeps the masks it drew, and can play them back, one example at a time."""

    masks, play = None, None

    def call(self, inputs, training=None):
        if self.play is not None:
            return inputs * self.masks[self.play]
        outputs = super().call(inputs, training=training)
        self.masks = [(outputs / inputs)[i : i + 1] for i in range(len(inputs))]
        return outputs


@pytest.mark.parametrize("recurrent", [False, True])
def test_dropout_of_the_same_masks(recurrent):
    """The masks of the one forward pass hold for every quantity; the loop is given them."""
    with precision("float64"):
        keras.utils.set_random_seed(3)
        drop = Noted(0.5)
        middle = [L.Reshape((3, 2)), L.GRU(3)] if recurrent else [Scale()]
        model = warm(keras.Sequential([L.Dense(6, "tanh"), drop, *middle, L.Dense(2)]), normal((1, 3)))
        x, y = normal((4, 3), 1), normal((4, 2), 2)
        g = per_example(model, "mean_squared_error", x, y)
        found = [t.numpy() for t in g.materialize()]
        assert 0 < np.mean([np.mean(mask == 0) for mask in drop.masks]) < 1
        for i in range(4):
            drop.play = i
            losses, expected = loop(model, keras.losses.get("mean_squared_error"), x[i : i + 1], y[i : i + 1])
            close(g.losses[i : i + 1], losses, losses, "losses", 1e-10)
            norm = np.sqrt(sum((e**2).sum() for e in expected))
            close(g.norms[i], norm, norm, "norms", 1e-10)
            for f, e in zip(found, expected):
                close(f[i : i + 1], e, norm, "materialize", 1e-10)
        weights = np.array([1.0, -2.0, 0.0, 3.0])
        for s, f in zip(g.weighted_sum(weights), found):
            close(s, np.tensordot(weights, f, 1), np.abs(f).max(), "weighted_sum", 1e-10)


@pytest.mark.parametrize("inside", ["lstm", "layer"])
def test_random_layer_without_a_rule_agrees_with_its_own_forward_pass(inside):
    """Dropout drawn inside a layer that the fallback would run again: the sum is that of the pass that was made."""
    with precision("float64"):
        keras.utils.set_random_seed(4)
        layer = L.LSTM(4, dropout=0.5) if inside == "lstm" else DropInside()
        model = warm(keras.Sequential([layer, L.Dense(2)]), normal((1, 5, 3)))
        x, y = normal((4, 5, 3), 1), normal((4, *model(normal((1, 5, 3))).shape[1:]), 2)
        with tf.GradientTape() as tape:
            g = per_example(model, "mean_squared_error", x, y)
            total = tf.reduce_sum(g.losses)
        whole = tape.gradient(total, raw(model.trainable_variables))
        stored = [t.numpy() for t in g.materialize()]
        flat = np.concatenate([s.reshape(4, -1) for s in stored], 1)
        close(g.norms, np.linalg.norm(flat, axis=1), 1, "norms", 1e-10)
        close(g.gram(), flat @ flat.T, 1, "gram", 1e-10)
        for s, w, m in zip(g.weighted_sum(np.ones(4)), whole, stored):
            close(s, tf.convert_to_tensor(w), 1, "weighted_sum", 1e-10)
            close(m.sum(0), tf.convert_to_tensor(w), 1, "materialize", 1e-10)


class DropInside(L.Layer):
    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1], 3), initializer="glorot_uniform", trainable=True)
        super().build(shape)

    def call(self, inputs, training=None):
        w = tf.convert_to_tensor(self.w)
        return tf.tanh(tf.nn.dropout(tf.matmul(inputs, w), 0.5) if training else tf.matmul(inputs, w))


def test_dropout_is_drawn_once():
    """One forward pass, whatever is asked for: a second draw would belong to another gradient."""
    draws = []

    class Counted(L.Dropout):
        def call(self, inputs, training=None):
            if training:
                draws.append(1)
            return super().call(inputs, training=training)

    model = warm(keras.Sequential([L.Dense(4), Counted(0.5), Scale(), L.Dense(2)]), normal((1, 3)))
    g = per_example(model, "mean_squared_error", normal((4, 3), 1), normal((4, 2), 2))
    g.norms, g.gram(), g.weighted_sum(np.ones(4)), g.materialize()
    assert len(draws) == 1


def test_frozen_layers():
    with precision("float64"):
        model, x, y = make_case("sequential")
        model.layers[0].trainable = False
        layers = check(model, x, y)
        assert len(model.trainable_variables) == 2 and [name for name, _ in layers] == [model.layers[1].name]


def test_frozen_layer_above():
    with precision("float64"):
        model, x, y = make_case("nested")
        model.layers[-1].trainable = False
        check(model, x, y)


SUBSETS = {
    "one kernel": lambda v: [v[0]],
    "one bias": lambda v: [v[1]],
    "reversed": lambda v: v[::-1],
    "of several layers": lambda v: [v[-1], v[0]],
}


@pytest.mark.parametrize("name", ["sequential", "nested", "subclassed", "PReLU"])
@pytest.mark.parametrize("subset", SUBSETS)
def test_subset_of_the_variables(name, subset):
    with precision("float64"):
        model, x, y = make_case(name)
        variables = SUBSETS[subset](model.trainable_variables)
        _, expected = loop(model, keras.losses.get("mean_squared_error"), x, y, variables=variables)
        g = per_example(model, "mean_squared_error", x, y, variables=variables)
        flat = np.concatenate([e.reshape(3, -1) for e in expected], 1)
        norms, scale = np.linalg.norm(flat, axis=1), np.linalg.norm(flat, axis=1).max()
        weights, direction = normal(3, 1), [normal(v.shape, 2) for v in variables]
        close(g.norms, norms, scale, "norms", TOLERANCE["float64"])
        close(g.gram(), flat @ flat.T, scale**2, "gram", TOLERANCE["float64"])
        inner = sum(e.reshape(3, -1) @ d.ravel() for e, d in zip(expected, direction))
        close(g.dot(direction), inner, 10 * scale, "dot", TOLERANCE["float64"])
        for s, m, e in zip(g.weighted_sum(weights), g.materialize(), expected):
            close(m, e, scale, "materialize", TOLERANCE["float64"])
            close(s, np.tensordot(weights, e, 1), 3 * scale, "weighted_sum", TOLERANCE["float64"])


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "binary_crossentropy"])
def test_nests_of_inputs_by_name(loss):
    """A dict of inputs, and labels of another rank than the predictions."""
    with precision("float64"):
        a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
        last = L.Dense(4, "softmax") if loss.startswith("sparse") else L.Dense(1, "sigmoid")
        model = randomize(keras.Model({"a": a, "b": b}, last(L.Concatenate()([L.Dense(3, "tanh")(a), b]))))
        x = {"a": normal((3, 3), 1), "b": normal((3, 2), 2)}
        y = np.array([1, 0, 3]) if loss.startswith("sparse") else np.array([1.0, 0.0, 1.0])
        shape = y if loss.startswith("sparse") else y[:, None]
        check(model, x, y, loss=loss, reference=loop(model, keras.losses.get(loss), x, shape), tolerance=1e-9)
