"""What the attacks on linear models of two classes share: the filters they pass, the points they may use, the learner.

Labels are 0 and 1, signs -1 and 1; a model is one vector theta [F + 1] whose last entry is the bias, and the margin of
an example is sign · theta · (x, 1). The softmax regression "lr" of two classes is that model, theta being the
difference of its two columns.
"""

import dataclasses

import numpy as np

from tfshape import checks
from tfshape.attacks import base

MARGIN = 1e-5  # of a radius: what rounding to float32 may move a point by
_SOLVER = "CLARABEL"


class Linear(base.Attack):
    """An attack on linear models of two classes."""

    kind = "indiscriminate"

    def check(self, problem: base.Problem) -> None:
        """Raises ValueError unless the problem is one of two classes and its victim linear."""
        classes, allowed = problem.dataset.num_classes, f"lr for attack {self.name}, which is for linear models"
        if classes != 2:
            raise ValueError(f"dataset must have 2 classes for attack {self.name}, got {classes}; see --classes")
        checks.require("model", problem.model == "lr", allowed, problem.model)

    def _inserted(self, problem, x, y, **found):
        """The `ts.poison.Poisons` of examples x [K, F] in [0, 1] with labels y [K]; see `Attack.poisons`."""
        x = x.astype(np.float32).reshape(-1, *problem.dataset.input_shape)
        return self.poisons(problem, x, y=y.astype(np.int32), **found)


def rows(x):
    """x [N, ...] as float64 [N, F]."""
    return x.reshape(len(x), int(np.prod(x.shape[1:]))).astype(np.float64)


def with_one(x):
    """x [N, F] with a last column of ones."""
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def signs(y):
    """Labels 0 and 1 as -1.0 and 1.0."""
    return 2.0 * y - 1.0


def copies(count, points):
    """Of which of `points` points each of `count` poisons is a copy, each as often as the others: int [count].

    Fewer poisons than points take them evenly spread.
    """
    return np.arange(count) * points // count


@dataclasses.dataclass(frozen=True, eq=False)
class Filters:
    """The sphere and the slab of each class (Steinhardt et al. 2017, arXiv 1706.03691, eq. 2).

    Attributes:
      means: the mean of each class, float64 [2, F].
      axis: the unit vector along the line of the means, [F].
      radii: of the spheres ‖x - mean‖, [2].
      widths: of the slabs |axis · (x - mean)|, [2].
    """

    means: np.ndarray
    axis: np.ndarray
    radii: np.ndarray
    widths: np.ndarray

    @classmethod
    def fit(cls, x, y, quantile, poison=None):
        """Filters each of which keeps the share `quantile`, in (0, 1], of each class of clean x [N, ...], y [N].

        The means are the true ones of the clean data; with `poison`, a pair of x [K, ...] and y [K], those of clean
        data and poison together, which a defender computes who cannot tell them apart.
        """
        x = rows(x)
        everything, labels = x, y
        if poison is not None:
            everything, labels = np.concatenate([x, rows(poison[0])]), np.concatenate([y, poison[1]])
        means = np.stack([everything[labels == label].mean(axis=0) for label in (0, 1)])
        axis = means[1] - means[0]
        axis /= max(np.linalg.norm(axis), 1e-30)
        found = _positions(x, y, means, axis)
        radii, widths = (np.array([np.quantile(part[y == label], quantile) for label in (0, 1)]) for part in found)
        return cls(means, axis, radii, widths)

    def passes(self, x, y):
        """Whether each example x [N, ...] with label y [N] passes both filters, bool [N]."""
        distances, projections = _positions(rows(x), y, self.means, self.axis)
        return (distances <= self.radii[y]) & (projections <= self.widths[y])

    def allow(self, x, label):
        """The CVXPY constraints that keep variable x [F] in [0, 1] and, as label `label`, inside both filters."""
        import cvxpy

        away, inside = x - self.means[label], 1 - MARGIN
        return [
            x >= 0,
            x <= 1,
            cvxpy.norm(away) <= self.radii[label] * inside,
            cvxpy.abs(self.axis @ away) <= self.widths[label] * inside,
        ]


def _positions(x, y, means, axis):
    away = x - means[y]
    return np.linalg.norm(away, axis=1), np.abs(away @ axis)


def solve(program):
    """Solves a CVXPY program. Returns its value, or None if nothing satisfies its constraints.

    Raises RuntimeError if the solver fails otherwise.
    """
    value = program.solve(solver=_SOLVER)
    if program.status.startswith("infeasible"):
        return None
    if not program.status.startswith("optimal"):
        raise RuntimeError(f"{_SOLVER} ended {program.status}")
    return value


class Projection:
    """The point nearest to z among those of class `label` that pass the filters and lie in [0, 1]: a cone program."""

    def __init__(self, filters, label):
        import cvxpy

        self._x, self._z = cvxpy.Variable(filters.axis.shape[0]), cvxpy.Parameter(filters.axis.shape[0])
        goal = cvxpy.Minimize(cvxpy.norm(self._x - self._z))
        self._program = cvxpy.Problem(goal, filters.allow(self._x, label))

    def __call__(self, z):
        self._z.value = z
        solve(self._program)
        return np.clip(np.asarray(self._x.value), 0, 1)


def logistic_loss(margins):
    """log(1 + exp(-margin)), elementwise."""
    return np.logaddexp(0, -margins)


def fit_logistic(x, sign, weights, l2, start=None):
    """The theta [F + 1] that minimises sum_i weights_i log(1 + exp(-margin_i)) + l2/2 ‖theta‖², by L-BFGS.

    x: [N, F + 1] with the ones; sign, weights: [N]; l2 > 0, which makes it unique; start: where to begin.
    """
    from scipy import optimize, special

    def objective(theta):
        margins = sign * (x @ theta)
        pull = -weights * sign * special.expit(-margins)
        return weights @ logistic_loss(margins) + l2 / 2 * theta @ theta, x.T @ pull + l2 * theta

    start = np.zeros(x.shape[1]) if start is None else start
    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-7}
    return optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x
