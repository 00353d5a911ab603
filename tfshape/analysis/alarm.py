"""A smoke alarm: do gradients of the training examples stand out from those of a few that are known to be clean?"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from tfshape import checks


@dataclasses.dataclass(frozen=True, eq=False)
class Alarm:
    """What the alarm says of one run.

    Attributes:
        fired: whether p_value <= false_alarm_rate.
        p_value: of the hypothesis that no example is poisoned.
        false_alarm_rate: the share of clean runs on which it fires, at most.
        score: which score stands out most.
        suspicious: int [K], the untrusted examples that stand out in it, the worst first; empty if it has not fired.
        expected: how many of that rank or worse there would be if all were clean.
    """

    fired: bool
    p_value: float
    false_alarm_rate: float
    score: str
    suspicious: np.ndarray
    expected: float

    def __str__(self):
        words = f"p = {self.p_value:.3f}, false alarms on at most {self.false_alarm_rate:.1%} of clean runs"
        if not self.fired:
            return f"no alarm ({words})"
        return (
            f"ALARM ({words}): {len(self.suspicious)} suspicious examples by {self.score}, "
            f"where {self.expected:.0f} were to be expected of clean data"
        )


def smoke_alarm(
    scores: Mapping[str, np.ndarray],
    trusted: np.ndarray,
    groups: np.ndarray | None = None,
    false_alarm_rate: float = 0.01,
    permutations: int = 999,
    seed: int = 0,
) -> Alarm:
    """Tests whether the untrusted examples crowd the upper end of any score more than chance would have it.

    For each score, among all examples and in each group, and for each of several j, the number of untrusted examples
    above the j-th highest trusted one is turned into a p-value, by the negative hypergeometric distribution that it has
    if all are clean. The smallest of them is compared with what it is when other examples of each group, drawn at
    random, are called trusted. That is an exact permutation test, however the scores depend on each other, under one
    assumption: the trusted examples are exchangeable with the other clean ones of their group. So draw them from the
    training data at random, before you look at them; train on them like on the others; and give scores that do not know
    which are trusted. Trusted examples that were held out from training break it.

    To see a share s of poison takes some 15 / s trusted examples: among as many as there is poison, fifteen are then
    missed if none is there. Poison that gathers in one group is seen with fewer.

    Args:
        scores: dict of name to numbers [N], high where an example is suspicious. NaN counts as lowest.
        trusted: bool [N], which examples are known to be clean; at least two, and not all.
        groups: int [N], such as the labels; None for one group.
        false_alarm_rate: the share of clean runs on which it may fire, 0 < rate < 1.
        permutations: >= 1 / false_alarm_rate - 1, else it could not fire.
        seed: int >= 0, for the permutations and for ties.

    Returns:
        An `Alarm`.

    Raises:
        ValueError: a value that is not allowed.

    Source: the precedence test of Nelson 1963 (Technometrics 5), with the smallest of several p-values as in Westfall
    and Young 1993; exchangeability as in conformal outlier detection, Bates et al. 2023, arXiv 2104.08279.
    """
    trusted = np.asarray(trusted)
    check(trusted, false_alarm_rate, permutations)
    rng = np.random.default_rng([seed, 6])
    groups = np.zeros(len(trusted), int) if groups is None else np.unique(groups, return_inverse=True)[1]
    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    tests = _tests(scores, trusted, members, rng)
    observed = [test.p_values(test.edges(trusted)) for test in tests]
    edges = [np.empty((permutations, len(test.steps)), int) for test in tests]
    for turn in range(permutations):
        drawn = np.zeros(len(trusted), bool)
        for rows in members:
            drawn[rng.permutation(rows)[: np.count_nonzero(trusted[rows])]] = True
        for test, found in zip(tests, edges):
            found[turn] = test.edges(drawn)
    least = np.min([test.p_values(found).min(1) for test, found in zip(tests, edges)], axis=0)
    best = int(np.argmin([values.min() for values in observed]))
    p_value = float((1 + np.count_nonzero(least <= observed[best].min())) / (1 + permutations))
    fired, test, step = p_value <= false_alarm_rate, tests[best], int(observed[best].argmin())
    above = test.order[: test.edges(trusted)[step]] if fired else test.order[:0]
    expected = (len(test.order) - test.count) * int(test.steps[step]) / (test.count + 1)
    return Alarm(fired, p_value, float(false_alarm_rate), test.name, above[~trusted[above]], float(expected))


@dataclasses.dataclass(frozen=True, eq=False)
class _Test:
    """One score in one group: its examples, the highest first, how many are trusted, and the j that are tried."""

    name: str
    order: np.ndarray
    count: int
    steps: np.ndarray

    def edges(self, trusted):
        """[steps]: how many examples of the group lie above the j-th trusted one, trusted or not."""
        return np.flatnonzero(trusted[self.order])[self.steps - 1]

    @functools.cached_property
    def tails(self):
        """[steps, N]: how likely it is that so many examples or more are above the j-th trusted one.

        That has the negative hypergeometric distribution if all are clean.
        """
        size, above = len(self.order), np.arange(len(self.order))
        steps = self.steps[:, None]
        log = _log_binomial(above, steps - 1) + _log_binomial(size - 1 - above, self.count - steps)
        share = np.exp(log - _log_binomial(size, self.count))
        return np.cumsum(share[:, ::-1], 1)[:, ::-1]

    def p_values(self, edges):
        """[…, steps], for edges [..., steps]."""
        return self.tails[np.arange(len(self.steps)), edges]


def _log_binomial(n, k):
    """The logarithm of n over k, -inf for k > n >= 0."""
    from scipy.special import gammaln

    return np.where(k > n, -np.inf, gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1))


def _tests(scores, trusted, members, rng):
    everyone = np.arange(len(trusted))
    tests = []
    for name, values in scores.items():
        values = np.asarray(values, np.float64)
        if values.shape != trusted.shape:
            raise ValueError(f"scores must have a number for each of {len(trusted)} examples, got shape {values.shape}")
        values = -np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        for rows in [everyone, *(members if len(members) > 1 else [])]:
            rows = rng.permutation(rows)  # so that ties are in random order
            count = int(np.count_nonzero(trusted[rows]))
            if count:
                steps = np.unique(np.geomspace(1, max(count // 2, 1), 9).astype(int))
                tests.append(_Test(name, rows[np.argsort(values[rows], kind="stable")], count, steps))
    return tests


def check(trusted, false_alarm_rate, permutations):
    """Raises ValueError for what `smoke_alarm` does not allow."""
    size, count = len(trusted), int(np.count_nonzero(trusted))
    if trusted.dtype != bool or not 2 <= count < size:
        raise ValueError(f"trusted must be one bool per example, two or more true but not all, got {count} of {size}")
    checks.real("false_alarm_rate", false_alarm_rate, 0, 1, above=True, below=True)
    enough = permutations + 1 >= 1 / false_alarm_rate
    checks.require("permutations", enough, f"{1 / false_alarm_rate - 1:.0f} or more", permutations)


class Trace:
    """How the examples' gradients ranked in their groups over the looks at a run, in memory that does not grow with
    their number."""

    def __init__(self, groups):
        """groups: int [N], such as the labels."""
        groups = np.unique(groups, return_inverse=True)[1]
        self._members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
        self._looks, self._first, self._sums = 0, None, {}

    def add(self, scores):
        """Adds a look: a dict of name to numbers [N], see `Look.scores`."""
        for name, values in scores.items():
            values, ranks = np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf), np.empty(len(values))
            for rows in self._members:
                ranks[rows[np.argsort(values[rows], kind="stable")]] = np.arange(len(rows)) / len(rows)
            self._sums[name] = self._sums.get(name, 0) + ranks
            if name == "norm" and self._first is None:
                self._first = ranks
        self._looks += 1

    def scores(self):
        """A dict of name to [N], for `smoke_alarm`, all of them symmetric in the examples of a group.

        Sums of mean ranks. Large norm: what keeps being hard. Large and askew, that is at a low cosine to the batch
        mean: wrong labels. Near twin: copies, and what crowds together. Falling and askew: the norm fell far, is small,
        and points elsewhere; backdoors are learnt faster than clean examples that were as hard (Li et al. 2021,
        Anti-Backdoor Learning, arXiv 2110.11571), but not as the others of their label are.
        """
        norm, cosine, nearest = (self._sums[name] / self._looks for name in ("norm", "cosine", "nearest"))
        return {
            "large norm": norm,
            "large and askew": norm - cosine,
            "near twin": nearest,
            "falling and askew": self._first - 2 * norm - cosine,
        }
