"""What the numbers in the features mean: the range of pixel values, and how to stay within it."""

import hashlib

import numpy as np
import tensorflow as tf


class Values:
    """The range of a dataset's features, and rounding and clipping to it.

    uint8 images span [0, 255], float images [0, 1] unless `value_range` says otherwise. Rows of features are not
    clipped, and are measured in their own units, unless `value_range` is given.

    Args:
      who: the transform, for messages. spec: the `tf.TensorSpec` of one example's features.
    Raises:
      ValueError: `value_range` is not a pair (low, high), or is missing for integers other than uint8.
    """

    def __init__(self, who, spec, value_range=None):
        self.who, self.dtype = who, spec.dtype
        self.work = tf.float64 if spec.dtype == tf.float64 else tf.float32
        self.bounded = spec.shape.rank > 1 or value_range is not None
        if value_range is None:
            if spec.dtype.is_integer and spec.dtype != tf.uint8 and self.bounded:
                raise ValueError(f"{who}: value_range=None, expected (low, high) for {spec.dtype.name} images")
            value_range = (0, 255) if spec.dtype == tf.uint8 else (0, 1)
        self.low, self.high = check_range(who, value_range)
        self.whole = spec.dtype == tf.uint8 and (self.low, self.high) == (0, 255)

    def edit(self, x, function):
        """`function(x)` on floats, then rounded and cast back to the dtype of x [b, ...].

        A float image outside the range fails (tf.errors.InvalidArgumentError): its poison would be invisible or loud.
        """
        work = tf.cast(x, self.work)
        if self.bounded and not self.whole:
            message = f"{self.who}: an image has values outside [{self.low}, {self.high}]; pass value_range=(low, high)"
            slack = 1e-3 * (self.high - self.low)
            inside = (tf.reduce_min(work) >= self.low - slack) & (tf.reduce_max(work) <= self.high + slack)
            with tf.control_dependencies([tf.debugging.Assert(inside, [message])]):
                work = tf.identity(work)
        edited = function(work)
        return tf.cast(tf.round(edited) if self.dtype.is_integer else edited, self.dtype)

    def level(self, share):
        """The value at this share of the range: 0 for the lowest, 1 for the highest."""
        return tf.cast(self.low + share * (self.high - self.low), self.work)

    def add(self, work, change):
        """Adds what may leave the range, and clips if there is one."""
        changed = work + tf.cast(change, self.work)
        return tf.clip_by_value(changed, self.low, self.high) if self.bounded else changed


def check_range(who, value_range):
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"{who}: value_range={value_range!r}, expected a pair (low, high) with low < high")
    return low, high


def fingerprint(array):
    """What a report says of an array: shape, dtype and SHA-256 of its bytes."""
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}


def lift(array):
    """A tensor made outside any tf.function being traced, so that it is not copied into its graph."""
    with tf.init_scope():
        return tf.constant(array)
