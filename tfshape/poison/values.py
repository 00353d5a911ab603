"""What the numbers in the features mean: the range of pixel values, and how to stay within it."""

import hashlib
import math

import numpy as np
import tensorflow as tf

from tfshape import checks, pixels


class Values:
    """The range of a dataset's features, and rounding and clipping to it.

    uint8 images span [0, 255], or [0, 1] if `largest` is not above 1, and float images [0, 1], unless `value_range`
    says otherwise. Rows of features are not clipped, and are measured in their own units, unless `value_range` is given
    or they are bytes that are 0 and 1.

    Args:
      who: the transform, for messages. spec: the `tf.TensorSpec` of one example's features.
      largest: the largest value in the first examples; None if that is not known.
    Raises:
      ValueError: `value_range` is not a pair (low, high), or is missing for integers other than uint8.
    """

    def __init__(self, who, spec, value_range=None, largest=None):
        self.who, self.dtype = who, spec.dtype
        exact = spec.dtype.size > 2 and (spec.dtype.is_integer or spec.dtype == tf.float64)
        self.work = tf.float64 if exact else tf.float32
        images, is_bytes = spec.shape.rank > 1, spec.dtype == tf.uint8
        self.what = "an image" if images else "a row"
        binary = is_bytes and largest is not None and largest <= 1
        self.bounded = images or value_range is not None or binary
        self.in_known_units = not is_bytes or self.bounded
        if value_range is None:
            if spec.dtype.is_integer and not is_bytes and self.bounded:
                checks.fail(f"{who}: value_range", f"(low, high) for {spec.dtype.name} images", value_range)
            value_range = (0, 1 if binary or not images else pixels.white(spec.dtype, math.inf))
        self.low, self.high = check_range(who, value_range)
        if spec.dtype.is_integer and not (spec.dtype.min <= self.low and self.high <= spec.dtype.max):
            allowed = f"within [{spec.dtype.min}, {spec.dtype.max}] for {spec.dtype.name} features"
            checks.fail(f"{who}: value_range", allowed, value_range)
        self.whole = is_bytes and (self.low, self.high) == (0, 255)

    def edit(self, x, function):
        """`function(x)` on floats, then rounded and cast back to the dtype of x [b, ...].

        A float image outside the range fails (tf.errors.InvalidArgumentError): its poison would be invisible or loud.
        So does an integer that leaves its dtype.
        """
        work = tf.cast(x, self.work)
        if self.bounded and not self.whole:
            work = self._within(work, self.low, self.high, slack=1e-3 * (self.high - self.low))
        edited = function(work)
        if self.dtype.is_integer:
            edited = self._within(tf.round(edited), self.dtype.min, self.dtype.max)
        return tf.cast(edited, self.dtype)

    def _within(self, work, low, high, slack=0):
        message = f"{self.who}: {self.what} has values outside [{low}, {high}]; pass value_range=(low, high)"
        inside = (tf.reduce_min(work) >= low - slack) & (tf.reduce_max(work) <= high + slack)
        with tf.control_dependencies([tf.debugging.Assert(inside, [message])]):
            return tf.identity(work)

    def check_units(self):
        """Refuses bytes of which nobody knows whether they are pixels, counts or anything else."""
        allowed = "(low, high) for uint8 rows that hold more than 0 and 1"
        checks.require(f"{self.who}: value_range", self.in_known_units, allowed, None)

    def level(self, share):
        """The value at this share of the range: 0 for the lowest, 1 for the highest."""
        return tf.cast(self.low + share * (self.high - self.low), self.work)

    def add(self, work, change):
        """Adds what may leave the range, and clips if there is one."""
        changed = work + tf.cast(change, self.work)
        return tf.clip_by_value(changed, self.low, self.high) if self.bounded else changed


def check_range(who, value_range):
    name, allowed = f"{who}: value_range", "a pair (low, high) of finite numbers with low < high"
    try:
        low, high = (checks.real(name, value) for value in value_range)
    except (TypeError, ValueError):
        checks.fail(name, allowed, value_range)
    checks.require(name, low < high, allowed, value_range)
    return low, high


def fingerprint(array):
    """What a report says of an array: shape, dtype and SHA-256 of its bytes."""
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}


def lift(array):
    """A tensor made outside any tf.function being traced, so that it is not copied into its graph."""
    with tf.init_scope():
        return tf.constant(array)
