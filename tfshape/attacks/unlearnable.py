"""Unlearnable examples: noise that makes training data so easy to fit that nothing is learnt from what it shows.

Huang et al. 2021, Unlearnable Examples: Making Personal Data Unexploitable, arXiv 2101.04898, eq. 2 and section 3.3.
"""

from __future__ import annotations

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from tfshape import models
from tfshape.attacks import base
from tfshape.poison import Poisons


@dataclasses.dataclass(frozen=True)
class Unlearnable:
    """Perturbs training examples, within eps, to *lower* the loss of a model that is trained on them meanwhile.

    `num_poisons` random examples are perturbed; what is left clean can be learnt from, so the attack wants them all,
    a budget of 1.

    Attributes:
      per: "class", one perturbation for all examples of a class; or "sample", one for each, which is harder to see
        through and costs more.
      rounds: int >= 1, how often model and perturbation take turns.
      train_steps: int >= 1, batches that the model trains on in each round.
      noise_steps: int >= 1, signed steps in each round that every perturbation takes with "sample"; with "class", how
        often the round goes through the data, each batch being a step.
      step_size: > 0, such a step of an entry, as a share of eps.

    Raises:
      ValueError: a value outside these.
    """

    per: str = "class"
    rounds: int = 10
    train_steps: int = 20
    noise_steps: int = 1
    step_size: float = 0.1

    name = "unlearnable"
    kind = "indiscriminate"

    def __post_init__(self):
        base.require_choice("per", self.per, ("class", "sample"))
        for field in ("rounds", "train_steps", "noise_steps"):
            base.require_integer(field, getattr(self, field), 1)
        base.require_number("step_size", self.step_size, 0, 2, above=True)

    def craft(self, problem: base.Problem) -> Poisons:
        """Trains model and perturbation in turns.

        Args:
          problem: a `Problem`; its targets play no part.

        Returns:
          `ts.poison.Poisons`: x within eps of the base examples and within [0, 1], both exactly; y their own labels.
        """
        dataset, recipe = problem.dataset, problem.recipe
        rng = np.random.default_rng([problem.seed, 11])
        chosen = np.sort(rng.choice(len(dataset.train), problem.num_poisons, replace=False))
        clean, y = dataset.train.x[chosen], dataset.train.y[chosen]
        low, high = base.bounds(clean, problem.eps)
        model = models.build(problem.model, dataset.input_shape, dataset.num_classes, seed=int(rng.integers(2**31)))
        optimizer = recipe.make_optimizer()
        optimizer.build(model.trainable_variables)
        train, gradient = _train_step(model, optimizer), input_gradient(model)
        size, step = min(recipe.batch_size, len(y)), np.float32(self.step_size * problem.eps)
        groups = y if self.per == "class" else np.arange(len(y))
        noise = rng.uniform(-problem.eps, problem.eps, (groups.max() + 1, *dataset.input_shape)).astype(np.float32)

        def seen(rows):
            return np.clip(clean[rows] + noise[groups[rows]], low[rows], high[rows])

        for _ in range(self.rounds):
            for _ in range(self.train_steps):
                rows = rng.choice(len(y), size, replace=False)
                train(seen(rows), y[rows])
            for _ in range(self.noise_steps):
                order = rng.permutation(len(y))
                for start in range(0, len(y), size):
                    rows = order[start : start + size]
                    slopes = gradient(seen(rows), y[rows]).numpy()
                    moved = _sums(slopes, groups[rows], len(noise)) if self.per == "class" else (rows, slopes)
                    members, total = moved
                    noise[members] = np.clip(noise[members] - step * np.sign(total), -problem.eps, problem.eps)
        return base.make_poisons(problem, self, seen(np.arange(len(y))), chosen)


def _sums(values, groups, count):
    """(which groups occur, the sum of the values [N, ...] of each)."""
    totals = np.zeros((count, *values.shape[1:]), values.dtype)
    np.add.at(totals, groups, values)
    members = np.unique(groups)
    return members, totals[members]


def input_gradient(model):
    """A compiled function of x [B, ...], y [B]: the gradient of each example's cross-entropy by its input."""

    @functools.partial(tf.function, reduce_retracing=True)
    def gradient(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=False)))
        return tape.gradient(loss, x)

    return lambda x, y: gradient(tf.constant(x), tf.constant(y))


def _train_step(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @functools.partial(tf.function, reduce_retracing=True)
    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables))

    return lambda x, y: step(tf.constant(x), tf.constant(y))
