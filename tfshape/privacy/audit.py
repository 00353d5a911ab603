"""What an audit proves: lower bounds on epsilon, with confidence, from how well canaries were told apart."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfshape.privacy.training import probability


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one audit found.

    Attributes:
        game: which audit it was.
        claimed: epsilon at `delta` that the accountant gives for the noise multiplier that was asked for.
        lower: epsilon at `delta` that the audit proves, at `confidence`, of a mechanism whose trade-offs are those of
            the claim at some other noise multiplier. That `lower` exceeds `claimed` refutes the claim without that.
        plain: epsilon at `delta` that it proves of any mechanism whatever; for `many_runs` the same.
        delta, confidence: probabilities.
        guesses, correct: how many canaries (or runs) were guessed by the best of the scores, and how many rightly.
        violated: whether the claim is refuted, at `confidence`.
    """

    game: str
    claimed: float
    lower: float
    plain: float
    delta: float
    confidence: float
    guesses: int
    correct: int

    @property
    def violated(self):
        return self.lower > self.claimed


def one_run(game, claim, scores, included, delta, confidence=0.95):
    """The finding of one training with many canaries, each included by a fair coin.

    Args:
        game: its name.
        claim: the `Training` that is claimed.
        scores: dict of name to [m] floats, larger for a canary that seems to have been included. Each is tried with
            the 2%, 10%, 40% and 100% of canaries that it is surest of; the chance of error is divided by their number.
        included: [m] booleans, the coins.
        delta, confidence: probabilities, 0 to 1.

    Source: Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846), theorem 5.2, for `plain`; Mahloujifar, Melis and
    Chaudhuri 2024 (arXiv 2410.22235), theorem 3.2, for `lower`. Raises ValueError for values out of range.
    """
    delta, confidence = probability("delta", delta), probability("confidence", confidence)
    included = np.asarray(included, bool)
    canaries = len(included)
    tries = [_guess(score, included, share) for score in scores.values() for share in (0.02, 0.1, 0.4, 1.0)]
    error = (1 - confidence) / len(tries)
    plain = _largest(lambda e: any(_steinke(correct, n, canaries, e, delta) <= error for correct, n in tries), 30.0)

    def refuted(run):
        least = _least_false_rate(run)
        return any(_exceeds(least, correct, n, canaries, error) for correct, n in tries)

    best = max(tries, key=lambda pair: (pair[0] / max(pair[1], 1) - 0.5) * math.sqrt(pair[1]))
    return _finding(game, claim, refuted, plain, delta, confidence, best)


def trials(game, claim, right, delta, confidence=0.95):
    """The finding of many one-step trainings, one after the other, each with or without the canary by a fair coin.

    right: [trials] booleans: whether each coin was guessed, from that step and what is known of the ones before. No
    guess is right with more than probability (1 + delta(0)) / 2 against the claim, nor (e^epsilon + delta) /
    (e^epsilon + 1) at an epsilon, so their number is below a binomial one. Other arguments as in `one_run`.

    Source: Nasr et al. 2023, Tight Auditing of Differentially Private Machine Learning (arXiv 2302.07956), for bounding
    the claim's whole trade-off curve instead of one epsilon.
    """
    from scipy import stats

    delta, confidence = probability("delta", delta), probability("confidence", confidence)
    correct, number, error = int(np.sum(right)), len(right), 1 - confidence

    def unlikely(chance):
        return stats.binom.sf(correct - 1, number, chance) <= error

    plain = _largest(lambda e: unlikely((math.exp(e) + delta) / (math.exp(e) + 1)), 30.0)
    found = (correct, number)
    return _finding(game, claim, lambda run: unlikely((1 + run.delta(0.0)) / 2), plain, delta, confidence, found)


def _finding(game, claim, refuted, plain, delta, confidence, guessed):
    """Seeks the largest epsilon whose claim, the same but for its noise, is `refuted`."""
    low, high, lower = claim.noise_multiplier / 8, claim.noise_multiplier * 8, 0.0
    if refuted(dataclasses.replace(claim, noise_multiplier=high)):
        while high / low > 1.005:
            middle = math.sqrt(low * high)
            wrong = refuted(dataclasses.replace(claim, noise_multiplier=middle))
            low, high = (low, middle) if wrong else (middle, high)
        lower = dataclasses.replace(claim, noise_multiplier=high).epsilon(delta)
    correct, guesses = guessed
    return Finding(game, claim.epsilon(delta), max(lower, plain), plain, delta, confidence, guesses, correct)


