"""Gradient canceling: poison under which parameters of the attacker's choice are where training stops.

Lu, Kamath & Yu 2023, Exploring the Limits of Model-Targeted Indiscriminate Data Poisoning Attacks, arXiv 2303.03592,
section 4. At the target parameters the gradient of the poison is made the opposite of that of the clean data.
"""

from __future__ import annotations

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from tfshape import gradients, models, options
from tfshape.attacks import base, search, surrogates
from tfshape.attacks.gradient_matching import loss_gradient
from tfshape.poison import Poisons

_ROWS = 500  # examples a batch, where all are gone through
_CORRUPTIONS = (0.4, 0.1, 0.025, 0.00625)


@dataclasses.dataclass(frozen=True)
class GradientCanceling(base.Attack):
    """Adds `problem.num_poisons` examples, optimised by Adam within [0, 1].

    They start as clean ones with the wrong labels whose gradients point most against that of the clean data.

    The target is the attacker's clean model after a corruption of its parameters, GradPC (Sun et al. 2020, arXiv
    2006.05620): normalised steps up the clean loss, kept within a ball. The larger the ball, the worse the target and
    the more poison it takes: with less, its gradient cannot be cancelled (Lu et al., section 3). A victim with a convex
    loss ends at the target when its gradient is cancelled; a network from another start need not.

    Attributes:
      corruption: > 0, l2 distance of the target from the clean parameters, as a share of their norm. None: of 0.4, 0.1,
        0.025 and 0.00625 the one whose poison costs a model of the attacker's the most accuracy on the clean data.
      corruption_steps: int >= 1.
      steps: int >= 1, of Adam. learning_rate: > 0, in inputs of [0, 1].
    """

    corruption: float | None = options.real(None, 0, above=True, optional=True)
    corruption_steps: int = options.integer(20, 1)
    steps: int = options.integer(300, 1)
    learning_rate: float = options.real(0.1, 0, above=True)

    name = "gradient_canceling"
    kind = "indiscriminate"

    def craft(self, problem: base.Problem) -> Poisons:
        """Corrupts a clean surrogate, then cancels the gradient there.

        Args:
          problem: a `Problem`; its targets and eps play no part.

        Returns:
          `ts.poison.Poisons`, base -1, x in [0, 1]. Its config adds `residual_before` and `residual`, the l2 norm of
          the gradient of clean data and poison together at the target, as a share of that of the clean data alone, and
          `target_corruption`.
        """
        pool = surrogates.pool(problem, problem.surrogate_seed, 1, 1)
        if self.corruption is not None:
            return self._cancel(problem, pool, self.corruption)
        tried = [self._cancel(problem, pool, corruption) for corruption in _CORRUPTIONS]
        return min(tried, key=lambda poisons: _accuracy_left(problem, pool, poisons))

    def _cancel(self, problem, pool, corruption):
        """Poison for the target at that distance."""
        train, count = surrogates.training_set(problem), problem.num_poisons
        program = _program(search.Key(problem), self.steps, self.learning_rate)
        program.model.set_weights(pool.finished[0])
        clean = self._corrupt(program, train, corruption)
        chosen, y = program.most_opposed(train, problem.dataset.num_classes, clean, count)
        share = np.float32(count / len(train))
        x, before, after = program.search(tf.constant(train.x[chosen]), tf.constant(y), clean, share)
        found = {"residual_before": float(before), "residual": float(after), "target_corruption": corruption}
        return self.poisons(problem, x.numpy(), y=y, **found)

    def _corrupt(self, program, train, corruption):
        """Moves the model to the target. Returns the gradient of the clean data there."""
        variables = program.variables
        start = [variable.numpy() for variable in variables]
        reach = corruption * _norm(start)
        stride = 2 * reach / self.corruption_steps  # the boundary is reached with half of them, if they go straight
        for _ in range(self.corruption_steps):
            gradient = program.mean_gradient(train)
            away = [v.numpy() + stride * g / _norm(gradient) - s for v, g, s in zip(variables, gradient, start)]
            shrink = min(1.0, reach / _norm(away))
            for variable, value, part in zip(variables, start, away):
                variable.assign(value + shrink * part)
        return [tf.constant(part) for part in program.mean_gradient(train)]


