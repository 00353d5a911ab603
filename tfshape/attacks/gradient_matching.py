"""Gradient matching, "Witches' Brew": clean-label targeted poisoning of models trained from scratch.

Geiping et al. 2021, arXiv 2009.02276. Poison is perturbed so that its training gradient points where the gradient of
the target's adversarial loss points; a victim that trains on the one takes a step on the other.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfshape import gradients, options
from tfshape.attacks import base, search
from tfshape.poison import Poisons
from tfshape.shaping import Examples

LAYERS = ("dense", "all")


@dataclasses.dataclass(frozen=True)
class GradientMatching(search.Searched):
    """Perturbs training examples of the intended class, labels untouched, by signed Adam on the matching loss.

    Against an adaptive problem, one with `shaping`, the surrogates are trained with that shaping and what is matched
    is the shaped gradient of the poison, sum_i w_i g_i. Weights that depend on the batch are those of the poison by
    itself; the noise, which no attacker knows, is left out.

    Attributes:
      steps to retrain_ensemble: as of `search.Options`, the loss being the matching loss.
      layers: "dense", only the gradients of dense layers are matched, which carries over to victims of other seeds
        better than "all" do where convolutions make the features, and costs a quarter; or "all".
      augment: bool, matches gradients of randomly shifted and mirrored poison, by up to 1/16 of the side; images only.
      base_rule: "gradient_norm", the examples with the largest gradients on the clean surrogates (Geiping et al.,
        appendix), or "random".
    """

    layers: str = options.choice("dense", LAYERS)
    augment: bool = options.flag(False)
    base_rule: str = options.choice("gradient_norm", search.BASE_RULES)

    name = "gradient_matching"

    def craft(self, problem: base.Problem) -> Poisons:
        """As every targeted attack. Raises ValueError also for augment on inputs that are not images."""
        if self.augment and len(problem.dataset.input_shape) != 3:
            raise ValueError(f"augment must be False for inputs that are not images, got {self.augment}")
        return super().craft(problem)

    @property
    def crafts_together(self) -> bool:
        """Whether `craft_together` serves: surrogates are the same for all problems, and there is one random start."""
        return self.retrain == 0 and self.restarts == 1

    def craft_together(self, problems: Sequence[base.Problem]) -> list[Poisons]:
        """Crafts for several problems at once, batched through the surrogates.

        They take the same turns for all, and sums are made in another order, so that it is not bit for bit the poison
        of `craft`; it is as good.

        Args:
          problems: `Problem`s that differ in their targets, as many each, and seeds alone, without shaping.

        Returns:
          A list of `ts.poison.Poisons`, as of `craft`.

        Raises:
          ValueError: as `craft`; retrain or restarts that need more; problems that do not share their surrogates.
        """
        pool = self.pool(problems[0])
        shared = all(self.pool(problem) is pool and problem.shaping is None for problem in problems)
        if not (self.crafts_together and shared):
            raise ValueError(
                "problems must share surrogates without shaping, retrain must be 0 and restarts 1, to be crafted for "
                f"at once, got retrain={self.retrain}, restarts={self.restarts} and {len(problems)} problems"
            )
        searches, rngs = zip(*map(self._search, problems))
        found = zip(problems, searches, search.run_together(searches, pool, rngs))
        return [self.poisons(problem, x, one.bases) for problem, one, x in found]

    def graph(self, problem: base.Problem, bases: np.ndarray) -> tuple[Any, list]:
        """Its context has nothing more."""
        return _graph(search.Key(problem), self.surrogates_per_step, self.layers, self.augment), []


def matched_variables(model, layers):
    """The trainable weights of a model whose gradients are matched: those of its dense layers, or all."""
    chosen = [layer for layer in model.layers if layers == "all" or isinstance(layer, keras.layers.Dense)]
    return [variable for layer in chosen for variable in layer.trainable_variables]


def loss_gradient(model: Any, variables: list, x: Any, y: Any) -> list[tf.Tensor]:
    """The gradient by `variables` of the mean cross-entropy of examples x [B, ...], y [B], as a list."""
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=False))
        loss = tf.reduce_mean(losses)
    return tape.gradient(loss, variables)


def matching_loss(gradient: list[tf.Tensor], target_gradient: list[tf.Tensor]) -> tf.Tensor:
    """1 - cos(gradient of the poison, gradient of the target's adversarial loss), eq. 3 of Geiping et al.

    Lists of tensors. The gradient of the poison's mean loss stands for that of the sum, which has the same direction.
    """
    dot = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(gradient, target_gradient)])
    squares = [tf.add_n([tf.reduce_sum(a * a) for a in side]) for side in (gradient, target_gradient)]
    return 1 - dot / tf.sqrt(tf.maximum(squares[0] * squares[1], 1e-30))


def shift_and_mirror(x, shifts, mirror):
    """Moves each image x [K, H, W, C] by shifts [K, 2] pixels, repeating the edge, and mirrors it where mirror [K]."""
    rows, columns = tf.range(tf.shape(x)[1]), tf.range(tf.shape(x)[2])
    rows = tf.clip_by_value(rows[None] + shifts[:, :1], 0, rows[-1])
    columns = tf.clip_by_value(columns[None] + shifts[:, 1:], 0, columns[-1])
    columns = tf.where(mirror[:, None], columns[:, ::-1], columns)
    return tf.gather(tf.gather(x, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def shaped_gradient(model, variables, x, y, shaping):
    """What a shaped training makes of a batch: sum_i w_i g_i / B without the noise, the part of `variables`, as a list.

    Args:
      model: a `keras.Model` that gives logits; all its trainable variables count for the weights.
      variables: some of those.
      x, y: examples [B, ...] and their classes [B].
      shaping: a `ts.shaping.Shaper`; one with a state is taken as it is at the first step.
    """
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = gradients.per_example(model, loss, x, y, training=False)

    def mean_gradient(x, y):
        return gradients.per_example(model, loss, x, y, training=False).weighted_sum(tf.fill([len(y)], 1 / len(y)))

    states = [
        {name: tf.convert_to_tensor(value) for name, value in shaper.variables(model).items()}
        for shaper in shaping.shapers
    ]
    seen, _ = Examples(found, found.norms, found.finite, mean_gradient=mean_gradient).shaped(shaping.shapers, states)
    sums = seen.weighted_sum(1 / tf.cast(tf.shape(y)[0], tf.float32))
    chosen = {id(variable) for variable in variables}
    return [part for part, variable in zip(sums, model.trainable_variables) if id(variable) in chosen]


class _Graph(search.Graph):
    def __init__(self, problem, surrogates_per_step, layers, augment):
        images, labels = tf.TensorSpec([None, *problem.dataset.input_shape]), tf.TensorSpec([None], tf.int32)
        super().__init__(problem, surrogates_per_step, [images, labels])
        self.variables = matched_variables(self.model, layers)
        self.augment, self.shaping = augment, problem.shaping

    def loss_and_gradient(self, x, y, context, seed):
        target_gradient = loss_gradient(self.model, self.variables, *context)
        with tf.GradientTape() as tape:
            tape.watch(x)
            seen = _augmented(x, seed) if self.augment else x
            loss = matching_loss(self._gradient(seen, y), target_gradient)
        return loss, tape.gradient(loss, x)

    def loss(self, x, y, context):
        target_gradient = loss_gradient(self.model, self.variables, *context)
        return matching_loss(self._gradient(x, y), target_gradient)

    def _gradient(self, x, y):
        if self.shaping is None:
            return loss_gradient(self.model, self.variables, x, y)
        return shaped_gradient(self.model, self.variables, x, y, self.shaping)


@functools.lru_cache(maxsize=8)
def _graph(key, surrogates_per_step, layers, augment):
    return _Graph(key.problem, surrogates_per_step, layers, augment)


def _augmented(x, seed):
    count, reach = tf.shape(x)[0], max(1, max(x.shape[1:3]) // 16)
    shifts = tf.random.stateless_uniform([count, 2], seed, -reach, reach + 1, tf.int32)
    mirror = tf.random.stateless_uniform([count], seed + 1) < 0.5
    return shift_and_mirror(x, shifts, mirror)
