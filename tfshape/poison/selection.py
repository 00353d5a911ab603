"""Which elements are poisoned: chosen by a seed from an element's index, never from the order of execution."""

import hashlib
import math
import numbers

import tensorflow as tf


def check_rate(who, rate):
    if not isinstance(rate, numbers.Real) or isinstance(rate, bool) or not 0 <= rate <= 1:
        raise ValueError(f"{who}: rate={rate!r}, expected a share in [0, 1]")
    return float(rate)


def check_seed(who, seed):
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool):
        raise ValueError(f"{who}: seed={seed!r}, expected an integer")
    return int(seed)


def check_class(who, name, value, num_classes=None):
    limit = math.inf if num_classes is None else num_classes
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not 0 <= value < limit:
        allowed = "an integer >= 0" if num_classes is None else f"an integer in [0, {num_classes})"
        raise ValueError(f"{who}: {name}={value!r}, expected {allowed}")
    return int(value)


def check_classes(who, classes, num_classes=None):
    """A sorted tuple of classes, or None for all of them."""
    if classes is None:
        return None
    classes = [classes] if isinstance(classes, numbers.Integral) else list(classes)
    if not classes:
        raise ValueError(f"{who}: classes is empty, expected at least one class, or None for all")
    return tuple(sorted({check_class(who, "classes", value, num_classes) for value in classes}))


def stream(seed, purpose):
    """An int64 key for one purpose of one seed, so that two transforms with the same seed choose independently."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def uniform(key, index, low, high):
    """An int64 in [low, high) that depends on the key and the element's index only."""
    seed = tf.stack([tf.constant(key, tf.int64), tf.cast(index, tf.int64)])
    return tf.random.stateless_uniform([], seed, low, high, tf.int64, alg="philox")


def coin(key, index, rate):
    """True with probability `rate`, depending on the key and the element's index only."""
    return uniform(key, index, 0, 1 << 40) < int(round(rate * (1 << 40)))


def labels_of(dataset, layout, size):
    """One pass over the labels: int64 [size]."""
    labels = dataset.map(lambda *parts: layout.label(parts[0] if layout.is_dict else parts))
    end = tf.data.Dataset.from_tensors(tf.constant(-1, tf.int64))  # so that an empty dataset has a batch too
    return labels.concatenate(end).batch(tf.cast(size, tf.int64) + 1).get_single_element()[:-1]


def exact(who, key, rate, size, eligible):
    """A bool table [size] with exactly round(rate * size) True, all eligible (bool [size], or None for all).

    A larger rate chooses a superset. Half rounds to even, as Python's round does.

    Raises:
      ValueError: too few are eligible (tf.errors.InvalidArgumentError when decided inside a tf.function).
    """
    size = tf.cast(size, tf.int64)
    count = tf.cast(tf.round(tf.constant(rate, tf.float64) * tf.cast(size, tf.float64)), tf.int64)
    available = size if eligible is None else tf.math.count_nonzero(eligible)
    message = f"{who}: rate={rate} asks for more elements than are eligible"
    if tf.executing_eagerly():
        if int(count) > int(available):
            raise ValueError(f"{message}: {int(count)} of {int(size)}, but only {int(available)} are")
    else:
        with tf.control_dependencies([tf.debugging.Assert(count <= available, [message, count, available])]):
            count = tf.identity(count)
    draw = tf.random.stateless_uniform([size], [key, 0], 0, 1 << 62, tf.int64, alg="philox")
    if eligible is not None:
        draw = tf.where(eligible, draw, 1 << 62)
    order = tf.argsort(draw, stable=True)[:count]
    return tf.scatter_nd(order[:, None], tf.ones_like(order, tf.bool), tf.cast(size, tf.int32)[None])
