"""Several victims of one architecture trained side by side in one compiled program.

Small victims spend most of their time between the operations of a step, and on tracing one each. Here the weights have
a leading axis of K victims, each with data, batches and a seed of its own; a step of all K is one step of the program,
which is made once for an architecture. Batches are those that `ts.training.fit` draws, noise is that of `ts.shape`: the
victims are those that are trained alone, up to rounding.
"""

from __future__ import annotations

import functools
import math

import keras
import numpy as np
import tensorflow as tf

from tfshape import graphs, shaping
from tfshape.gradients import scaling
from tfshape.privacy.sampling import SAMPLERS, permutation
from tfshape.shaping import noise
from tfshape.training.looks import moments, stride

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
    return known and e.engine == "fast" and _dense_only(layers)


def train(models, shapers, recipe, seeds, examples, scheme, test=None, looks=None):
    """Trains K models of one architecture in place, each as `ts.training.fit(ts.shape(…))` would; see `can`.

    Args:
        models: K `keras.Model`s, at the weights to start from.
        shapers: for each a chain of `Clip`, or of `Clip` and `GaussianNoise`; None for undefended.
        recipe: the `ts.training.Recipe` of all.
        seeds: for each the integer that its batches and its noise derive from.
        examples: for each what it trains on: (x [N, ...], y [N]), N the same for all; or one such pair for all.
        scheme: how batches are drawn, a name in `ts.privacy.sampling.SAMPLERS`.
        test: a `ts.datasets.Split`; None: measure nothing.
        looks: for each a function, called through the training as `look` is in `programs.fit`; None, or without `test`.

    Returns:
        Accuracies on `test` after each epoch, float32 [epochs, K]; None without one.
    """
    layers, count = _layers(models[0]), len(models)
    one = isinstance(examples, tuple)
    size = len((examples if one else examples[0])[1])
    # examples and batches that all have in common are held, gathered and multiplied once
    shared = one and len(set(seeds)) == 1 and _dense_only(layers)
    drawn = [_batches(size, recipe, seed, scheme) for seed in (seeds[:1] if shared else seeds)]
    rows, marks = drawn[0] if shared else (np.stack(arrays) for arrays in zip(*drawn))
    height = -(-int(marks.sum(axis=-1).max()) // 16) * 16  # all behind is padding; few heights, for few tracings
    rows, marks = rows[..., :height], marks[..., :height]
    x, y = examples if shared else map(np.stack, zip(*([examples] * count if one else examples)))
    clips = [math.inf if shaper is None else shaper.shapers[0].clip for shaper in shapers]
    stddevs = [shaper.shapers[-1].noise_for(shaper.sensitivity) or 0.0 if shaper else 0.0 for shaper in shapers]
    clipped = any(shaper is not None for shaper in shapers)
    run = _program(layers, recipe.optimizer, clipped, tuple(stddev > 0 for stddev in stddevs))
    weights = [tf.stack(list(map(tf.convert_to_tensor, vs))) for vs in zip(*(m.trainable_variables for m in models))]
    state = [weights, *([tf.zeros_like(weight) for weight in weights] for _ in range(2))]
    each = [tf.constant(numbers, tf.float32) for numbers in (clips, np.divide(stddevs, recipe.batch_size))]
    numbers = [tf.constant(number, tf.float32) for number in (recipe.learning_rate, recipe.batch_size)]
    fixed = [tf.constant(seeds, tf.int64), *numbers, *each]
    x = tf.constant(np.reshape(x, [*np.shape(y), -1]) if _dense_only(layers) else x)
    y, steps = tf.constant(y), rows.shape[-2]
    found, watched = [], moments(steps) if looks else ()
    length = stride(steps) if looks else steps if test is None else steps // recipe.epochs
    for begin in range(0, steps, length):
        now = np.s_[..., begin : begin + length, :]
        state = run(x, y, tf.constant(rows[now]), tf.constant(marks[now]), state, tf.constant(begin), *fixed)
        if test is not None:
            found.append(_accuracies(layers, state[0], test))
        if begin + length == steps or begin + length in watched:
            for k, model in enumerate(models):
                model.set_weights([np.asarray(array[k]) for array in state[0]])
                if looks:
                    looks[k](begin + length, model)
    return None if test is None else np.stack(found)


def _accuracies(layers, weights, test):
    """[K]."""
    x = test.x.reshape(len(test), -1) if _dense_only(layers) else np.stack([test.x] * weights[0].shape[0])
    logits, _ = _forward(layers, weights, tf.constant(x))
    return np.mean(np.argmax(logits, axis=2) == test.y, axis=1, dtype=np.float32)


def _dense_only(layers):
    return all(kind in ("dense", "flatten") for kind, *_ in layers)


@functools.lru_cache(maxsize=16)  # a trial's victims, and their controls, have the same
def _batches(size, recipe, seed, scheme):
    """The rows of every batch, int32 [S, B], and which of them are examples and not padding, float32 [S, B]."""
    if scheme == "shuffle":  # the same without a pipeline, whose steps take longer than they do
        steps = size // recipe.batch_size
        orders = [permutation(size, seed, epoch).numpy() for epoch in range(recipe.epochs)]
        rows = np.stack(orders)[:, : steps * recipe.batch_size].reshape(-1, recipe.batch_size)
        return rows, np.ones(rows.shape, np.float32)
    numbers = tf.data.Dataset.from_tensor_slices((tf.range(size), tf.range(size)))
    batches, steps = SAMPLERS[scheme](numbers, recipe.batch_size, recipe.epochs, seed)
    rows, _, marks = graphs.only(batches.batch(steps * recipe.epochs))
    return rows.numpy(), marks.numpy()


def _layers(model):
    """The layers of a chain, a tuple of (kind, relu or not, more); None for a model that is not one that is known."""
    found: list[tuple] = []
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
    """-> (logits [K, B, C], and for each dense layer its input and its output before relu [K, B, O]).

    x: [K, B, ...], or [B, F] that all K share.
    """
    weights, seen = list(weights), []
    for kind, relu, *more in layers:
        if kind == "flatten":
            x = x if x.shape.rank <= 3 else tf.reshape(x, [*x.shape[:1], tf.shape(x)[1], int(np.prod(x.shape[2:]))])
        elif kind == "pool":
            size, strides, padding = more
            pooled = tf.nn.max_pool2d(tf.reshape(x, [-1, *x.shape[2:]]), size, strides, padding)
            x = tf.reshape(pooled, [x.shape[0], -1, *pooled.shape[1:]])
        else:
            kernel, bias = weights.pop(0), weights.pop(0)
            if kind == "dense":
                inputs, x = x, _matmul("bf,kfo->kbo", x, kernel) + bias[:, None]
                seen.append((inputs, x))
            else:
                pairs = zip(tf.unstack(x), tf.unstack(kernel))
                x = tf.stack([tf.nn.conv2d(part, filters, *more) for part, filters in pairs])
                x += bias[:, None, None, None]
        x = tf.nn.relu(x) if relu else x
    return x, seen


def _matmul(equation, x, other, **options):
    """The product for each of K; where x has no axis of them, one product of x with all, as the equation says."""
    return tf.einsum(equation, x, other) if x.shape.rank == 2 else tf.matmul(x, other, **options)


def _gradients(layers, weights, x, y, marks, batch_size, clips):
    """The mean gradients of K victims, each example's clipped to its victim's of `clips` [K] if that is not None."""
    with tf.GradientTape() as tape:
        tape.watch(weights)
        logits, seen = _forward(layers, weights, x)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.broadcast_to(y, tf.shape(logits)[:2]), logits)
        total = tf.reduce_sum(losses * marks) / batch_size
    if clips is None:
        return tape.gradient(total, weights)
    errors = tape.gradient(total, [outputs for _, outputs in seen])
    squares = [_squares(inputs, error) for (inputs, _), error in zip(seen, errors)]
    norms = scaling.root(tf.stack(squares), tf.float32) * batch_size
    scales = tf.minimum(1.0, clips[:, None] / tf.maximum(norms, 1e-30))[..., None]
    found = []
    for (inputs, _), error in zip(seen, errors):
        error *= scales
        found += [_matmul("bf,kbo->kfo", inputs, error, transpose_a=True), tf.reduce_sum(error, 1)]
    return found


