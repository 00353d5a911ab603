"""How batches are drawn, as tf.data: by shuffling, by Poisson sampling, or by throwing examples into bins.

An accountant's epsilon holds for one way of drawing batches. These are the ways that `ts.privacy.epsilon` knows, under
the same names. Poisson and balls-in-bins batches have random sizes; they are padded to a fixed number of rows with
examples of sample weight 0, which `ts.shape` leaves out exactly. Give `ts.shape(…, batch_size=…)` the expected batch
size: the real one is private.
"""

from __future__ import annotations

import math

from tfshape import checks, graphs

TRUNCATION = 1e-18


def shuffle(data, batch_size, epochs, seed):
    """Every epoch a new permutation of the data, cut into batches of exactly `batch_size`; the rest sits it out.

    Args:
        data: an unbatched, finite `tf.data.Dataset` of (x, y) or (x, y, sample_weight); it is held in memory.
        batch_size: examples a batch, 1 to the number of examples.
        epochs: int >= 1.
        seed: int >= 0. Epoch e is permuted by (seed, e), whatever the global seeds are.

    Returns:
        (a `tf.data.Dataset` of epochs * steps batches, steps an epoch).

    Raises:
        ValueError: a value outside these ranges, data without end, or elements that are not (x, y[, sample_weight]),
            such as dicts, or examples with a mark whether they are poison.
    """
    arrays, size = _in_memory(data)
    batch_size, epochs, seed = _plan(batch_size, size, epochs, seed)
    return _shuffled(arrays, size, batch_size, epochs, _key(seed, "shuffle")), size // batch_size


def permutation(size, seed, epoch):
    """The order of `size` examples in an epoch of `shuffle`, int32 [size]; `epoch` counts from 0."""
    return _permutation(size, _key(seed, "shuffle"), epoch)


def poisson(data, batch_size, epochs, seed, truncation=TRUNCATION, physical=None):
    """Every batch takes each example independently with probability batch_size / N, of N examples.

    Args:
        data, epochs: as in `shuffle`. batch_size: the expected examples a batch, 1 to N.
        seed: int >= 0, from which the members of every batch derive. Who knows it knows the members, and has no less
            to go by than under no sampling at all.
        truncation: probability, 0 <= truncation < 1, that any batch of the run exceeds its rows and loses examples;
            give the same to `ts.privacy.epsilon`, which adds it to delta. 0 pads to all N.
        physical: rows that memory holds at a time: batches are padded to a multiple of it, for
            `ts.shape(…, microbatch=physical)` to split them. None: no such multiple.

    Returns:
        (a `tf.data.Dataset` of epochs * steps batches (x, y, sample_weight), steps an epoch: N // batch_size). Every
        batch has `rows(…)` rows, examples first, in the order of the data; weight 1 marks an example, 0 padding.
        Weights that the data brings along are multiplied in.

    Raises:
        ValueError: as `shuffle` does.

    Source: Abadi et al. 2016 (arXiv 1607.00133) for the sampling; Chua et al. 2024, Scalable DP-SGD (arXiv 2411.04205)
    for padding and truncation.
    """
    arrays, size = _in_memory(data)
    batch_size, epochs, seed = _plan(batch_size, size, epochs, seed)
    batches = _poisson(arrays, size, batch_size, epochs, _key(seed, "poisson"), truncation, physical)
    return batches, size // batch_size


def balls_in_bins(data, batch_size, epochs, seed, truncation=TRUNCATION, physical=None):
    """Every epoch throws each example into one of its N // batch_size batches, independently and uniformly.

    Arguments, returned values and errors are those of `poisson`. Every example is used exactly once an epoch.
    Source: Chua et al. 2025, Balls-and-Bins Sampling for DP-SGD (AISTATS).
    """
    arrays, size = _in_memory(data)
    batch_size, epochs, seed = _plan(batch_size, size, epochs, seed)
    batches = _balls_in_bins(arrays, size, batch_size, epochs, _key(seed, "balls_in_bins"), truncation, physical)
    return batches, size // batch_size


SAMPLERS = {"shuffle": shuffle, "poisson": poisson, "balls_in_bins": balls_in_bins}


class Feed:
    """The batches of a sampler for arrays and seeds that come later: a pipeline that is traced once for many trainings.

    Args:
        sampling: a name in `SAMPLERS`.
        arrays: a tuple of arrays [N, ...] of the shapes and dtypes of those to come.
        batch_size, epochs: as in `shuffle`.

    Attributes:
        batches: a `tf.data.Dataset`, to be read after `start`; it gives what the sampler would of the same arrays.
        steps: how many of them are an epoch.

    Raises:
        ValueError: as the sampler does.
    """

    def __init__(self, sampling, arrays, batch_size, epochs):
        import tensorflow as tf

        draw = {"shuffle": _shuffled, "poisson": _poisson, "balls_in_bins": _balls_in_bins}[sampling]
        size = len(arrays[0])
        batch_size, epochs, _ = _plan(batch_size, size, epochs, 0)
        self._sampling, self.steps = sampling, size // batch_size
        with tf.device("CPU:0"):  # where pipelines run
            self._arrays = [tf.Variable(array[:0], trainable=False, shape=[None, *array.shape[1:]]) for array in arrays]
            self._key = tf.Variable([0, 0], trainable=False, dtype=tf.int64)
        self.batches = draw(tuple(self._arrays), size, batch_size, epochs, self._key)

    def start(self, arrays, seed):
        """Takes other arrays and another seed, an int >= 0."""
        for variable, array in zip(self._arrays, arrays):
            variable.assign(array)
        self._key.assign(_key(seed, self._sampling))

    def stop(self):
        """Lets the arrays go."""
        for variable in self._arrays:
            variable.assign(variable[:0])


