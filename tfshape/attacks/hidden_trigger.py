"""Hidden trigger backdoor attacks (Saha, Subramanya & Pirsiavash 2020, arXiv 1910.00033)."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tfshape import options
from tfshape.attacks import backdoor, crafting, feature_space, surrogates


@dataclasses.dataclass(frozen=True)
class HiddenTrigger(backdoor.PatchBackdoor):
    """Perturbs examples of the target class until they look, to a network's features, like triggered others.

    The trigger itself is in no training example. Algorithm 1 of the paper, with sources of all other classes (its
    multi-source experiment): in each round new random sources are stamped, each is assigned to the poison nearest to
    it in feature space, one to one, and all poisons descend on the squared distance in features to theirs. For victims
    that go on from a model the attacker knows (scenario finetune or transfer), whose features it then uses; otherwise
    it averages over the penultimate layers of its own clean models.

    Attributes:
      target_class: int >= 0, the class that the trigger shall mean.
      size, value, position: the trigger, as `ts.poison.patch` takes them.
      rounds: int >= 1, of assigning and descending.
      steps: int >= 1, of descent a round.
      step_size: in (0, 2], of a pixel, as a share of eps; it falls linearly to 0 over the rounds.
      ensemble: int >= 1, the attacker's models where it does not know the victim's.
    """

    rounds: int = options.integer(10, 1)
    steps: int = options.integer(20, 1)
    step_size: float = options.real(0.1, 0, 2, above=True)
    ensemble: int = options.integer(4, 1)

    name = "hidden_trigger"

    def _perturbed(self, problem):
        train, rng = problem.dataset.train, problem.generator(self.name)
        bases = self._bases(problem, rng)
        others = np.flatnonzero(train.y != self.target_class)
        low, high = crafting.bounds(train.x[bases], problem.eps)
        pool = surrogates.pool(problem, problem.surrogate_seed, self.ensemble, 1)
        space = feature_space.load(problem, pool)
        descend = _compiled(space, problem.dataset.input_shape)
        x = train.x[bases]
        for rate in crafting.falling_rates(self.step_size * problem.eps, self.rounds):
            sources = rng.choice(others, len(bases), replace=len(others) < len(bases))
            wanted = [rows.numpy() for rows in space.features(self.stamp(train.x[sources], problem))]
            order = _assign([rows.numpy() for rows in space.features(x)], wanted)
            x = descend(x, low, high, [rows[order] for rows in wanted], np.full(self.steps, rate)).numpy()
        return x, bases


def _assign(found, wanted):
    """The source of each poison, int64 [K], one to one, of lists of features [K, F], a model each.

    The smallest sum of squared distances there is, where the paper takes the nearest pairs greedily.
    """
    from scipy.optimize import linear_sum_assignment

    cost = sum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T for a, b in zip(found, wanted))
    return linear_sum_assignment(cost)[1]


def _descend(space, x, low, high, wanted, rates):
    """Signed gradient descent of x [K, ...] on the squared distances of its features to `wanted`, a [K, F] a model."""

    def gradient(x, _):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.add_n([tf.reduce_sum((a - b) ** 2) for a, b in zip(space.features(x), wanted)])
        return tape.gradient(loss, x)

    return crafting.signed_descent(gradient, x, low, high, rates)


def _compiled(space, input_shape):
    """`_descend` in this space, compiled once for all problems that share it."""
    if "hidden_trigger" not in space.compiled:
        images, wanted = tf.TensorSpec([None, *input_shape]), [tf.TensorSpec([None, None])] * len(space.extractors)
        descend = functools.partial(_descend, space)
        space.compiled["hidden_trigger"] = tf.function(descend, [*[images] * 3, wanted, tf.TensorSpec([None])])
    return space.compiled["hidden_trigger"]
