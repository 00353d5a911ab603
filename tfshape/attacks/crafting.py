"""What crafting is made of: bounds, random starts, steps that keep within bounds, and surrogates that take turns."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tfshape import models
from tfshape.attacks import surrogates


def bounds(x, eps):
    """The smallest and largest float32 within eps of x and within [0, 1], rounded inwards."""
    exact = np.maximum(x.astype(np.float64) - eps, 0), np.minimum(x.astype(np.float64) + eps, 1)
    low, high = (side.astype(np.float32) for side in exact)
    low = np.where(low < exact[0], np.nextafter(low, np.float32(2)), low)
    high = np.where(high > exact[1], np.nextafter(high, np.float32(-1)), high)
    return low, high


def random_start(rng, low, high):
    """Random float32 examples between `low` and `high`."""
    return np.clip(rng.uniform(low, high).astype(np.float32), low, high)


def falling_rates(first, steps):
    """The length of each of `steps` steps, float32 [steps], from `first` in a line to 0."""
    return (first * (1 - np.arange(steps) / steps)).astype(np.float32)


def signed_step(x, gradient, rate, low, high):
    """One step of length `rate` of every entry of x against the sign of its gradient, kept between `low` and `high`."""
    return tf.clip_by_value(x - rate * tf.sign(gradient), low, high)


def signed_descent(gradient, x, low, high, rates):
    """Projected signed gradient descent (Madry et al. 2018, arXiv 1706.06083), for use in a compiled function.

    gradient: function of x and the number of the step. rates: the length of each step, [steps]; negative ones ascend.
    """
    for step in tf.range(tf.shape(rates)[0]):
        x = signed_step(x, gradient(x, step), rates[step], low, high)
    return x


def adam(gradient, first, second, step):
    """The direction of Adam (Kingma & Ba 2015, arXiv 1412.6980) at `step`, counted from 0, and both new moments."""
    count = tf.cast(step + 1, gradient.dtype)
    first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
    return (first / (1 - 0.9**count)) / (tf.sqrt(second / (1 - 0.999**count)) + 1e-8), first, second


def input_gradient(model, x, y):
    """The gradient of each example's cross-entropy by its input: x [B, ...] and y [B] to [B, ...]."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=False))
    return tape.gradient(loss, x)


def stacked(weights):
    """The weights of several models as one tensor for each variable, [S, ...], of which `load` takes one."""
    return [tf.constant(np.stack(arrays)) for arrays in zip(*weights)]


def stack_specs(model):
    """The `tf.TensorSpec`s of what `stacked` gives for models like `model`."""
    return [tf.TensorSpec([None, *weight.shape], weight.dtype) for weight in model.weights]


def load(model, stacks, pick):
    """Puts the weights of entry `pick` of `stacks` into the model."""
    for variable, stack in zip(model.weights, stacks):
        variable.assign(stack[pick])


def perturb(problem, x, y, low, high, weights, picks, rates, batch_size=None):
    """Signed steps of x [K, ...] down (with negative rates up) the cross-entropy that surrogates have with labels y.

    Args:
      problem: the `Problem`, for the architecture.
      x, y, low, high: where to start, the labels int [K], and the bounds.
      weights: of the surrogates, a list.
      picks: int [steps, n], which surrogates' losses each step adds up.
      rates: float32 [steps].
      batch_size: examples that are in memory at a time; None: all.

    Returns:
      float32 [K, ...].
    """
    dataset, stacks = problem.dataset, stacked(weights)
    descend = _perturb(surrogates.architecture(problem), dataset.input_shape, dataset.num_classes)
    picks, size = np.asarray(picks, np.int32), batch_size or len(x)
    parts = [slice(start, start + size) for start in range(0, len(x), size)]
    return np.concatenate([descend(x[p], y[p], low[p], high[p], stacks, picks, rates) for p in parts])


@functools.lru_cache(maxsize=4)
def _perturb(architecture, input_shape, num_classes):
    """What `perturb` compiles, once for all problems."""
    model = models.build(architecture, input_shape, num_classes)

    def descend(x, y, low, high, stacks, picks, rates):
        def gradient(x, step):
            total = tf.zeros_like(x)
            for turn in tf.range(tf.shape(picks)[1]):
                load(model, stacks, picks[step, turn])
                total += input_gradient(model, x, y)
            return total

        return signed_descent(gradient, x, low, high, rates)

    images, picks = tf.TensorSpec([None, *input_shape]), tf.TensorSpec([None, None], tf.int32)
    labels, rates = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None])
    return tf.function(descend, [images, labels, images, images, stack_specs(model), picks, rates])
