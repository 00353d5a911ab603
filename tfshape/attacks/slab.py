"""The slab attack: poison that passes the sphere and slab filters and still harms a linear model most.

Steinhardt, Koh & Liang 2017, Certified Defenses for Data Poisoning Attacks, arXiv 1706.03691, Algorithm 1. A linear
model and an attacker play a game: the model takes a step, the attacker answers with the one point of the feasible set
that hurts it most. What the attacker played is the attack; what the game was worth bounds the loss of any such poison.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfshape import options
from tfshape.attacks import base, linear
from tfshape.poison import Poisons


@dataclasses.dataclass(frozen=True)
class Slab(linear.Linear):
    """Adds `problem.num_poisons` examples that filters let through. Two classes, victim "lr".

    The filters keep the share `quantile` of each clean class, about its true mean or, after `refits`, about the mean
    that the poison moves.

    Attributes:
      quantile: share in (0, 1) of each class's clean examples that each filter keeps; 0.65 in the poison of Hong et
        al. (arXiv 2002.11497).
      steps: int >= 2, rounds of the game; each of the second half, when the model has learnt, leaves one point, of
        which the poison holds equally many copies.
      learning_rate: > 0, the model's step in the game.
      radius: > 0, bound on the l2 norm of the model in the game.
      most: share in (0, 1] of the clean count up to which the game is played for as much poison as there will be.
        Against more the best model is the one that says nothing; points played against that one harm others less.
      refits: int >= 0, how often the filters are fitted again, now about the class means of clean data and poison
        together, and the game is played again. 0 is a defender who knows the true means; with more the poison takes the
        means along and gets farther (section 5 of the paper, data-dependent defenses; there solved jointly).
    """

    quantile: float = options.real(0.65, 0, 1, above=True, below=True)
    steps: int = options.integer(100, 2)
    learning_rate: float = options.real(0.03, 0, above=True)
    radius: float = options.real(10.0, 0, above=True)
    most: float = options.real(0.1, 0, 1, above=True)
    refits: int = options.integer(0, 0)

    name = "slab"

    def craft(self, problem: base.Problem) -> Poisons:
        """Plays the game on the hinge loss.

        Args:
          problem: a `Problem`; its targets and eps play no part, nor does its seed: nothing here is drawn.

        Returns:
          `ts.poison.Poisons`, base -1, x in [0, 1]. Its config adds `loss_bound`: for no poison of this size within the
          feasible set has the model of norm at most `radius` that fits clean data and poison best a higher hinge loss,
          summed over both and divided by the clean count (Steinhardt et al., proposition 1); and `passes`, the share
          of the poison that passes both filters. After refits the feasible set is that of the last game, and `passes`
          is of filters about the means that this poison makes; where those have not settled yet it may fall short of 1.

        Raises:
          ValueError: see `check`.
        """
        self.check(problem)
        train = problem.dataset.train
        poisons: Any = None
        filters: Any = None
        for _ in range(self.refits + 1):
            filters = self._filters(train, poisons)
            x, y, bound = self._play(problem, [Worst(filters, label) for label in (0, 1)])
            x, y = x[self.steps // 2 :], y[self.steps // 2 :]
            chosen = linear.copies(problem.num_poisons, len(x))
            poisons = self._inserted(problem, x[chosen], y[chosen], loss_bound=float(bound))
        filters = self._filters(train, poisons) if self.refits else filters
        passes = float(filters.passes(poisons.x, poisons.y).mean())
        return dataclasses.replace(poisons, config={**poisons.config, "passes": passes})

    def _filters(self, train, poisons):
        given = None if poisons is None else (poisons.x, poisons.y)
        return linear.Filters.fit(train.x, train.y, self.quantile, given)

    def _play(self, problem, oracles):
        """The points played, x [steps, F] and y [steps], and the bound."""
        train = problem.dataset.train
        clean = linear.with_one(linear.rows(train.x)) * linear.signs(train.y)[:, None]
        share = problem.num_poisons / len(train)
        played = min(share, self.most)
        dual, scale = np.zeros(clean.shape[1]), 1 / self.learning_rate
        theta, bound, points, labels = dual, np.inf, [], []
        for _ in range(self.steps):
            margins = clean @ theta
            answers = [oracle(theta) for oracle in oracles]
            floor = min(least for _, _, least in answers)
            bound = min(bound, _hinge(margins).mean() + share * _hinge(floor))
            label = int(np.argmin([margin for _, margin, _ in answers]))
            x, margin, _ = answers[label]
            points.append(x)
            labels.append(label)
            gradient = -(clean.T @ (margins < 1)) / len(train)
            gradient -= played * (margin < 1) * linear.signs(label) * np.append(x, 1)
            dual = dual - gradient
            scale = max(scale, float(np.linalg.norm(dual)) / self.radius)
            theta = dual / scale
        return np.array(points), np.array(labels), bound


class Worst:
    """The point of one class's feasible set with the smallest margin under a linear model, by a cone program."""

    def __init__(self, filters, label):
        import cvxpy

        self._x, self._direction = cvxpy.Variable(len(filters.axis)), cvxpy.Parameter(len(filters.axis))
        self._sign, self._filters, self._label = linear.signs(label), filters, label
        limits = filters.allow(self._x, label)
        self._program = cvxpy.Problem(cvxpy.Minimize(self._direction @ self._x), limits)

    def __call__(self, theta):
        """(x [F] in [0, 1], its margin under theta [F + 1], a lower bound on the margin of any point in the set)."""
        direction, bias = self._sign * theta[:-1], self._sign * theta[-1]
        size = max(np.linalg.norm(direction), 1e-30)
        self._direction.value = direction / size
        value = linear.solve(self._program)
        x = np.clip(np.asarray(self._x.value), 0, 1)
        return x, direction @ x + bias, (value - self._gap()) * size + bias

    def _gap(self):
        """What the optimum over the whole set may lie below the solver's value: its tolerance of 1e-8, taken as 1e-6,
        and the sliver that the margin against rounding cuts off (shrinking about the mean by that share makes any
        point of the set one of the program's, as both lie in [0, 1])."""
        return 1e-6 + linear.MARGIN * self._filters.radii[self._label]


def _hinge(margins):
    return np.maximum(0, 1 - margins)