def _norm(arrays):
    return float(np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays)))


def _accuracy_left(problem, pool, poisons):
    """The accuracy on the clean data of a model that the attacker trains on them with the poison."""
    clean = surrogates.training_set(problem)
    x, y, _ = poisons.put_into(clean.x, clean.y)
    data = dataclasses.replace(clean, x=x, y=y)
    model = surrogates.new_model(problem)
    model.set_weights(surrogates.train(problem, (problem.seed, "judging_surrogate"), 1, data, start=pool.starts[0])[0])
    return models.accuracy(model, clean)


class _Program:
    """A model, and what is compiled for it; all is at the weights that it has."""

    def __init__(self, problem, steps, learning_rate):
        self.model = surrogates.new_model(problem)
        self.variables = self.model.trainable_variables
        self.steps, self.learning_rate = steps, learning_rate
        batch = [tf.TensorSpec([None, *problem.dataset.input_shape]), tf.TensorSpec([None], tf.int32)]
        direction = [tf.TensorSpec(variable.shape) for variable in self.variables]
        self._gradient = tf.function(lambda x, y: loss_gradient(self.model, self.variables, x, y), batch)
        self._dots = tf.function(self._products, [*batch, direction])
        self.search = tf.function(self._search, [*batch, direction, tf.TensorSpec([])])

    def mean_gradient(self, split):
        """The gradient of the mean loss of all examples of a split, a list of arrays."""
        total = [np.zeros(variable.shape, np.float32) for variable in self.variables]
        for rows in range(0, len(split), _ROWS):
            y = split.y[rows : rows + _ROWS]
            parts = self._gradient(split.x[rows : rows + _ROWS], y)
            total = [sum_ + len(y) / len(split) * part.numpy() for sum_, part in zip(total, parts)]
        return total

    def most_opposed(self, split, num_classes, direction, count):
        """The examples and labels, any but their own, whose loss gradients point most against `direction`.

        Returns (indices [count], labels int32 [count]); an example may come with several labels, and all come again
        when they are fewer than `count`.
        """
        dots = []
        for other in range(1, num_classes):
            y = (split.y + other) % num_classes
            for rows in range(0, len(y), _ROWS):
                dots.append(self._dots(split.x[rows : rows + _ROWS], y[rows : rows + _ROWS], direction))
        order = np.argsort(np.concatenate(dots), kind="stable")
        turns, chosen = np.divmod(np.resize(order, count), len(split))
        return chosen, ((split.y[chosen] + 1 + turns) % num_classes).astype(np.int32)

    def _products(self, x, y, direction):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return gradients.per_example(self.model, loss, x, y, training=False).dot(direction)

    def _search(self, x, y, clean, share):
        """-> (the x with the least residual, the residual before, that residual)."""

        def residual(x):
            poison = loss_gradient(self.model, self.variables, x, y)
            left = tf.add_n([tf.reduce_sum((c + share * p) ** 2) for c, p in zip(clean, poison)])
            return tf.sqrt(left / tf.add_n([tf.reduce_sum(c * c) for c in clean]))

        before, best, kept = residual(x), tf.constant(np.inf, tf.float32), x
        first, second = tf.zeros_like(x), tf.zeros_like(x)
        for step in tf.range(1, self.steps + 1):
            with tf.GradientTape() as tape:
                tape.watch(x)
                now = residual(x)
            if now < best:
                best, kept = now, x
            gradient, age = tape.gradient(now, x), tf.cast(step, tf.float32)
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient * gradient - second)
            rate = self.learning_rate * tf.sqrt(1 - 0.999**age) / (1 - 0.9**age)
            x = tf.clip_by_value(x - rate * first / (tf.sqrt(second) + 1e-12), 0.0, 1.0)
        return kept, before, best


@functools.lru_cache(maxsize=8)
def _program(key, steps, learning_rate):
    return _Program(key.problem, steps, learning_rate)
