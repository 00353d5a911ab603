"""Canaries in gradient space: examples made to be told apart, trained on by the very mechanism that is audited.

A canary's gradient is (almost) one coordinate: a branch beside the model, with a weight of its own for each canary,
whose loss is linear and steep. Clipped, it moves that weight by exactly the clip, and noise is all that hides it. The
user's layers, clip, noise and sampling run as they are.
Source: Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846), Dirac canaries in the white-box setting.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfshape import checks
from tfshape.privacy import audit, sampling
from tfshape.privacy.training import Training, probability

STEEP, MATE, BRIGHT = 1e8, 1e4, 1e3
ROWS, CLEAN = 8, 200
RATE, STEPS = 0.25, 8


def gradient_audit(
    shape: Callable[[keras.Model, int], keras.Model],
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    noise_multiplier: float,
    clip: float,
    canaries: int = 1000,
    trials: int = 2000,
    delta: float = 1e-5,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[audit.Finding]:
    """Audits a DP-SGD mechanism with canaries in gradient space.

    Four games share the chance of error. "training" is one training: eight steps of Poisson sampling at rate 1/4, with
    many canaries that are in or out by coins. The others watch one-step trainings, one after the other, each with a
    coin for one canary: "sum" its own weight, to which a mate that is always there pulls the other way, so that a
    mechanism which clips the two together moves by twice the clip; "layers" the model's own weights, along the gradient
    of the canary's bright image; "reuse" the canary's weight, less what the step before showed of the noise.

    Args:
        shape: function `(model, batch_size) -> keras.Model`, the mechanism: such as
            `lambda model, batch_size: ts.shape(model, ts.shaping.dp_sgd(clip, noise), batch_size=batch_size)`. What it
            returns is compiled with plain SGD here, and must train the weights of the model it is given.
        model: a `keras.Model` from x to logits; its weights are as before when the audit ends.
        x, y: clean examples and integer labels that train beside the canaries, at least 8; the first 200 are used.
        noise_multiplier, clip: what the mechanism claims, > 0.
        canaries, trials: ints >= 20.
        delta, confidence: probabilities, 0 to 1. seed: int >= 0, of coins, images and batches.

    Returns:
        A list of `audit.Finding`, one a game.

    Raises:
        ValueError: for a value outside these ranges.
    """
    noise_multiplier = checks.real("noise_multiplier", noise_multiplier, 0, above=True)
    clip = checks.real("clip", clip, 0, above=True)
    delta, confidence = probability("delta", delta), probability("confidence", confidence)
    canaries, trials = checks.integer("canaries", canaries, 20), checks.integer("trials", trials, 20)
    seed = checks.integer("seed", seed, 0)
    each = 1 - (1 - confidence) / 4
    clean = np.asarray(x[:CLEAN], np.float32), np.asarray(y[:CLEAN], np.int64)
    checks.require("x", len(clean[0]) >= ROWS, f"at least {ROWS} examples", len(clean[0]))
    rng = np.random.default_rng(seed)
    before = model.get_weights()
    found = _one_training(shape, model, clean, noise_multiplier, clip, canaries, delta, each, rng, seed)
    model.set_weights(before)
    coins, moved, along = _step_by_step(shape, model, clean, trials, rng)
    model.set_weights(before)
    claim = Training(noise_multiplier, ROWS, ROWS, 1, "shuffle")
    moved, along, known = moved / clip, along / clip, np.append(0.0, coins[:-1])
    fresh = moved - np.append(0.0, moved[:-1]) + known
    guesses = {"sum": moved > -0.5, "layers": along > _middle(along, coins), "reuse": fresh > 0.5}
    return found + [audit.trials(game, claim, guess == coins, delta, each) for game, guess in guesses.items()]


def _middle(values, coins):
    """For every step the middle between the means of the steps before it with the canary and of those without."""
    sums = [np.append(0.0, np.cumsum(values * side)[:-1]) for side in (coins, ~coins)]
    counts = [np.append(0, np.cumsum(side)[:-1]) for side in (coins, ~coins)]
    return sum(total / np.maximum(number, 1) for total, number in zip(sums, counts)) / 2


def _one_training(shape, model, clean, noise_multiplier, clip, canaries, delta, confidence, rng, seed):
    coins = rng.integers(0, 2, canaries).astype(bool)
    extra, size = len(clean[0]), len(clean[0]) + canaries
    columns = (
        np.concatenate([np.zeros((canaries, *clean[0].shape[1:]), np.float32), clean[0]]),
        np.concatenate([np.arange(canaries), np.full(extra, -1)]),
        np.concatenate([np.zeros(canaries, np.int64), clean[1]]),
        np.concatenate([np.full(canaries, STEEP), np.zeros(extra)]).astype(np.float32),
        np.concatenate([coins, np.ones(extra)]).astype(np.float32),
    )
    data = tf.data.Dataset.from_tensor_slices(columns)
    data = data.map(lambda x, tag, y, steep, weight: ((x, tf.one_hot(tag, canaries)), (y, steep), weight))
    expected = int(size * RATE)
    batches, _ = sampling.poisson(data, expected, math.ceil(STEPS * expected / size), seed)
    joined, branch = _with_branch(model, clean[0].shape[1:], canaries)
    watch = _Watch(joined, branch)
    _train(shape(joined, expected), batches, STEPS, expected, watch)
    moved = np.array(watch.moved) / clip
    likely = np.logaddexp(np.log(1 - RATE), np.log(RATE) + (moved - 0.5) / noise_multiplier**2).sum(axis=0)
    scores = {"likelihood": likely, "spread": moved.var(axis=0)}
    claim = Training(noise_multiplier, expected, size, STEPS, "poisson")
    return [audit.one_run("training", claim, scores, coins, delta, confidence)]


def _step_by_step(shape, model, clean, trials, rng):
    """Coins [trials]; and how far each step moved the canary's weight, and the model along the canary's gradient."""
    coins = rng.integers(0, 2, trials).astype(bool)
    image = BRIGHT * rng.choice([-1.0, 1.0], (1, *clean[0].shape[1:])).astype(np.float32)
    logits = np.asarray(model(image, training=False))[0]
    label = int(np.argmin(logits))  # the farther from what the model says, the larger the gradient
    with tf.GradientTape() as tape:
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([label], model(image, training=False))
    variables = model.trainable_variables
    direction = [np.asarray(g) for g in tape.gradient(loss, variables)]
    norm = math.sqrt(sum(float((g**2).sum()) for g in direction))

    x = np.concatenate([image, 0 * image, clean[0][: ROWS - 2]])  # the canary, its mate, others
    y = np.concatenate([[label, 0], clean[1][: ROWS - 2]])
    tag = np.array([[1.0], [1.0]] + [[0.0]] * (ROWS - 2), np.float32)
    steep = np.array([STEEP, -MATE] + [0.0] * (ROWS - 2), np.float32)
    others = tf.ones([ROWS - 1])
    steps = tf.data.Dataset.from_tensor_slices(coins.astype(np.float32))
    batches = steps.map(lambda coin: ((x, tag), (y, steep), tf.concat([coin[None], others], 0)))
    joined, branch = _with_branch(model, clean[0].shape[1:], 1)
    watch = _Watch(joined, branch, variables, [g / norm for g in direction])
    _train(shape(joined, ROWS), batches, trials, ROWS, watch)
    return coins, np.array(watch.moved)[:, 0], np.array(watch.along)


def _with_branch(model, shape, canaries):
    inputs = keras.Input(shape), keras.Input((canaries,))
    branch = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="canaries")
    return keras.Model(list(inputs), [model(inputs[0]), branch(inputs[1])]), branch


def _train(shaped, batches, steps, size, watch):
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # A rate of the batch size moves weights by the whole noisy sum.
    shaped.compile(keras.optimizers.SGD(float(size)), [cross_entropy, _linear])
    shaped.fit(batches, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[watch])


def _linear(strength, output):
    return tf.reshape(strength, [-1]) * output[:, 0]


class _Watch(keras.callbacks.Callback):
    """Notes what each step subtracted from the canaries' weights, and from others along a direction; then undoes it.

    moved: [steps, canaries], along: [steps], as lists.
    """

    def __init__(self, joined, branch, variables=(), direction=()):
        super().__init__()
        self.joined, self.branch, self.variables, self.direction = joined, branch, variables, direction
        self.start, self.moved, self.along = joined.get_weights(), [], []
        self.before = [np.array(v) for v in variables]

    def on_train_batch_end(self, batch, logs=None):
        self.moved.append(-np.array(self.branch.get_weights()[0])[:, 0])
        parts = zip(self.before, self.variables, self.direction)
        self.along.append(sum(float(((b - np.array(v)) * d).sum()) for b, v, d in parts))
        self.joined.set_weights(self.start)
