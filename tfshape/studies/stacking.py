"""Several victims of one architecture trained side by side in one compiled program.

Small victims spend most of their time between the operations of a step, and on tracing one each. Here the weights have
a leading axis of K victims, each with data, batches and a seed of its own; a step of all K is one step of the program,
which is made once for an architecture. Batches are those that `ts.models.fit` draws, noise is that of `ts.shape`: the
victims are those that are trained alone, up to rounding.
"""

from __future__ import annotations

import functools

import keras
import numpy as np
import tensorflow as tf

from tfshape import shaping
from tfshape.evaluation import accounting, victims
from tfshape.privacy.sampling import SAMPLERS
from tfshape.shaping import noise

OPTIMIZERS = ("sgd", "momentum", "adam")


def can(setting, choice):
    """Whether victims of a `victims.Setting` under a `Choice` can be stacked.

    They can if all weights train, by an optimizer of `OPTIMIZERS`, undefended or by clipping with or without noise that
    the fast engine computes, in models that are a chain of dense, convolution, max-pooling and flattening layers with
    relu; under clipping, of dense ones.
    """
    e = setting.experiment
    special = e.secure_noise or e.distribute or e.scenario == "transfer"
    if special or choice.sanitiser is not None or e.optimizer not in OPTIMIZERS:
        return False
    layers = _layers(setting.new_victim())
    if layers is None:
        return False
    if choice.shaper is None:
        return True
    kinds = [type(shaper) for shaper in choice.shaper.shapers]
    known = kinds in ([shaping.Clip], [shaping.Clip, shaping.GaussianNoise])
    return known and e.engine == "fast" and all(kind in ("dense", "flatten") for kind, *_ in layers)


def train(settings, choice, examples):
    """Trains a victim of each trial; see `can`.

    Args:
        settings: K `victims.Setting`s of one experiment.
        choice: the defense of all.
        examples: for each trial what the victim trains on: x [N, ...] and y [N], N the same for all.

    Returns:
        A list of K trained `keras.Model`s.
    """
    e, shaper = settings[0].experiment, choice.shaper
    recipe, scheme = victims.recipe(e), accounting.sampling(e, shaper)
    models = [setting.new_victim() for setting in settings]
    seeds = [setting.seed("victim") for setting in settings]
    drawn = [_batches(len(examples[0][1]), recipe, seed, scheme) for seed in seeds]
    rows, marks = (np.stack(arrays) for arrays in zip(*drawn))
    clip = None if shaper is None else shaper.shapers[0].clip
    stddev = 0.0 if shaper is None else shaper.shapers[-1].noise_for(shaper.sensitivity) or 0.0
    run = _program(_layers(models[0]), len(models), recipe.optimizer, clip is not None, stddev > 0)
    x, y = (tf.stack(arrays) for arrays in zip(*examples))
    weights = [tf.stack(list(map(tf.convert_to_tensor, vs))) for vs in zip(*(m.trainable_variables for m in models))]
    numbers = (recipe.learning_rate, recipe.batch_size, clip or 0.0, stddev / recipe.batch_size)
    seeds = tf.constant(seeds, tf.int64)
    found = run(x, y, tf.constant(rows), tf.constant(marks), weights, seeds, *map(tf.constant, numbers))
    for k, model in enumerate(models):
        model.set_weights([np.asarray(array[k]) for array in found])
    return models


def _batches(size, recipe, seed, scheme):
    """The rows of every batch, int32 [S, B], and which of them are examples and not padding, float32 [S, B]."""
    numbers = tf.data.Dataset.range(size).map(lambda i: (tf.cast(i, tf.int32), tf.cast(i, tf.int32)))
    batches, steps = SAMPLERS[scheme](numbers, recipe.batch_size, recipe.epochs, seed)
    rows, _, *marks = batches.batch(steps * recipe.epochs).get_single_element()
    return rows.numpy(), marks[0].numpy() if marks else np.ones(rows.shape, np.float32)


