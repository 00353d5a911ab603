"""No magnitude gets an example past a clip: numbers from 1e-38 to 1e38, clips from 1e-30 to 1e3, every rule."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients_helpers import precision, randomize
from per_example_reference import loop

import tfshape as ts
from tfshape.gradients import per_example
from tfshape.gradients.rules import fallback
from tfshape.shaping.examples import Examples

L = keras.layers
TINY, HUGE = np.finfo("float32").tiny, np.finfo("float32").max
EXCESS = 1.0005
ROWS = 6


class Unknown(L.Layer):
    """A dense layer that no rule knows."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), initializer="glorot_uniform", name="kernel")

    def call(self, x):
        return x @ self.kernel


class Drawing(Unknown):
    """One that draws random numbers, without an effect, so that it is not run again."""

    def call(self, x):
        return super().call(x) + 0 * tf.random.uniform([], dtype=x.dtype)


def shared():
    """One layer called twice."""
    inputs, layer = keras.Input((2, 40)), L.Dense(40, use_bias=False)
    return keras.Model(inputs, layer(inputs) + layer(2 * inputs))


# name -> (layers or a function that makes a model, shape of an input)
LAYERS = {
    "dense": (lambda: [L.Dense(5)], (30,)),
    "dense_without_bias": (lambda: [L.Dense(5, use_bias=False)], (784,)),
    "dense_kept": (lambda: [L.Dense(5)], (7, 4)),
    "dense_ghost": (lambda: [L.Dense(30)], (2, 40)),
    "dense_direct": (lambda: [L.Dense(12)], (4, 8)),
    "dense_unknown_length": (lambda: [keras.Input((None, 40)), L.Dense(30)], (2, 40)),
    "einsum": (lambda: [L.EinsumDense("abc,cde->abde", (None, 6, 8), bias_axes="de")], (2, 40)),
    "convolution": (lambda: [L.Conv2D(4, 3, padding="same")], (6, 5, 2)),
    "convolution_ghost": (lambda: [L.Conv2D(20, 3, padding="same")], (2, 2, 10)),
    "convolution_groups": (lambda: [L.Conv2D(20, 3, groups=2, padding="same")], (2, 2, 10)),
    "depthwise": (lambda: [L.DepthwiseConv2D(3, depth_multiplier=2)], (5, 5, 3)),
    "separable": (lambda: [L.SeparableConv2D(4, 3)], (5, 5, 3)),
    "transpose": (lambda: [L.Conv2DTranspose(4, 3, strides=2)], (3, 3, 2)),
    "transpose_ghost": (lambda: [L.Conv2DTranspose(20, 3, padding="same")], (2, 2, 10)),
    "embedding": (lambda: [L.Embedding(7, 4)], 6),
    "embedding_one_token": (lambda: [L.Embedding(7, 4)], 1),
    "embedding_long": (lambda: [L.Embedding(7, 2)], 70),
    "layer_norm": (lambda: [L.LayerNormalization()], (5, 4)),
    "group_norm": (lambda: [L.GroupNormalization(2)], (5, 4)),
    "shared": (shared, (2, 40)),
    "fallback": (lambda: [Unknown()], (3, 5)),
    "fallback_in_chunks": (lambda: [Unknown()], (3, 5)),
    "fallback_row_by_row": (lambda: [Drawing()], (3, 5)),
    "recurrent": (lambda: [L.SimpleRNN(3, activation=None)], (3, 5)),
}
FAST = [name for name in LAYERS if name not in ("einsum", "transpose", "recurrent", "fallback_row_by_row")]
# their outputs are not linear in the input, or not at any magnitude, so float32 has another gradient than float64
NONLINEAR = ("layer_norm", "group_norm", "recurrent", "separable")


def build(name):
    keras.utils.set_random_seed(0)
    make, shape = LAYERS[name]
    layers = make()
    model = keras.Sequential(layers) if isinstance(layers, list) else layers
    x = np.zeros((ROWS, shape), "int32") if isinstance(shape, int) else np.zeros((ROWS, *shape), keras.backend.floatx())
    outputs = model(x).shape
    return randomize(model), tuple(outputs)


def pull(y_true, y_pred):
    """A loss of which `y_true` is the gradient."""
    return tf.reduce_sum(y_true * y_pred, list(range(1, y_pred.shape.rank)))


def sizes(rng, shape):
    return 10.0 ** rng.uniform(-38, 38, shape)


def finite(array):
    """In float32, none of it infinite or subnormal: TensorFlow takes subnormal numbers for zeros."""
    array = np.clip(array, -HUGE, HUGE).astype("float32")
    return np.where(np.abs(array) < TINY, np.float32(0), array)


