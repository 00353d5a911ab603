"""Adding, removing or changing one example moves the summed, shaped gradient by at most the declared sensitivity."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from shaping_helpers import CROSS_ENTROPY, Capture, conv_model, dense_model, flat

import tfshape as ts

S = ts.shaping
ROWS = 6
# Float32 leaves the norm of a clipped gradient above its bound by a few parts in a million; see docs/sharp_edges.md.
SLACK = 1 + 2e-5
SHAPINGS = [
    "clip(0.3)",
    "normalize(0.3)",
    "normalize(0.3, gamma=1e-6)",
    "per_layer_clip(0.3)",
    "adaptive_clip(initial=0.3)",
    "clip(2.0)|normalize(0.5)|clip(0.3)",
    "per_layer_clip(0.5)|clip(0.3)",
    "clip(0.3)|orient(0.5, reference='momentum')",
    "orient(-0.9, reference='momentum', drop=True)|normalize(0.3)",
]


class Unknown(keras.layers.Layer):
    """A dense layer over positions that no rule of the engine knows."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), initializer="glorot_uniform", name="kernel")

    def call(self, x):
        return x @ self.kernel


def recurrent_model():
    keras.utils.set_random_seed(0)
    layers = [Unknown(), keras.layers.SimpleRNN(4), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((4, 3)), *layers])


MODELS = {"dense": (dense_model, (4,)), "conv": (conv_model, (6, 6, 2)), "no rule": (recurrent_model, (4, 3))}
QUICK = {"dense": SHAPINGS, "conv": [SHAPINGS[0], SHAPINGS[3]], "no rule": [SHAPINGS[0]]}
CASES = [
    pytest.param(text, kind, marks=() if text in QUICK[kind] else pytest.mark.slow)
    for kind in MODELS
    for text in SHAPINGS
]


def adversaries(rng, shape):
    """Examples that strain a bound: huge, tiny, zero, not finite, cancelling, and (None) a copy of another row."""
    usual = rng.normal(size=shape).astype("float32")
    mixed = usual.copy()
    mixed.flat[0], mixed.flat[1] = 1e15, -1e15
    checkers = np.indices(shape).sum(0) % 2 * 2 - 1
    return {
        "usual": usual,
        "huge": usual * 1e6,
        "overflowing": usual * 1e25,
        "largest": np.full(shape, np.finfo("float32").max),
        "tiny": usual * 1e-25,
        "zero": np.zeros(shape, "float32"),
        "nan": np.full(shape, np.nan, "float32"),
        "one inf": np.where(np.arange(usual.size).reshape(shape) == 1, np.inf, usual).astype("float32"),
        "cancelling": mixed,
        "alternating": (checkers * 1e8).astype("float32"),
        "copy": None,
    }


class Sums:
    """The summed, shaped gradient of a batch: B times the update, with the shapers' state put back each time."""

    def __init__(self, build, text):
        self.shaped = ts.shape(build(), S.parse(text), batch_size=1, seed=0)
        self.optimizer = Capture(self.shaped.model.trainable_variables)
        self.shaped.compile(self.optimizer, loss=CROSS_ENTROPY)

    def __call__(self, x, y, weights):
        state = self.shaped.get_weights()
        self.shaped.train_on_batch(tf.constant(x), tf.constant(y), sample_weight=tf.constant(weights))
        self.shaped.set_weights(state)
        return flat(self.optimizer.captured).astype("float64")


@pytest.mark.parametrize("text, kind", CASES)
def test_one_example_moves_the_sum_by_no_more_than_declared(rng, text, kind):
    build, shape = MODELS[kind]
    sums, bound = Sums(build, text), S.parse(text).sensitivity
    x, y = rng.normal(size=[ROWS, *shape]).astype("float32"), rng.integers(0, 3, ROWS)
    sums.shaped.train_on_batch(x, y)  # so that a momentum is not zero
    bound = float(np.asarray(sums.shaped.non_trainable_weights[0])) if "adaptive" in text else bound
    ones = np.ones(ROWS, "float32")
    without = np.array([1] * (ROWS - 1) + [0], "float32")
    removed = sums(x, y, without)
    reached, found = 0.0, []
    for name, example in adversaries(rng, shape).items():
        x[-1] = x[0] if example is None else example
        with_it = sums(x, y, ones)
        assert np.isfinite(with_it).all(), name
        assert np.linalg.norm(with_it - removed) <= bound * SLACK, name
        if name in ("nan", "one inf"):
            np.testing.assert_array_equal(with_it, removed)
        reached = max(reached, np.linalg.norm(with_it - removed))
        found.append(with_it)
    for a in found:
        for b in found:
            assert np.linalg.norm(a - b) <= 2 * bound * SLACK
    assert reached > 0.5 * bound  # the bound is about as tight as it can be


@pytest.mark.parametrize("text", ["orient()|clip(0.3)", "geometric_median()", "krum()", "trim()"])
def test_shapers_without_a_sensitivity_do_move_further(rng, text):
    """Why they declare none: one example also changes the weights of the others."""
    assert S.parse(text).sensitivity is None
    sums = Sums(dense_model, text)
    x, y = rng.normal(size=[ROWS, 4]).astype("float32"), rng.integers(0, 3, ROWS)
    largest = 0.0
    for scale in (1.0, 30.0, 1000.0):
        for _ in range(4):
            x[-1] = rng.normal(size=4) * scale
            moved = sums(x, y, np.ones(ROWS, "float32")) - sums(x, y, np.array([1] * (ROWS - 1) + [0], "float32"))
            largest = max(largest, np.linalg.norm(moved))
    assert largest > 0.3


def test_the_adaptive_count_moves_by_at_most_one_half(rng):
    """Andrew et al. 2021: b_i - 1/2 is what one example adds, which `noise_multiplier` counts."""
    model = dense_model()
    x, y = rng.normal(size=[ROWS, 4]).astype("float32"), rng.integers(0, 3, ROWS)
    moves = []
    for weights in (np.ones(ROWS, "float32"), np.array([1] * (ROWS - 1) + [0], "float32")):
        shaped = ts.shape(model, S.AdaptiveClip(0.5, initial=0.7, learning_rate=1.0, count_stddev=0.0), batch_size=ROWS)
        shaped.compile(keras.optimizers.SGD(0.0), loss=CROSS_ENTROPY)
        shaped.fit(x, y, sample_weight=weights, batch_size=ROWS, verbose=0)
        moves.append(-np.log(float(np.asarray(shaped.non_trainable_weights[0])) / 0.7) * ROWS)
    assert abs(abs(moves[0] - moves[1]) - 0.5) < 1e-4
