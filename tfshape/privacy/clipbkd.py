"""Canaries in input space: a poisoned image that clipping does not blunt, sought in the weights of many trainings."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfshape import checks
from tfshape.privacy import audit
from tfshape.privacy.training import Training, probability

CLEAN, STEPS = 64, 10


def input_audit(
    shape: Callable[[keras.Model, int], keras.Model],
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    noise_multiplier: float,
    clip: float,
    runs: int = 1000,
    copies: int = 1,
    delta: float = 1e-5,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[audit.Finding]:
    """Audits a DP-SGD mechanism by ClipBKD: trains it `runs` times, with the poison or without, by fair coins.

    The poison is `copies` times the image along the direction in which the data vary least, as long as an image is on
    average, with the label that the untrained model finds least likely: its gradient is like no other, whatever it is
    clipped to. The score of a run is the poison's loss in the trained model. Each run is ten steps on all the data.

    Args: `shape`, `model`, `x`, `y`, `noise_multiplier`, `clip`, `delta`, `confidence` and `seed` as of
    `ts.privacy.canaries.gradient_audit`, of x and y the first 64; runs: int >= 20; copies: int >= 1.

    Returns:
        A list of one `audit.Finding`. Its bound cannot exceed the logarithm of a quarter of the runs, or so.

    Raises:
        ValueError: for a value outside these ranges.

    Source: Jagielski, Ullman and Oprea 2020 (arXiv 2006.07709), algorithm 3.
    """
    noise_multiplier = checks.real("noise_multiplier", noise_multiplier, 0, above=True)
    clip = checks.real("clip", clip, 0, above=True)
    delta, confidence = probability("delta", delta), probability("confidence", confidence)
    runs, copies = checks.integer("runs", runs, 20), checks.integer("copies", copies, 1)
    seed = checks.integer("seed", seed, 0)
    coins = np.random.default_rng(seed).integers(0, 2, runs).astype(bool)
    x, y = np.asarray(x[:CLEAN], np.float32), np.asarray(y[:CLEAN], np.int64)
    flat = x.reshape(len(x), -1)
    length = float(np.linalg.norm(flat, axis=1).mean())
    poison = (np.linalg.svd(flat)[2][-1] * length).reshape(1, *x.shape[1:]).astype(np.float32)
    label = int(np.argmin(np.asarray(model(poison, training=False))))

    size = len(x) + copies
    xs, ys = np.concatenate([np.repeat(poison, copies, 0), x]), np.concatenate([np.full(copies, label), y])
    steps = tf.data.Dataset.from_tensor_slices(np.repeat(coins, STEPS).astype(np.float32))
    batches = steps.map(lambda coin: (xs, ys, tf.concat([tf.fill([copies], coin), tf.ones([len(x)])], 0)))
    # Weights wander by about 1 / length, so that losses neither vanish nor saturate.
    rate = size / (noise_multiplier * clip * math.sqrt(STEPS) * length)
    before = model.get_weights()
    shaped, scores = shape(model, size), _Scores(model, poison, label)
    shaped.compile(keras.optimizers.SGD(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    shaped.fit(batches, epochs=1, steps_per_epoch=runs * STEPS, shuffle=False, verbose=0, callbacks=[scores])
    model.set_weights(before)
    claim = Training(noise_multiplier, size, size, STEPS, "shuffle", group_size=copies)
    found = np.array(scores.found)
    return [audit.many_runs("clipbkd", claim, found[coins], found[~coins], delta, confidence)]


class _Scores(keras.callbacks.Callback):
    """The negative loss of the poison at the end of each run; every run begins with the same weights."""

    def __init__(self, watched, poison, label):
        super().__init__()
        self.watched, self.poison, self.label = watched, poison, label
        self.start, self.found, self.steps = watched.get_weights(), [], 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps % STEPS == 0:
            logits = np.asarray(self.watched(self.poison, training=False))[0].astype(np.float64)
            self.found.append(logits[self.label] - np.logaddexp.reduce(logits))
            self.watched.set_weights(self.start)
