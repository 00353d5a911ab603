"""The influence attack: poison that climbs the loss of the linear model that is trained on it.

Koh, Steinhardt & Liang 2018, Stronger Data Poisoning Attacks Break Data Sanitization Defenses, arXiv 1811.00741,
section 4; the gradient through training is that of Biggio et al. 2012, by the implicit function theorem.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import options
from tfshape.attacks import base, linear
from tfshape.poison import Poisons


@dataclasses.dataclass(frozen=True)
class Influence(linear.Linear):
    """Adds copies of two points, one a class, moved uphill on the attacker's loss. Two classes, victim "lr".

    Two distinct points are all that an attack on a linear model of two classes needs (Koh et al., theorem 1). The
    attacker's loss is that of the clean training set.

    Attributes:
      steps: int >= 1, each with a training of the attacker's model.
      step_size: > 0, the length of a step of a point, in l2 distance of inputs in [0, 1].
      l2: > 0, the regularisation of the attacker's model, whose loss is a mean over the clean examples.
      quantile: share in (0, 1] of each class's clean examples that the sphere and the slab filter keep; the points pass
        both.
    """

    steps: int = options.integer(40, 1)
    step_size: float = options.real(0.5, 0, above=True)
    l2: float = options.real(1e-3, 0, above=True)
    quantile: float = options.real(0.95, 0, 1, above=True)

    name = "influence"

    def craft(self, problem: base.Problem) -> Poisons:
        """Climbs from a random clean example of each class, with the label of the other.

        Args:
          problem: a `Problem`; its targets and eps play no part. Its seed draws the examples.

        Returns:
          `ts.poison.Poisons`, base -1, half of each label, x in [0, 1] and inside both filters. Its config adds
          `loss_before` and `loss_after`: the loss of the attacker's model on the clean data, trained without poison
          and with it.

        Raises:
          ValueError: see `check`.
        """
        self.check(problem)
        train = problem.dataset.train
        filters = linear.Filters.fit(train.x, train.y, self.quantile)
        projections = [linear.Projection(filters, label) for label in (0, 1)]
        learner = Learner(train, problem.num_poisons / len(train), self.l2)
        rng = problem.generator(self.name)
        clean = linear.rows(train.x)
        points = [
            project(clean[rng.choice(np.flatnonzero(train.y != label))]) for label, project in enumerate(projections)
        ]
        before = learner.clean_loss(learner.fit(None))
        best = -np.inf, points
        for step in range(self.steps + 1):
            theta = learner.fit(points)
            loss = learner.clean_loss(theta)
            best = max(best, (loss, points), key=lambda pair: pair[0])
            if step == self.steps:
                break
            uphill = learner.uphill(theta, points)
            moved = [x + self.step_size * g / max(np.linalg.norm(g), 1e-30) for x, g in zip(points, uphill)]
            points = [project(x) for project, x in zip(projections, moved)]
        loss, points = best
        y = linear.copies(problem.num_poisons, 2)
        found = {"loss_before": float(before), "loss_after": float(loss)}
        return self._inserted(problem, np.array(points)[y], y, **found)


class Learner:
    """Logistic regression on the clean examples and one poison point of each label, which together weigh `share`."""

    def __init__(self, train, share, l2):
        self._x, self._sign = linear.with_one(linear.rows(train.x)), linear.signs(train.y)
        self._share, self._l2, self._theta = share, l2, None

    def fit(self, points):
        """The theta trained on the clean data and the points, a list of x [F] for labels 0 and 1, or None for none."""
        count = len(self._x)
        x, sign, weights = self._x, self._sign, np.full(count, 1 / count)
        if points is not None:
            x = np.concatenate([x, linear.with_one(np.array(points))])
            sign = np.concatenate([sign, [-1.0, 1.0]])
            weights = np.concatenate([weights, [self._share / 2] * 2])
        self._theta = linear.fit_logistic(x, sign, weights, self._l2, self._theta)
        return self._theta

    def clean_loss(self, theta):
        """The mean loss of the clean examples."""
        return linear.logistic_loss(self._sign * (self._x @ theta)).mean()

    def uphill(self, theta, points):
        """The gradient of the clean loss by each point, through the training that gave theta."""
        from scipy import linalg, special

        count, margins = len(self._x), self._sign * (self._x @ theta)
        poison = linear.with_one(np.array(points))
        scores = poison @ theta
        curvature = special.expit(margins) * special.expit(-margins) / count
        curves = special.expit(scores) * special.expit(-scores)
        hessian = (self._x * curvature[:, None]).T @ self._x
        hessian += self._share / 2 * (poison * curves[:, None]).T @ poison + self._l2 * np.eye(len(theta))
        gradient = -self._x.T @ (self._sign * special.expit(-margins)) / count
        direction = linalg.solve(hessian, gradient, assume_a="pos")
        # A point's training gradient is -sign expit(-margin) (x, 1); this is the derivative of its product with
        # `direction`, and the loss moves against it.
        found = []
        for x, sign, score, curve in zip(poison, (-1.0, 1.0), scores, curves):
            inner = -sign * special.expit(-sign * score) * direction + curve * (direction @ x) * theta
            found.append(-self._share / 2 * inner[:-1])
        return found
