"""Curves delta(epsilon): upper bounds on what a mechanism may leak, and bounds made from other bounds."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math

FLOOR = 1e-15  # what a computed delta is good to, where it is to be multiplied


class Curve:
    """An upper bound on delta for each epsilon; subclasses give `delta`, and a faster `epsilon` if they have one."""

    def delta(self, epsilon):
        raise NotImplementedError

    def epsilon(self, delta):
        """The least epsilon >= 0 whose delta is at most `delta`, to 1e-9 and rounded up; inf if there is none."""
        if self.delta(0.0) <= delta:
            return 0.0
        low, high = 0.0, 1.0
        while self.delta(high) > delta:
            low, high = high, 2 * high
            if high > 1e9:
                return math.inf
        while high - low > 1e-9 * max(high, 1.0):
            middle = (low + high) / 2
            low, high = (middle, high) if self.delta(middle) > delta else (low, middle)
        return high


@dataclasses.dataclass(frozen=True)
class Gaussian(Curve):
    """The Gaussian mechanism, in closed form (Balle and Wang 2018, arXiv 1805.06530, theorem 8)."""

    noise_multiplier: float

    def delta(self, epsilon):
        from scipy import special

        mu = 1 / self.noise_multiplier
        first = special.log_ndtr(mu / 2 - epsilon / mu)
        return max(0.0, math.exp(first) * -math.expm1(epsilon + special.log_ndtr(-mu / 2 - epsilon / mu) - first))


@dataclasses.dataclass(frozen=True)
class Accountant(Curve):
    """What an accountant of dp_accounting says of an event; `fast`, if given, bounds delta, which PLDs are slow at."""

    make: object
    event: object
    fast: Curve | None = None

    @functools.cached_property
    def accountant(self):
        with _quiet():
            return self.make().compose(self.event)

    def delta(self, epsilon):
        return float(self.accountant.get_delta(epsilon)) if self.fast is None else self.fast.delta(epsilon)

    def epsilon(self, delta):
        return float(self.accountant.get_epsilon(delta))


@contextlib.contextmanager
def _quiet():
    """Drops dp_accounting's warnings of Rényi orders that it leaves out: without them the bound holds as well."""

    def wanted(record):
        return "Excluding this order" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


class Losses(Curve):
    """A distribution of privacy losses on an even grid, or the worse of several.

    tables: (index of the first loss, probabilities [n], probability of a loss of inf) of each; step: of the grid.
    """

    def __init__(self, tables, step):
        import numpy as np

        self._parts = []
        for first, masses, infinite in tables:
            start = max(0, -first)  # losses below 0 leak nothing
            loss = (np.arange(start, len(masses)) + first) * step
            masses = np.clip(masses[start:], 0, None)
            beyond = [np.append(np.cumsum(part[::-1])[::-1], 0) for part in (masses, masses * np.exp(-loss))]
            self._parts.append((loss, *beyond, infinite))

    def delta(self, epsilon):
        return max(self._one(*part, epsilon) for part in self._parts)

    @staticmethod
    def _one(loss, upper, lower, infinite, epsilon):
        at = loss.searchsorted(epsilon) if epsilon < 700 else -1
        finite = upper[at] - math.exp(min(epsilon, 700.0)) * lower[at]
        return float(min(1.0, infinite + max(0.0, finite)))


@dataclasses.dataclass(frozen=True)
class Group(Curve):
    """`size` examples at once, by going from neighbour to neighbour (Vadhan 2017, lemma 2.2)."""

    curve: Curve
    size: int

    def delta(self, epsilon):
        each = epsilon / self.size
        factor = self.size if each == 0 else math.expm1(min(epsilon, 700.0)) / math.expm1(min(each, 700.0))
        return min(1.0, max(self.curve.delta(each), FLOOR) * factor)


@dataclasses.dataclass(frozen=True)
class Twice(Curve):
    """Removing and then adding what `curve` bounds: delta(e) <= delta(e1) + exp(e1) delta(e - e1) for every e1."""

    curve: Curve

    def delta(self, epsilon):
        splits = [epsilon * share / 16 for share in range(17)]
        parts = [(e, self.curve.delta(e), max(self.curve.delta(epsilon - e), FLOOR)) for e in splits]
        return min(1.0, *(first + math.exp(min(e, 700.0)) * second for e, first, second in parts))


@dataclasses.dataclass(frozen=True)
class Truncated(Curve):
    """`curve`, and a probability that the run was not the one it describes: delta + (1 + exp(epsilon)) probability."""

    curve: Curve
    probability: float

    def delta(self, epsilon):
        return min(1.0, self.curve.delta(epsilon) + (1 + math.exp(min(epsilon, 700))) * self.probability)


@dataclasses.dataclass(frozen=True)
class Least(Curve):
    """The least of several bounds on the same mechanism."""

    curves: tuple

    def delta(self, epsilon):
        return min(curve.delta(epsilon) for curve in self.curves)

    def epsilon(self, delta):
        return min(curve.epsilon(delta) for curve in self.curves)
