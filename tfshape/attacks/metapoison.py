"""MetaPoison: clean-label poison crafted through the victim's own training steps.

Huang et al. 2020, arXiv 2004.00225. Poisoning is a bilevel problem: the outer loss is the target's after training on
the poison. A few steps of that training are unrolled and differentiated, from surrogates at many stages of theirs.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from tfshape import options
from tfshape.attacks import base, search


@dataclasses.dataclass(frozen=True)
class MetaPoison(search.Searched):
    """Perturbs training examples of the intended class, labels untouched, by signed Adam on the unrolled loss.

    Algorithm 1 of the paper: from a surrogate at some stage of its training, `inner_steps` of training on the poison
    and random clean examples; the loss is then the target's margin, the largest other logit less that of the intended
    class (eq. 5, Carlini & Wagner). Surrogates at staggered epochs take turns. The paper trains them on beside the
    crafting; here they can be replaced by ones trained on the poison as it is then, but eight clean ones serve the
    attack better than two of those. An inner step goes along the negative gradient, but is `inner_rate` long: as under
    Adam, poison gains nothing by a large gradient.

    Attributes:
      steps to retrain_ensemble: as of `search.Options`, but that surrogates are not retrained by default.
      inner_steps: int >= 1, unrolled.
      inner_rate: > 0, the l2 length of an unrolled step.
      clean_examples: int >= 0, beside the poison in the batch of each of them.
      base_rule: "gradient_norm", the examples with the largest gradients on the clean surrogates, or "random".
    """

    retrain: int = options.integer(0, 0)
    inner_steps: int = options.integer(2, 1)
    inner_rate: float = options.real(0.1, 0, 100, above=True)
    clean_examples: int = options.integer(100, 0)
    base_rule: str = options.choice("gradient_norm", search.BASE_RULES)

    name = "metapoison"

    def graph(self, problem: base.Problem, bases: np.ndarray) -> tuple[Any, list]:
        """Its context has clean examples and their labels too."""
        options = self.surrogates_per_step, self.inner_steps, self.inner_rate, self.clean_examples
        return _graph(search.Key(problem), *options), search.clean_examples(problem, bases)


class _Graph(search.Graph):
    """Reverse-mode differentiation of SGD by hand, as Keras models have no weights to pass in.

    With theta_k+1 = theta_k - rate * g / ‖g‖, the adjoint a_K = dL/dtheta_K runs back as
    a_k = a_k+1 - rate * d<g, v>/dtheta, and dL/dx is the sum of -rate * d<g, v>/dx, where v is the part of a_k+1 that
    is orthogonal to g, over ‖g‖.
    """

    def __init__(self, problem, surrogates_per_step, inner_steps, inner_rate, clean_examples):
        images, labels = tf.TensorSpec([None, *problem.dataset.input_shape]), tf.TensorSpec([None], tf.int32)
        super().__init__(problem, surrogates_per_step, [images, labels] * 2)
        self.variables = self.model.trainable_variables
        self.inner_steps, self.rate, self.clean_examples = inner_steps, inner_rate, clean_examples

    def loss_and_gradient(self, x, y, context, seed):
        """As of `search.Graph`, with a gradient of mean absolute value 1, so that all surrogates count the same."""
        target_x, intended, clean_x, clean_y = context
        batches = [self._clean_batch(clean_x, clean_y, seed, step) for step in range(self.inner_steps)]
        start = [tf.convert_to_tensor(variable) for variable in self.variables]
        weights, steps = start, []
        for batch in batches:
            with tf.GradientTape() as tape:
                tape.watch(x)
                with tf.GradientTape() as inner:
                    loss = self._training_loss(x, y, *batch)
                gradient = inner.gradient(loss, self.variables)
            length = tf.maximum(tf.linalg.global_norm(gradient), 1e-12)
            direction = [part / length for part in gradient]
            steps.append((tape, gradient, direction, length))
            weights = [a - self.rate * u for a, u in zip(weights, direction)]
            self._assign(weights)
        with tf.GradientTape() as tape:
            outer = margin(self.model(target_x, training=False), intended)
        adjoint = tape.gradient(outer, self.variables)
        by_poison = tf.zeros_like(x)
        for tape, gradient, direction, length in reversed(steps):
            along = tf.add_n([tf.reduce_sum(a * u) for a, u in zip(adjoint, direction)])
            across = [(a - along * u) / length for a, u in zip(adjoint, direction)]
            by_x, *by_weights = tape.gradient(
                gradient, [x, *self.variables], output_gradients=across, unconnected_gradients="zero"
            )
            by_poison -= self.rate * by_x
            adjoint = [a - self.rate * b for a, b in zip(adjoint, by_weights)]
        self._assign(start)
        return outer, by_poison / tf.maximum(tf.reduce_mean(tf.abs(by_poison)), 1e-30)

    def loss(self, x, y, context):
        return self.loss_and_gradient(x, y, context, tf.constant([0, 0]))[0]

    def _training_loss(self, x, y, clean_x, clean_y):
        logits = self.model(tf.concat([x, clean_x], 0), training=False)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.concat([y, clean_y], 0), logits))

    def _clean_batch(self, x, y, seed, step):
        seed = tf.stack([seed[0], seed[1] * self.inner_steps + step])
        rows = tf.random.stateless_uniform([self.clean_examples], seed, 0, tf.shape(y)[0], tf.int32)
        return tf.gather(x, rows), tf.gather(y, rows)

    def _assign(self, weights):
        for variable, value in zip(self.variables, list(weights)):
            variable.assign(value)


def margin(logits, intended):
    """The largest other logit less that of the intended class, [T, C] and [T]: a mean over the targets."""
    chosen = tf.one_hot(intended, tf.shape(logits)[1])
    others = tf.reduce_max(logits - 1e9 * chosen, axis=1)
    return tf.reduce_mean(others - tf.reduce_sum(chosen * logits, axis=1))


@functools.lru_cache(maxsize=8)
def _graph(key, *options):
    return _Graph(key.problem, *options)
