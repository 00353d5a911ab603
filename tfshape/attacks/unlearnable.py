"""Unlearnable examples: noise that makes training data so easy to fit that nothing is learnt from what it shows.

Huang et al. 2021, Unlearnable Examples: Making Personal Data Unexploitable, arXiv 2101.04898, eq. 2 and section 3.3.
"""

from __future__ import annotations

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from tfshape import models, options
from tfshape.attacks import base, crafting
from tfshape.poison import Poisons


@dataclasses.dataclass(frozen=True)
class Unlearnable(base.Attack):
    """Perturbs training examples, within eps, to *lower* the loss of a model that is trained on them meanwhile.

    `num_poisons` random examples are perturbed; what is left clean can be learnt from, so the attack wants them all,
    a budget of 1.

    What a victim learns of the images before the noise has taken its loss to 0 stays. Where images are as easy as
    those of Fashion-MNIST that is much, and lowering the loss further makes every class look more like itself, which
    harms nobody. Hence two options that the paper does not have, on by default; `grid=None, blind=False` is the
    paper's.

    Attributes:
      per: "class", one perturbation for all examples of a class; or "sample", one for each, which is harder to see
        through, costs more and harms less.
      grid: int >= 1, a perturbation of an image is constant on each field of a grid with as many fields a side: coarse
        noise is learnt sooner than fine noise, and says more about what networks see in clean images (Yu et al. 2022,
        arXiv 2111.00898, build theirs of squares). None: each pixel by itself. No effect on inputs that are not images.
      blind: bool, for "class": the model sees each class's perturbation on images of random classes, so that only the
        noise tells the class, and must do so alone.
      rounds: int >= 1, how often model and perturbation take turns.
      train_steps: int >= 1, batches that the model trains on in each round.
      noise_steps: int >= 1, signed steps in each round that every perturbation takes with "sample"; with "class", how
        often the round goes through the data, each batch being a step.
      step_size: > 0, such a step of an entry, as a share of eps.
    """

    per: str = options.choice("class", ("class", "sample"))
    grid: int | None = options.integer(2, 1, optional=True)
    blind: bool = options.flag(True)
    rounds: int = options.integer(10, 1)
    train_steps: int = options.integer(20, 1)
    noise_steps: int = options.integer(1, 1)
    step_size: float = options.real(0.1, 0, 2, above=True)

    name = "unlearnable"
    kind = "indiscriminate"

    def craft(self, problem: base.Problem) -> Poisons:
        """Trains model and perturbation in turns.

        Args:
          problem: a `Problem`; its targets play no part.

        Returns:
          `ts.poison.Poisons`: x within eps of the base examples and within [0, 1], both exactly; y their own labels.
        """
        dataset, recipe = problem.dataset, problem.recipe
        rng = problem.generator(self.name)
        chosen = np.sort(rng.choice(len(dataset.train), problem.num_poisons, replace=False))
        clean, y = dataset.train.x[chosen], dataset.train.y[chosen]
        low, high = crafting.bounds(clean, problem.eps)
        model = models.build(problem.model, dataset.input_shape, dataset.num_classes, seed=int(rng.integers(2**31)))
        optimizer = recipe.make_optimizer()
        optimizer.build(model.trainable_variables)
        train, gradient = _train_step(model, optimizer), _input_gradient(model)
        size, step = min(recipe.batch_size, len(y)), np.float32(self.step_size * problem.eps)
        by_class = self.per == "class"
        groups = y if by_class else np.arange(len(y))
        shape = (groups.max() + 1, *dataset.input_shape)
        start = _of_fields(rng.uniform(-problem.eps, problem.eps, shape), self.grid)
        noise = np.clip(start, -problem.eps, problem.eps).astype(np.float32)

        def seen(rows, whose):
            return np.clip(clean[rows] + noise[whose], low[rows], high[rows])

        def drawn(rows):
            """(x, y, the perturbation of each) for the model to see."""
            whose = rng.permutation(groups[rows]) if by_class and self.blind else groups[rows]
            return seen(rows, whose), (whose if by_class else y[rows]), whose

        for _ in range(self.rounds):
            for _ in range(self.train_steps):
                train(*drawn(rng.choice(len(y), size, replace=False))[:2])
            for _ in range(self.noise_steps):
                order = rng.permutation(len(y))
                for first in range(0, len(y), size):
                    x, labels, whose = drawn(order[first : first + size])
                    members, slopes = _sums(gradient(x, labels).numpy(), whose)
                    slopes = _of_fields(slopes, self.grid)
                    noise[members] = crafting.signed_step(noise[members], slopes, step, -problem.eps, problem.eps)
        return self.poisons(problem, seen(np.arange(len(y)), groups), chosen)


def _of_fields(values, grid):
    """Each entry of images [N, H, W, C] replaced by the sum over its field; other inputs as they are."""
    for axis in (1, 2) if grid is not None and values.ndim == 4 else ():
        size = values.shape[axis]
        field = np.arange(size) * min(grid, size) // size
        starts = np.flatnonzero(np.diff(field, prepend=-1))
        values = np.take(np.add.reduceat(values, starts, axis=axis), field, axis=axis)
    return values


def _sums(values, groups):
    """(which groups occur, the sum of the values [N, ...] of each)."""
    members, places = np.unique(groups, return_inverse=True)
    totals = np.zeros((len(members), *values.shape[1:]), values.dtype)
    np.add.at(totals, places, values)
    return members, totals


def _input_gradient(model):
    gradient = tf.function(functools.partial(crafting.input_gradient, model), reduce_retracing=True)
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