def many_runs(game, claim, with_canary, without, delta, confidence=0.95):
    """The finding of many trainings, each with or without the canary.

    Args: `claim`, the `Training` with the canary's copies as its group_size; `with_canary`, `without`, [runs] scores,
    larger where the canary seems to have been included. The first half of each chooses the threshold, the second
    counts, with Clopper-Pearson intervals. Returns a `Finding` whose `lower` holds for any mechanism.

    Source: Jagielski, Ullman and Oprea 2020 (arXiv 2006.07709), section 4.
    """
    delta, confidence = probability("delta", delta), probability("confidence", confidence)
    with_canary, without = np.asarray(with_canary, float), np.asarray(without, float)
    (inside, inside_rest), (outside, outside_rest) = (
        (part[: len(part) // 2], part[len(part) // 2 :]) for part in (with_canary, without)
    )
    found = [
        (_ratio(inside, outside, t, above, delta, confidence), t, above)
        for t in np.unique(np.concatenate([inside, outside]))
        for above in (True, False)
    ]
    _, threshold, above = max(found)
    lower = _ratio(inside_rest, outside_rest, threshold, above, delta, confidence)
    correct = int((inside_rest >= threshold).sum() + (outside_rest < threshold).sum())
    guesses = len(inside_rest) + len(outside_rest)
    return Finding(game, claim.epsilon(delta), lower, lower, delta, confidence, guesses, correct)


def _ratio(inside, outside, threshold, above, delta, confidence):
    """log((P - delta) / Q) for the event that a score is at least (or not) the threshold, at the ends of intervals."""
    from scipy import stats

    hits, false = (inside >= threshold, outside >= threshold) if above else (outside < threshold, inside < threshold)
    error = (1 - confidence) / 2
    least = stats.beta.ppf(error, hits.sum(), (~hits).sum() + 1) if hits.any() else 0.0
    most = stats.beta.ppf(1 - error, false.sum() + 1, (~false).sum()) if not false.all() else 1.0
    return max(0.0, math.log((least - delta) / most)) if least > delta else 0.0


def _guess(score, included, share):
    """(right guesses, guesses): the highest `share` / 2 of scores are taken to be in, as many of the lowest out."""
    order = np.argsort(score)
    half = int(len(order) * share / 2)
    return int(included[order[len(order) - half :]].sum() + (~included[order[:half]]).sum()), 2 * half


def _steinke(correct, guesses, canaries, epsilon, delta):
    """The largest probability that an (epsilon, delta)-private mechanism lets so many guesses be right."""
    from scipy import stats

    law = stats.binom(guesses, 1 / (1 + math.exp(-epsilon)))
    surely = law.sf(correct - 1)
    by = np.arange(1, correct + 1)
    worst = np.max((law.sf(correct - by - 1) - surely) / by, initial=0.0)
    return min(1.0, surely + 2 * canaries * delta * worst)


def _least_false_rate(run):
    """A function: the least rate of false alarms with which a test against `run` can reach a rate of hits."""
    grid = 40 * np.linspace(0, 1, 61) ** 2
    deltas = np.array([run.delta(epsilon) for epsilon in grid])
    down, up = np.exp(-grid), np.exp(grid)
    return lambda hits: max(0.0, np.max((hits - deltas) * down), np.max(1 - deltas - up * (1 - hits)))


def _exceeds(least_false_rate, correct, guesses, canaries, error):
    """Whether so many right guesses have less than probability `error` where tests are as weak as that function says.

    Source: Mahloujifar et al. 2024, algorithm 3 (for two alternatives).
    """
    if guesses == 0:
        return False
    hit, miss = error * correct / canaries, error * (guesses - correct) / canaries
    for right in range(correct - 1, -1, -1):
        more = max(miss, least_false_rate(hit))
        if more == miss:
            break
        hit, miss = min(1.0, hit + right / (guesses - right) * (more - miss)), more
    return hit + miss > guesses / canaries


def _largest(holds, limit):
    """The largest value in [0, limit], to 1e-3, at which a falling condition holds; 0 if it holds nowhere."""
    if not holds(0.0):
        return 0.0
    low, high = 0.0, limit
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
