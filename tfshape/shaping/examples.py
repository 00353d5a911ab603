"""The per-example gradients of a batch as a chain of shapers sees them: weighted so far, and without their bad rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from tfshape.gradients import PerExample
    from tfshape.shaping import Shaper


class Examples:
    """What a shaper may ask about a batch of B examples; all answers are about the gradients weighted so far.

    gradients: the engine's per-example gradients. norms [B]: theirs. valid [B] (bool): rows that count; padding and
    examples with a non-finite loss or gradient do not, and have norm, dot, inner products and weight zero.
    weights [B], or [L, B] with a row for each layer. mean_gradient: a function (x, y) -> list like the variables, the
    mean gradient of other examples at the same weights of the model; None where there is none to be had.
    """

    def __init__(
        self,
        gradients: PerExample,
        norms: tf.Tensor,
        valid: tf.Tensor,
        weights: tf.Tensor | None = None,
        mean_gradient: Callable[[Any, Any], list[tf.Tensor]] | None = None,
    ) -> None:
        self.gradients = gradients
        self.mean_gradient = mean_gradient
        self.valid = valid
        self.mask = tf.cast(valid, norms.dtype)
        self.weights = self.mask if weights is None else weights
        self._plain_norms = self._clean(norms)

    def scaled(self, factor: tf.Tensor) -> Examples:
        """These examples with their weights multiplied by `factor` ([B] or [L, B])."""
        return Examples(self.gradients, self._plain_norms, self.valid, self.weights * factor, self.mean_gradient)

    def shaped(self, shapers: Sequence[Shaper], states: Sequence[dict[str, Any]]) -> tuple[Examples, list[tf.Tensor]]:
        """These examples with the weights of all `shapers`, one after the other, and what each observes of them.

        states: one for each shaper, a dict as its `variables` gives.
        """
        examples, observed = self, []
        for shaper, state in zip(shapers, states):
            seen = shaper.observe(examples, state)
            observed.append(tf.zeros([]) if seen is None else tf.cast(seen, tf.float32))
            factor = shaper.weigh(examples, state)
            examples = examples if factor is None else examples.scaled(factor)
        return examples, observed

    @property
    def count(self) -> tf.Tensor:
        """How many rows are valid, a scalar float."""
        return tf.reduce_sum(self.mask)

    @property
    def layer_norms(self) -> tf.Tensor:
        """[L, B]"""
        return self._clean(self.gradients.layer_norms) * self.weights

    @property
    def norms(self) -> tf.Tensor:
        """[B]"""
        if self.weights.shape.rank == 2:
            squares = tf.square(tf.cast(self.layer_norms, tf.float64))  # float32 squares nothing below 1e-19
            return tf.cast(tf.sqrt(tf.reduce_sum(squares, axis=0)), self.weights.dtype)
        return self._plain_norms * self.weights

    def dot(self, direction: Sequence[tf.Tensor]) -> tf.Tensor:
        """[B], with a list shaped like the variables."""
        return self._clean(self.gradients.dot(direction, self.weights))

    def gram(self, relative: bool = False) -> tf.Tensor:
        """[B, B]; relative: of the gradients divided by the largest norm, so that no magnitude is too large for it."""
        weights = tf.cast(self.weights, tf.float64)
        if relative:
            weights = tf.math.divide_no_nan(weights, tf.cast(tf.reduce_max(self.norms), tf.float64))
        gram = self.gradients.gram(weights)
        pairs = self.valid[:, None] & self.valid[None, :]
        return tf.where(pairs, gram, tf.zeros_like(gram))

    def weighted_sum(self, scale: Any = 1.0) -> list[tf.Tensor]:
        """The sum of the gradients as weighted so far, times `scale`: a list like the variables."""
        return self.gradients.weighted_sum(self.weights * tf.cast(scale, self.weights.dtype))

    def _clean(self, values):
        return tf.where(self.valid, values, tf.zeros_like(values))
