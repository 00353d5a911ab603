"""The KKT attack: poison that makes a chosen bad linear model the best one there is.

Koh, Steinhardt & Liang 2018, Stronger Data Poisoning Attacks Break Data Sanitization Defenses, arXiv 1811.00741,
section 5. The attacker picks decoy parameters that err on the data, and solves the optimality conditions of training
for the poison: the gradients of clean data and poison must cancel there.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import options
from tfshape.attacks import base, linear
from tfshape.poison import Poisons

_FLIPPED = (0.3, 0.2, 0.1, 0.05)  # shares of a class's labels that are flipped to make a decoy
_SPLITS = (0.1, 0.5, 0.9)  # shares of the poison that get label 1
_MARGINS = (-2.0, 0.0)  # of the poison under the decoy


@dataclasses.dataclass(frozen=True)
class Kkt(linear.Linear):
    """Adds copies of two points, one a class, at which decoy parameters are optimal. Two classes, victim "lr".

    Decoys are trained on the clean data with the labels of those examples flipped that a clean model is surest of. For
    each, and for a grid of label shares and margins, a cone program finds the points whose gradient best cancels that
    of the clean data; kept is what, when the attacker's model is trained on it, has the highest loss on the clean data.

    Attributes:
      decoys: int from 1 to 8, how many are tried, those that err most first.
      l2: > 0, the regularisation of the attacker's model, whose loss is a mean over the clean examples.
      quantile: share in (0, 1] of each class's clean examples that the sphere and the slab filter keep; the points pass
        both.
    """

    decoys: int = options.integer(4, 1, 8)
    l2: float = options.real(1e-3, 0, above=True)
    quantile: float = options.real(0.95, 0, 1, above=True)

    name = "kkt"

    def craft(self, problem: base.Problem) -> Poisons:
        """Finds the decoy that the poison can reach and that harms most.

        Args:
          problem: a `Problem`; its targets, eps and seed play no part.

        Returns:
          `ts.poison.Poisons`, base -1, x in [0, 1] and inside both filters. Its config adds `loss_before` and
          `loss_after`, the loss of the attacker's model on the clean data, trained without poison and with it, and
          `residual`, the l2 norm of the gradient that is left at the decoy, as a share of that of the clean data.

        Raises:
          ValueError: see `check`. RuntimeError: no decoy has any feasible poison.
        """
        self.check(problem)
        train = problem.dataset.train
        x, sign = linear.with_one(linear.rows(train.x)), linear.signs(train.y)
        share = problem.num_poisons / len(train)
        cancel = _Cancel(linear.Filters.fit(train.x, train.y, self.quantile))
        clean = self._fit(x, sign)
        best = None
        for decoy in self._decoys(x, sign, clean):
            gradient = _gradient(x, sign, decoy) + self.l2 * decoy
            for part in _SPLITS:
                for margin in _MARGINS:
                    weights = share * np.array([1 - part, part])
                    points = cancel(decoy, gradient, weights, margin)
                    if points is None:
                        continue
                    reached = self._fit(x, sign, np.array(points), weights)
                    loss = linear.logistic_loss(sign * (x @ reached)).mean()
                    if best is None or loss > best[0]:
                        left = gradient + _gradient(linear.with_one(np.array(points)), _SIGNS, decoy, weights)
                        residual = np.linalg.norm(left) / np.linalg.norm(gradient)
                        best = loss, points, part, residual
        if best is None:
            raise RuntimeError("kkt: no decoy has poison that passes the filters")
        loss, points, part, residual = best
        y = (np.arange(problem.num_poisons) < round(part * problem.num_poisons)).astype(np.int32)
        found = {
            "loss_before": float(linear.logistic_loss(sign * (x @ clean)).mean()),
            "loss_after": float(loss),
            "residual": float(residual),
        }
        return self._inserted(problem, np.array(points)[y], y, **found)

    def _fit(self, x, sign, points=None, weights=()):
        count = np.full(len(x), 1 / len(x))
        if points is not None:
            x, sign = np.concatenate([x, linear.with_one(points)]), np.concatenate([sign, _SIGNS])
            count = np.concatenate([count, weights])
        return linear.fit_logistic(x, sign, count, self.l2)

    def _decoys(self, x, sign, clean):
        """Models of the data with the surest examples of one class, and then the other, relabelled."""
        margins = sign * (x @ clean)
        found = []
        for share in _FLIPPED:
            for label in (-1, 1):
                of_class = np.flatnonzero(sign == label)
                surest = of_class[np.argsort(-margins[of_class], kind="stable")[: round(share * len(of_class))]]
                flipped = sign.copy()
                flipped[surest] *= -1
                found.append(self._fit(x, flipped))
        return found[: self.decoys]


_SIGNS = np.array([-1.0, 1.0])


def _gradient(x, sign, theta, weights=None):
    """The gradient of the loss at theta, a mean over x [N, F + 1], or a sum with `weights` [N]."""
    from scipy import special

    weights = np.full(len(x), 1 / len(x)) if weights is None else weights
    return -x.T @ (weights * sign * special.expit(-sign * (x @ theta)))


class _Cancel:
    """A cone program: the two points, one a class, of given weights and margin whose gradient best cancels another.

    At a fixed margin m the gradient of a point is expit(-m) times its signed input, so what is left is linear in the
    points, and its norm convex.
    """

    def __init__(self, filters):
        import cvxpy

        size = len(filters.axis)
        self._x = [cvxpy.Variable(size) for _ in range(2)]
        self._pulls, self._gradient = cvxpy.Parameter(2), cvxpy.Parameter(size)
        self._theta, self._scores = cvxpy.Parameter(size), cvxpy.Parameter(2)
        left = self._gradient + self._pulls[0] * self._x[0] + self._pulls[1] * self._x[1]
        limits = [limit for label in (0, 1) for limit in filters.allow(self._x[label], label)]
        limits += [self._theta @ self._x[label] == self._scores[label] for label in (0, 1)]
        # The bias's part does not depend on the points; the split of the labels answers for it.
        self._program = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(left)), limits)

    def __call__(self, theta, gradient, weights, margin):
        """[x [F] of label 0, x of label 1] for a gradient [F + 1], weights [2] and margin; None if there are none."""
        from scipy import special

        scale = np.linalg.norm(gradient)  # to a size that the solver's tolerances are made for
        self._gradient.value = gradient[:-1] / scale
        self._pulls.value = -weights * _SIGNS * special.expit(-margin) / scale
        length = np.linalg.norm(theta[:-1])
        self._theta.value = theta[:-1] / length
        self._scores.value = (_SIGNS * margin - theta[-1]) / length
        return None if linear.solve(self._program) is None else [np.clip(np.asarray(x.value), 0, 1) for x in self._x]