def _shuffled(arrays, size, batch_size, epochs, key):
    import tensorflow as tf

    steps = size // batch_size

    def epoch(number):
        order = _permutation(size, key, number)
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order[: steps * batch_size], [steps, batch_size]))

    def gather(rows):
        return tf.nest.map_structure(lambda array: tf.gather(array, rows), arrays)

    return _finish(tf.data.Dataset.range(epochs).flat_map(epoch).map(gather), epochs * steps)


def _permutation(size, key, epoch):
    import tensorflow as tf

    return tf.random.experimental.stateless_shuffle(tf.range(size), seed=_seed(key, epoch))


def _poisson(arrays, size, batch_size, epochs, key, truncation=TRUNCATION, physical=None):
    import tensorflow as tf

    count = epochs * (size // batch_size)

    def members(step):
        return tf.random.stateless_uniform([size], _seed(key, step), dtype=tf.float64) < batch_size / size

    return _padded(arrays, members, rows(batch_size, size, count, truncation, physical), count)


def _balls_in_bins(arrays, size, batch_size, epochs, key, truncation=TRUNCATION, physical=None):
    import tensorflow as tf

    steps = size // batch_size

    def members(step):
        seed = _seed(key, step // steps)
        return tf.random.stateless_uniform([size], seed, 0, steps, dtype=tf.int64) == step % steps

    return _padded(arrays, members, rows(size / steps, size, epochs * steps, truncation, physical), epochs * steps)


def _seed(key, number):
    """That of one draw of many."""
    import tensorflow as tf

    key = tf.convert_to_tensor(key, tf.int64)
    return tf.stack([key[0], key[1] + tf.cast(number, tf.int64)])


def rows(batch_size, num_examples, steps, truncation=TRUNCATION, physical=None):
    """How many rows a batch of binomial size (`num_examples` draws, mean `batch_size`) is padded to.

    The least count that all of `steps` batches exceed with probability at most `truncation` (union bound), rounded up
    to a multiple of `physical`. Raises ValueError for values outside the ranges of `poisson`.
    """
    from scipy import stats

    truncation = checks.real("truncation", truncation, 0, 1, below=True)
    most = checks.integer("num_examples", num_examples, 1)
    if truncation > 0:
        least = 0  # bisection, for SciPy's isf fails that far out
        while most - least > 1:
            middle = (least + most) // 2
            few = stats.binom.sf(middle, num_examples, batch_size / num_examples) > truncation / steps
            least, most = (middle, most) if few else (least, middle)
    return most if physical is None else math.ceil(most / checks.integer("physical", physical, 1)) * int(physical)


def _padded(arrays, members, height, count):
    """`count` batches of `height` rows: batch i the examples for which `members(i)` is true, then padding."""
    import tensorflow as tf

    def batch(step):
        chosen = tf.where(members(step))[:height, 0]
        padding = [[0, height - tf.size(chosen)]]
        mask = tf.ensure_shape(tf.pad(tf.ones_like(chosen, tf.float32), padding), [height])
        index = tf.ensure_shape(tf.pad(chosen, padding), [height])
        x, y, *weight = tf.nest.map_structure(lambda array: tf.gather(array, index), arrays)
        return x, y, mask * tf.cast(weight[0], tf.float32) if weight else mask

    return _finish(tf.data.Dataset.range(count).map(batch), count)


def _finish(batches, count):
    import tensorflow as tf

    return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)


def _in_memory(data):
    """-> (its elements as whole arrays, their number)."""
    import numpy as np
    import tensorflow as tf

    check_elements(data.element_spec)
    size = int(data.cardinality())
    if size == tf.data.INFINITE_CARDINALITY:
        raise ValueError("data must have an end, got a dataset that repeats for ever")
    if size == tf.data.UNKNOWN_CARDINALITY:
        size = int(data.reduce(np.int64(0), lambda count, _: count + 1))
    checks.require("data", size, "a dataset with examples", size)
    return graphs.only(data.batch(size)), size


def check_elements(spec):
    """Raises ValueError unless a dataset's `element_spec` is that of (x, y), or of (x, y, sample_weight)."""
    words = "a dataset of tuples (x, y) or (x, y, sample_weight)"
    if isinstance(spec, dict):
        named = f"dicts of {', '.join(map(str, spec))}"
        raise ValueError(f"data must be {words}, got {checks.escaped(named)}. Make tuples of them by data.map")
    checks.require("data", isinstance(spec, tuple) and len(spec) in (2, 3), words, spec)
    if len(spec) == 3 and not getattr(getattr(spec[2], "dtype", None), "is_floating", False):
        words += " with floats as weights; data.map(lambda x, y, mark: (x, y)) drops a mark such as is_poison"
        checks.fail("data", words, spec[2])


def _plan(batch_size, size, epochs, seed):
    """Its arguments but `size` as ints."""
    if not 1 <= checks.integer("batch_size", batch_size, 1) <= size:
        checks.fail("batch_size", f"at most the number of examples, {size}", batch_size)
    return int(batch_size), checks.integer("epochs", epochs, 1), checks.integer("seed", seed, 0)


def _key(seed, sampling):
    """Two int64 of their own for each sampling, far from the streams that noise and shuffling take from one seed."""
    import numpy as np

    if sampling == "shuffle":
        return [int(seed), 0]
    return [int(n) for n in np.random.SeedSequence([seed, *sampling.encode()]).generate_state(2, np.uint64) >> 2]
