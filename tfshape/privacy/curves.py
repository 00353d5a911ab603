"""Curves delta(epsilon): upper bounds on what a mechanism may leak, and bounds made from other bounds."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from typing import Any, ClassVar


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
            if high > 1e300:
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
        low, high = epsilon / mu - mu / 2, epsilon / mu + mu / 2
        # Phi(-low) - exp(epsilon) Phi(-high), and exp(epsilon) is exp((high² - low²) / 2)
        scale = math.exp(-(low**2) / 2) / 2
        first = scale * special.erfcx(low / math.sqrt(2)) if low > 0 else special.ndtr(-low)
        return max(0.0, float(first - scale * special.erfcx(high / math.sqrt(2))))


@dataclasses.dataclass(frozen=True)
class Accountant(Curve):
    """What an accountant of dp_accounting says of an event.

    fast: if given, bounds delta, which PLDs are slow at, and alone bounds epsilon for a delta below `least`.
    """

    make: Any
    event: Any
    fast: Curve | None = None
    least: float = 0.0

    @functools.cached_property
    def accountant(self):
        with _quiet():
            return self.make().compose(self.event)

    def delta(self, epsilon):
        return float(self.accountant.get_delta(epsilon)) if self.fast is None else self.fast.delta(epsilon)

    def epsilon(self, delta):
        if self.fast is not None and delta < self.least:
            return self.fast.epsilon(delta)
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

    tables: (index of the first loss, probabilities [n], step of the grid, probability of a loss of inf) of each.
    """

    def __init__(self, tables):
        import numpy as np
        from scipy import signal

        self._parts = []
        for first, masses, step, infinite in tables:
            start = min(max(0, -first), len(masses))  # losses below 0 leak nothing
            masses = np.clip(masses[start:], 0, None)
            loss = (np.arange(start, start + len(masses)) + first) * step
            upper = np.cumsum(masses[::-1])[::-1]
            # Sums of what follows a loss, each mass times exp(that loss - its own), which no loss is too large for.
            lower = signal.lfilter([1.0], [1.0, -math.exp(-step)], masses[::-1])[::-1]
            self._parts.append((loss, upper, lower, infinite))

    def delta(self, epsilon):
        return max(self._one(*part, epsilon) for part in self._parts)

    @staticmethod
    def _one(loss, upper, lower, infinite, epsilon):
        at = loss.searchsorted(epsilon)
        finite = upper[at] - math.exp(epsilon - loss[at]) * lower[at] if at < len(loss) else 0.0
        return float(min(1.0, infinite + max(0.0, finite)))


@dataclasses.dataclass(frozen=True, eq=False)
class Renyi(Curve):
    """Rényi divergences of several orders > 1 (Canonne, Kamath and Steinke 2020, arXiv 2004.00010, proposition 12)."""

    orders: Any
    divergences: Any

    def delta(self, epsilon):
        import numpy as np

        more = self.orders - 1
        found = np.min(more * (self.divergences - epsilon + np.log1p(-1 / self.orders)) - np.log(self.orders))
        return math.exp(min(0.0, found))

    def epsilon(self, delta):
        import numpy as np

        spent = (math.log(delta) + np.log(self.orders)) / (self.orders - 1)
        return max(0.0, float(np.min(self.divergences + np.log1p(-1 / self.orders) - spent)))


@dataclasses.dataclass(frozen=True)
class Group(Curve):
    """`size` examples at once, by going from neighbour to neighbour (Vadhan 2017, lemma 2.2)."""

    curve: Curve
    size: int

    def delta(self, epsilon):
        each = epsilon / self.size
        factor = self.size if each == 0 else math.expm1(min(epsilon, 700.0)) / math.expm1(min(each, 700.0))
        return min(1.0, self.curve.delta(each) * factor)


@dataclasses.dataclass(frozen=True)
class Twice(Curve):
    """Removing and then adding what `curve` bounds: delta(e) <= delta(e1) + exp(e1) delta(e - e1) for every e1."""

    curve: Curve

    def delta(self, epsilon):
        splits = [epsilon * share / 16 for share in range(17)]
        parts = [(e, self.curve.delta(e), self.curve.delta(epsilon - e)) for e in splits]
        return min(1.0, *(first + math.exp(min(e, 700.0)) * second for e, first, second in parts))


@dataclasses.dataclass(frozen=True)
class Truncated(Curve):
    """`curve`, of a run in which, with `probability` at most, some batch was full without the examples in question.

    Adding one to a full batch puts another out of it, and moves the sum by twice as much as it should. Whether a batch
    is full, the other examples decide. So delta is at most that of `curve`, and `probability` times that of `doubled`,
    the same run with sums that move by twice as much.
    """

    curve: Curve
    probability: float
    doubled: Callable[[], Curve]

    def delta(self, epsilon):
        delta = self.curve.delta(epsilon)
        much = self.probability > 1e-9 * delta  # else it makes no difference, and takes time
        return min(1.0, delta + self.probability * (self.doubled().delta(epsilon) if much else 1.0))


@dataclasses.dataclass(frozen=True)
class Least(Curve):
    """The least of several bounds on the same mechanism."""

    curves: tuple
    choose: ClassVar[Callable[..., float]] = staticmethod(min)

    def delta(self, epsilon):
        return self.choose(curve.delta(epsilon) for curve in self.curves)

    def epsilon(self, delta):
        return self.choose(curve.epsilon(delta) for curve in self.curves)


@dataclasses.dataclass(frozen=True)
class Worst(Least):
    """The largest of bounds on several mechanisms."""

    choose: ClassVar[Callable[..., float]] = staticmethod(max)
