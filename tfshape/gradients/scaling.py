"""Powers of two that bring the numbers of an example near one before they are squared or multiplied.

Float32 squares nothing below 1e-19 or above 1e19, and an example may be crafted to hold such numbers: a norm that is
believed zero passes every clip. Multiplying by a power of two rounds nothing, so ordinary numbers give the same bits
as without.
"""

import functools
import operator

import numpy as np
import tensorflow as tf

# dtype -> (that of its bits, those of the exponent, those of 1.0, the largest exponent in use)
_BITS = {
    tf.float32: (tf.int32, 0x7F800000, 127 << 23, 126),
    tf.float64: (tf.int64, 0x7FF0000000000000, 1023 << 52, 500),
}


def power(magnitudes):
    """The largest power of two that is no larger than each of `magnitudes` (>= 0), without a gradient.

    It is kept in a range whose ends can be inverted, squared in float64, and multiplied with each other in float64.
    """
    kind, mask, _, limit = _BITS[magnitudes.dtype]
    bits = tf.bitwise.bitwise_and(tf.bitcast(tf.stop_gradient(magnitudes), kind), tf.constant(mask, kind))
    return tf.clip_by_value(tf.bitcast(bits, magnitudes.dtype), 2.0**-limit, 2.0**limit)


def inverse(powers):
    """1 / `powers`, which are such as `power` returns; TensorFlow's own reciprocal is not exact."""
    kind, _, one, _ = _BITS[powers.dtype]
    return tf.bitcast(tf.constant(2 * one, kind) - tf.bitcast(powers, kind), powers.dtype)


def unit(*tensors):
    """[B]: the power of two that belongs to the largest magnitude in each example's rows of `tensors` [B, ...]."""
    largest = [tf.reduce_max(tf.abs(t), list(range(1, t.shape.rank))) for t in map(tf.stop_gradient, tensors)]
    while len(largest) > 1:
        largest = [tf.maximum(*largest[:2]), *largest[2:]]
    return power(largest[0])


def product(*factors):
    """Product in float64, which holds that of any two units, weights or squares of units."""
    return functools.reduce(operator.mul, [tf.cast(factor, tf.float64) for factor in factors])


def root(squares, dtype):
    """Root of the sum over the first axis of float64 `squares`, summed in `dtype`.

    Its gradient is zero, not infinity, at zero. What is not zero is no smaller than the smallest normal number, for
    below that it would count as zero.
    """
    shared = power(tf.sqrt(tf.reduce_max(squares, 0)))
    total = tf.reduce_sum(tf.cast(squares * inverse(shared) * inverse(shared), dtype), 0)
    zero = total == 0
    found = tf.cast(product(tf.sqrt(tf.where(zero, tf.ones_like(total), total)), shared), dtype)
    least = tf.constant(np.finfo(dtype.as_numpy_dtype).tiny, dtype)
    return tf.where(zero, tf.zeros_like(found), tf.where(found < least, least, found))


def norm(tensors):
    """l2 norm of a list of tensors of any magnitude, taken as one vector, in float32 or wider."""
    flat = [tf.reshape(t if t.dtype in _BITS else tf.cast(t, tf.float32), [1, -1]) for t in tensors]
    units = [unit(t) for t in flat]
    squares = [product(tf.reduce_sum(tf.square(t * inverse(u)), 1), u, u) for t, u in zip(flat, units)]
    return root(tf.stack(squares), flat[0].dtype)[0]