def draw(rng, name, y_shape, kind):
    """Inputs and output gradients of ROWS examples, the first of ordinary size.

    kind: of the sizes of the others. "apart": one for the input and one for the gradient; "balanced": such that their
    product is within 1e±6; "mixed": one for each number.
    """
    shape = LAYERS[name][1]
    tokens = isinstance(shape, int)
    x = rng.normal(size=(ROWS, *(() if tokens else shape)))
    y = rng.normal(size=y_shape)
    each = [ROWS] + [1] * (x.ndim - 1)
    x_sizes = sizes(rng, x.shape if kind == "mixed" else each)
    y_sizes = sizes(rng, y.shape if kind == "mixed" else ROWS)
    if kind == "balanced" and not tokens:
        y_sizes = 10.0 ** rng.uniform(-6, 6, ROWS) / x_sizes.ravel()
    x_sizes[0], y_sizes[0] = 1, 1
    y = finite(y * y_sizes.reshape(y_sizes.shape + (1,) * (y.ndim - y_sizes.ndim)))
    return (rng.integers(0, 7, (ROWS, shape)).astype("int32") if tokens else finite(x * x_sizes)), y


def flat_norm(tensors):
    return np.sqrt(sum(np.sum(np.square(np.float64(t))) for t in tensors))


def check(name, batches, clips, monkeypatch):
    """-> the largest norm that an example contributed, as a multiple of the clip."""
    if name == "fallback_in_chunks":
        monkeypatch.setattr(fallback, "_ENTRIES", 40)
    rng = np.random.default_rng(0)
    model, outputs = build(name)
    with precision("float64"):
        exact, _ = build(name)
        exact.set_weights(model.get_weights())

    @tf.function
    def contribution(x, y, clip, row):
        found = per_example(model, pull, x, y)
        valid = tf.math.is_finite(found.losses) & tf.math.is_finite(found.norms)
        examples = Examples(found, found.norms, valid)
        examples = examples.scaled(ts.shaping.clipping._shrinking(examples.norms, clip))
        alone = examples.scaled(tf.one_hot(row, ROWS))
        return examples.norms / examples.weights, examples.weights, alone.weighted_sum(), examples.weighted_sum()

    worst = 0.0
    for number in range(batches):
        kind = ("apart", "balanced", "mixed")[number % 3]
        x, y = draw(rng, name, outputs, kind)
        if name not in NONLINEAR:
            _, gradients = loop(exact, pull, x if x.dtype == "int32" else np.float64(x), np.float64(y))
            true = np.array([flat_norm(g[i] for g in gradients) for i in range(ROWS)])
        for clip in clips:
            for row in range(ROWS):
                arguments = x, y, np.float64(clip), row
                norms, weights, alone, together = contribution(*map(tf.constant, arguments))
                worst = max(worst, flat_norm(alone) / clip)
                if row == 0 and name not in NONLINEAR:  # an ordinary example among such
                    for part, gradient in zip(alone, gradients):
                        right = min(1, clip / true[0]) * gradient[0]
                        np.testing.assert_allclose(part, right, rtol=1e-3, atol=1e-5 * clip, err_msg=kind)
            assert all(np.all(np.isfinite(t)) for t in together)
            assert flat_norm(together) <= ROWS * clip * EXCESS
            if name not in NONLINEAR and kind != "mixed":
                kept = np.asarray(weights) > 0
                norms, missed = np.asarray(norms, "float64")[kept], 1e-34  # products below 1e-38 are zero in float32
                np.testing.assert_array_less(true[kept], norms * EXCESS + missed)
                np.testing.assert_array_less(norms, true[kept] * 1.01 + missed)
    return worst


@pytest.mark.parametrize("name", FAST)
def test_no_magnitude_exceeds_the_clip(name, monkeypatch):
    assert check(name, 3, [1e-30, 1.0], monkeypatch) <= EXCESS


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_no_magnitude_exceeds_the_clip_long(name, monkeypatch):
    assert check(name, 60, [1e-30, 1e-24, 1e-18, 1e-12, 1e-6, 1e-3, 1.0, 1e3], monkeypatch) <= EXCESS


def two_layers():
    keras.utils.set_random_seed(0)
    return randomize(keras.Sequential([keras.Input((6,)), L.Dense(4, use_bias=False), L.LayerNormalization()]))


