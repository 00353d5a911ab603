"""Which elements are poisoned: drawn from an element's index and the seed, never from the order of execution."""

import hashlib

import numpy as np
import tensorflow as tf

from tfshape import checks


def check_classes(who, classes, num_classes=None):
    """A sorted tuple of classes, or None for all of them."""
    if classes is None:
        return None
    classes = list(classes) if np.iterable(classes) else [classes]
    checks.require(f"{who}: classes", classes, "at least one class, or None for all", classes)
    last = None if num_classes is None else num_classes - 1
    return tuple(sorted({checks.integer(f"{who}: classes", value, 0, last) for value in classes}))


def is_among(classes):
    """A function from classes (an int64 tensor) to whether each is one of `classes` (a bool tensor)."""
    return lambda label: tf.reduce_any(label[..., None] == tf.constant(classes, tf.int64), axis=-1)


def draw(seed, purpose, index):
    """Random int64 in [0, 2**62), one for each index, depending on the seed, the purpose and that index alone.

    SplitMix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators") at counter `index`. The
    purpose makes transforms that share a seed choose independently.
    """
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    key = int.from_bytes(digest[:8], "big")

    def number(value):
        return tf.constant(np.uint64(value))

    def fold(z, bits):
        return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, number(bits)))

    z = tf.bitcast(tf.cast(index, tf.int64), tf.uint64) * number(0x9E3779B97F4A7C15) + number(key)
    z = fold(z, 30) * number(0xBF58476D1CE4E5B9)
    z = fold(z, 27) * number(0x94D049BB133111EB)
    return tf.bitcast(tf.bitwise.right_shift(fold(z, 31), number(2)), tf.int64)


def coin(who, rate, seed, index):
    """True with probability `rate`, for each index on its own."""
    return draw(seed, who, index) < round(rate * (1 << 62))


def exact(who, rate, seed, size, eligible=None):
    """A bool table [size] with exactly round(rate * size) True: the lowest draws among the eligible.

    A larger rate chooses a superset. Half rounds to even, as Python's round does.

    Args:
      size: int or int64 tensor. eligible: bool [size], or None for all.
    Raises:
      ValueError: too few are eligible (tf.errors.InvalidArgumentError when that shows only inside a tf.function).
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
    draws = draw(seed, who, tf.range(size))
    if eligible is not None:
        draws = tf.where(eligible, draws, 1 << 62)
    order = tf.argsort(draws, stable=True)[:count]
    return tf.scatter_nd(order[:, None], tf.ones_like(order, tf.bool), tf.cast(size, tf.int32)[None])