def _layers(model):
    """The layers of a chain, a tuple of (kind, relu or not, more); None for a model that is not one that is known."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        relu = getattr(layer, "activation", None)
        relu = None if relu is None else relu.__name__
        chained = relu in (None, "linear", "relu") and getattr(layer, "use_bias", True)
        if isinstance(layer, keras.layers.Dense) and len(layer.input.shape) == 2:
            found.append(("dense", relu == "relu"))
        elif isinstance(layer, keras.layers.Flatten):
            found.append(("flatten", False))
        elif isinstance(layer, keras.layers.Conv2D) and layer.groups == 1 and layer.dilation_rate == (1, 1):
            found.append(("conv", relu == "relu", layer.strides, layer.padding.upper()))
        elif isinstance(layer, keras.layers.MaxPooling2D):
            found.append(("pool", False, layer.pool_size, layer.strides, layer.padding.upper()))
        else:
            return None
        if not chained or len(layer.get_weights()) not in (0, 2) or model.losses:
            return None
    return tuple(found)


def _forward(layers, weights, x):
    """-> (logits [K, B, C], and for each dense layer its input [K, B, F] and its output before relu [K, B, O])."""
    weights, seen = list(weights), []
    for kind, relu, *more in layers:
        if kind == "flatten":
            x = tf.reshape(x, [*x.shape[:2], int(np.prod(x.shape[2:]))])
        elif kind == "pool":
            size, strides, padding = more
            pooled = tf.nn.max_pool2d(tf.reshape(x, [-1, *x.shape[2:]]), size, strides, padding)
            x = tf.reshape(pooled, [*x.shape[:2], *pooled.shape[1:]])
        else:
            kernel, bias = weights.pop(0), weights.pop(0)
            if kind == "dense":
                inputs, x = x, tf.matmul(x, kernel) + bias[:, None]
                seen.append((inputs, x))
            else:
                pairs = zip(tf.unstack(x), tf.unstack(kernel))
                x = tf.stack([tf.nn.conv2d(part, filters, *more) for part, filters in pairs])
                x += bias[:, None, None, None]
        x = tf.nn.relu(x) if relu else x
    return x, seen


def _gradients(layers, weights, x, y, marks, batch_size, clip):
    """The mean gradients of K victims, each example's clipped to `clip` if it is not None."""
    with tf.GradientTape() as tape:
        tape.watch(weights)
        logits, seen = _forward(layers, weights, x)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        total = tf.reduce_sum(losses * marks) / batch_size
    if clip is None:
        return tape.gradient(total, weights)
    errors = tape.gradient(total, [outputs for _, outputs in seen])
    squares = [
        tf.reduce_sum(a**2, 2) + 1 for a, _ in seen
    ]  # of the gradients, but for the errors' own (arXiv 1510.01799)
    norms = tf.sqrt(tf.add_n([s * tf.reduce_sum(e**2, 2) for s, e in zip(squares, errors)])) * batch_size
    scales = (clip / tf.maximum(norms, clip))[..., None]
    found = []
    for (inputs, _), error in zip(seen, errors):
        found += [tf.matmul(inputs, scales * error, transpose_a=True), tf.reduce_sum(scales * error, 1)]
    return found


@functools.lru_cache(maxsize=8)
def _program(layers, count, optimizer, clipped, noisy):
    """The compiled training of `count` victims; updates as Keras has them."""

    def step_of(optimizer, weight, gradient, first, second, rate, age):
        if optimizer == "sgd":
            return weight - rate * gradient, first, second
        if optimizer == "momentum":
            first = 0.9 * first - rate * gradient
            return weight + first, first, second
        first += 0.1 * (gradient - first)  # Kingma & Ba 2015, with the epsilon outside of the bias correction
        second += 0.001 * (gradient * gradient - second)
        rate *= tf.sqrt(1 - 0.999**age) / (1 - 0.9**age)
        return weight - rate * first / (tf.sqrt(second) + 1e-7), first, second

    def run(x, y, rows, marks, weights, seeds, rate, batch_size, clip, stddev):
        batch_size = tf.cast(batch_size, tf.float32)

        def body(step, weights, first, second):
            chosen = rows[:, step]
            batch = [tf.gather(x, chosen, batch_dims=1), tf.gather(y, chosen, batch_dims=1), marks[:, step]]
            update = _gradients(layers, weights, *batch, batch_size, clip if clipped else None)
            if noisy:
                drawn = []
                for k in range(count):
                    key, stream = (seeds[k], 0), tf.cast(step, tf.int64)
                    drawn.append(noise.like([part[k] for part in update], stddev, key, stream)[0])
                update = [part + tf.stack(more) for part, more in zip(update, zip(*drawn))]
            age = tf.cast(step + 1, tf.float32)
            moved = [step_of(optimizer, *parts, rate, age) for parts in zip(weights, update, first, second)]
            return (step + 1, *map(list, zip(*moved)))

        zeros = [tf.zeros_like(weight) for weight in weights]
        state = (tf.constant(0), list(weights), zeros, zeros)
        return tf.while_loop(lambda step, *_: step < tf.shape(rows)[1], body, state, parallel_iterations=1)[1]

    return tf.function(run, autograph=False)