def _squares(inputs, errors):
    """[K, B], float64: squared norms of the gradients of a dense layer's kernel and bias (arXiv 1510.01799)."""
    a, e = (scaling.power(tf.reduce_max(tf.abs(tensor), -1)) for tensor in (inputs, errors))
    a = tf.maximum(a, 1)
    one = scaling.inverse(a)
    squares = tf.reduce_sum((inputs * one[..., None]) ** 2, -1) + one**2
    return scaling.product(squares * tf.reduce_sum((errors * scaling.inverse(e)[..., None]) ** 2, 2), a, a, e, e)


@functools.lru_cache(maxsize=8)
def _program(layers, optimizer, clipped, noisy):
    """The compiled training of as many victims as `noisy`, which says which get noise; updates as Keras has them."""

    def step_of(weight, gradient, first, second, rate, age):
        if optimizer == "sgd":
            return weight - rate * gradient, first, second
        if optimizer == "momentum":
            first = 0.9 * first - rate * gradient
            return weight + first, first, second
        first += 0.1 * (gradient - first)  # Kingma & Ba 2015, with the epsilon outside of the bias correction
        second += 0.001 * (gradient * gradient - second)
        rate *= tf.sqrt(1 - 0.999**age) / (1 - 0.9**age)
        return weight - rate * first / (tf.sqrt(second) + 1e-7), first, second

    def run(x, y, rows, marks, state, start, seeds, rate, batch_size, clips, stddevs):
        axis = rows.shape.rank - 2  # 1 where each victim has rows of its own, 0 where all share them

        def body(step, weights, first, second):
            chosen, mark = (tf.gather(array, step, axis=axis) for array in (rows, marks))
            images, labels = (tf.gather(array, chosen, batch_dims=axis, axis=axis) for array in (x, y))
            update = _gradients(layers, weights, images, labels, mark, batch_size, clips if clipped else None)
            if any(noisy):
                update = _with_noise(update, noisy, seeds, stddevs, start + step)
            age = tf.cast(start + step + 1, tf.float32)
            moved = [step_of(*parts, rate, age) for parts in zip(weights, update, first, second)]
            return (step + 1, *map(list, zip(*moved)))

        steps = tf.shape(rows)[axis]
        state = (tf.constant(0), *state)
        return tf.while_loop(lambda step, *_: step < steps, body, state, parallel_iterations=1)[1:]

    return tf.function(run, autograph=False, reduce_retracing=True)


def _with_noise(update, noisy, seeds, stddevs, step):
    """The update, [K, ...]s, with the noise that `ts.shape` adds at this step to those of K that are `noisy`."""
    zeros = [tf.zeros(part.shape[1:]) for part in update]
    drawn = [
        noise.like(zeros, stddevs[k], (seeds[k], 0), tf.cast(step, tf.int64))[0] if more else zeros
        for k, more in enumerate(noisy)
    ]
    return [part + tf.stack(parts) for part, parts in zip(update, zip(*drawn))]
