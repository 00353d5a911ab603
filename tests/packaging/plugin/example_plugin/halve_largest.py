"""Halves the gradients that are larger than the batch's mean."""

import dataclasses

import tensorflow as tf

import tfshape as ts


@dataclasses.dataclass(frozen=True)
class HalveLargest(ts.shaping.Shaper):
    """Weight `factor`, in [0, 1], where a gradient's norm is above the mean of the batch; else 1. No sensitivity."""

    factor: float = 0.5

    spelling = "halve_largest"
    per_example = False  # one example moves the mean, and by it the weights of others
    whole_batch = True

    def __post_init__(self):
        if not 0 <= self.factor <= 1:
            raise ValueError(f"factor must be a number in [0, 1]; got {self.factor!r}")

    def weigh(self, examples, state):
        """The factors, [B]."""
        mean = tf.reduce_sum(examples.norms) / examples.count
        return tf.where(examples.norms > mean, self.factor, 1.0)