SHAPERS = [
    "clip({0})",
    "per_layer_clip({0})",
    "normalize({0})",
    "normalize({0}, gamma=1e-12)",
    "adaptive_clip(initial={0})",
    "per_layer_clip(1e3)|clip({0})",
    "clip(1e3)|normalize({0})",
    "orient(reference='geometric_median')|clip({0})",
    "clip({0})|orient()",
]


@pytest.mark.parametrize("shaper", SHAPERS)
@pytest.mark.parametrize("clip", [1e-30, 1e-12, 1.0, 1e3])
def test_every_shaper_keeps_its_bound(shaper, clip):
    model, shaping = two_layers(), ts.shaping.parse(shaper.format(clip))
    rng = np.random.default_rng(0)
    sizes = np.array([[1, 1], [1e-19, 9e18], [1e-30, 1e-5], [1e12, 1e-19], [1e-38, 1e38], [1, 1e-25]])
    x, y = (finite(rng.normal(size=(ROWS, n)) * sizes[:, [i]]) for i, n in enumerate((6, 4)))
    states = [{key: tf.constant(v) for key, v in s.variables(model).items()} for s in shaping.shapers]
    found = per_example(model, pull, x, y)
    examples = Examples(found, found.norms, tf.math.is_finite(found.norms)).shaped(shaping.shapers, states)[0]
    for row in range(ROWS):
        assert flat_norm(examples.scaled(tf.one_hot(row, ROWS)).weighted_sum()) <= clip * EXCESS
    assert flat_norm(examples.weighted_sum()) > 0


def test_fit_stays_within_the_clip():
    """The square of 1e-19 is zero in float32, that of 9e18 is not."""
    layers = [keras.Input((784,)), L.Dense(1, use_bias=False, kernel_initializer="zeros")]
    model = keras.Sequential(layers)
    shaped = ts.shape(model, ts.shaping.dp_sgd(clip=1.0, noise=0.0), batch_size=1)
    shaped.compile(keras.optimizers.SGD(1.0), "mse")
    shaped.fit(np.full((1, 784), 1e-19, "f4"), np.full((1, 1), 9e18, "f4"), verbose=0)
    np.testing.assert_allclose(np.linalg.norm(model.get_weights()[0]), 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ["dense", "dense_kept", "dense_ghost", "embedding", "fallback_in_chunks"])
def test_inner_products_of_any_magnitude(name, monkeypatch):
    """Cosines, with weights that make every gradient as long as one."""
    if name == "fallback_in_chunks":
        monkeypatch.setattr(fallback, "_ENTRIES", 40)
    (model, outputs), rng = build(name), np.random.default_rng(0)
    x, y = draw(rng, name, outputs, "balanced")
    if x.dtype == "int32":
        y = rng.normal(size=y.shape) * 10.0 ** np.arange(-30, 30, 10).reshape(-1, *[1] * (y.ndim - 1))
        y = y.astype("float32")
    with precision("float64"):
        exact, _ = build(name)
        exact.set_weights(model.get_weights())
    _, gradients = loop(exact, pull, x if x.dtype == "int32" else np.float64(x), np.float64(y))
    flat = np.concatenate([g.reshape(ROWS, -1) for g in gradients], 1)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-300)
    direction = [rng.normal(size=v.shape) for v in model.trainable_variables]
    length = flat_norm(direction)

    def cosines(x, y):
        found = per_example(model, pull, x, y)
        weights = tf.math.divide_no_nan(np.float64(1), tf.cast(found.norms, tf.float64))
        return found.gram(weights), found.dot([d / length for d in direction], weights)

    gram, dot = tf.function(cosines)(tf.constant(x), tf.constant(y))
    np.testing.assert_allclose(gram, unit @ unit.T, atol=1e-4)
    np.testing.assert_allclose(dot, unit @ np.concatenate([d.ravel() for d in direction]) / length, atol=1e-4)


@pytest.mark.parametrize("shaper", ["krum(0.2)", "trim(0.3)", "geometric_median()", "orient(0.5)"])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_robust_weights_do_not_depend_on_the_unit(shaper, scale):
    model, shaping, rng = two_layers(), ts.shaping.parse(shaper), np.random.default_rng(1)
    x, y = rng.normal(size=(8, 6)).astype("float32"), rng.normal(size=(8, 4)).astype("float32")

    def weights(scale):
        found = per_example(model, pull, x, np.float32(scale) * y)
        examples = Examples(found, found.norms, tf.math.is_finite(found.norms))
        return examples.shaped(shaping.shapers, [{}])[0].weights.numpy()

    assert np.ptp(weights(1)) > 0
    np.testing.assert_allclose(weights(scale), weights(1), rtol=1e-4, atol=1e-5)
