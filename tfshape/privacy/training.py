"""A DP-SGD training as the accountant sees it."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers

from tfshape.privacy import curves, losses

SAMPLING = {
    "poisson": "each step takes each example independently with probability batch_size / num_examples",
    "shuffle": "the data are shuffled anew each epoch and cut into batches, an example used at most once an epoch",
    "balls_in_bins": "each epoch throws each example into one of its batches, independently and uniformly",
}
NEIGHBORS = {
    "add_remove": "adding or removing one example",
    "replace": "replacing one example by another",
}
SMALL = 0.3  # a noise multiplier below which the grid for balls in bins is too coarse to say anything
MEANINGLESS = 30.0  # beyond it privacy loss distributions take minutes and the Rényi bound, also valid, says as much


@dataclasses.dataclass(frozen=True)
class Training:
    """DP-SGD: `steps` updates, each a sum of clipped gradients of a sampled batch, plus Gaussian noise.

    Attributes:
        noise_multiplier: standard deviation of the noise in the summed gradients / their l2 sensitivity to adding or
            removing one example, >= 0. Where the clip adapts, of the sum and the count together: see `joint_noise`.
        batch_size: (expected) examples a step, 1 to `num_examples`.
        num_examples: size of the training set, >= 1.
        steps: number of updates, >= 0.
        sampling: a key of `SAMPLING`: how batches were really drawn. For "shuffle" no amplification is claimed.
        neighbors: "add_remove" or "replace": what two data sets that must look alike differ in.
        group_size: how many examples of one person (or of one attacker) are added, removed or replaced, >= 1.
        count_trials: how often the data were trained on in all, restarts and hyperparameter trials included, >= 1; all
            are taken to have spent as much as this one, and to have been released.
        truncation: probability that a batch lost examples to its fixed number of rows, as given to the sampler.

    Raises:
        ValueError: for a value outside these ranges.
    """

    noise_multiplier: float
    batch_size: float
    num_examples: int
    steps: int
    sampling: str = "poisson"
    neighbors: str = "add_remove"
    group_size: int = 1
    count_trials: int = 1
    truncation: float = 0.0

    def __post_init__(self):
        check("noise_multiplier", self.noise_multiplier, 0 <= self.noise_multiplier < math.inf, "a number >= 0")
        count("num_examples", self.num_examples, 1)
        allowed = 1 <= self.batch_size <= self.num_examples
        check("batch_size", self.batch_size, allowed, f"1 to num_examples={self.num_examples}")
        count("steps", self.steps, 0)
        check("sampling", self.sampling, self.sampling in SAMPLING, ", ".join(SAMPLING))
        check("neighbors", self.neighbors, self.neighbors in NEIGHBORS, ", ".join(NEIGHBORS))
        count("group_size", self.group_size, 1)
        count("count_trials", self.count_trials, 1)
        check("truncation", self.truncation, 0 <= self.truncation < 1, "0 <= truncation < 1")

    @property
    def epochs(self) -> int:
        """Epochs begun: how often one example can be used, where it is used at most once an epoch."""
        return math.ceil(self.steps / (self.num_examples // self.batch_size))

    def epsilon(self, delta: float) -> float:
        """Epsilon at `delta`, 0 < delta < 1; inf where the noise is 0 and steps are not. Raises ValueError."""
        check("delta", delta, 0 < delta < 1, "0 < delta < 1")
        if self.steps == 0:
            return 0.0
        return self.curve.epsilon(delta) if self.noise_multiplier > 0 else math.inf

    def delta(self, epsilon: float) -> float:
        """Delta at `epsilon` >= 0; 1 where the noise is 0 and steps are not. Raises ValueError."""
        check("epsilon", epsilon, 0 <= epsilon < math.inf, "a number >= 0")
        if self.steps == 0:
            return 0.0
        return min(1.0, self.curve.delta(epsilon)) if self.noise_multiplier > 0 else 1.0

    @functools.cached_property
    def curve(self) -> curves.Curve:
        """The `Curve` of a training with noise and steps."""
        found = _untruncated(dataclasses.replace(self, truncation=0.0))
        spilled = self.truncation * self.count_trials
        return curves.Truncated(found, spilled) if spilled else found


def check(name, value, allowed, words):
    """Raises ValueError naming the argument, its value and what is allowed, unless `allowed`."""
    if not allowed:
        raise ValueError(f"{name}={value!r}: allowed is {words}")


def count(name, value, least):
    """Raises ValueError unless `value` is a whole number of at least `least`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    check(name, value, whole and value >= least, f"a count >= {least}")


@functools.lru_cache(maxsize=64)
def _untruncated(run):
    """The least of the bounds known for a training; each holds by itself."""
    pull = run.group_size * (2 if run.neighbors == "replace" else 1)
    if run.sampling == "poisson":
        uses = run.steps  # an example may happen to be drawn every time
        amplified = _poisson(run)
    else:
        uses = run.epochs
        amplified = _balls_in_bins(run) if run.sampling == "balls_in_bins" else []
    plain = curves.Gaussian(run.noise_multiplier / (pull * math.sqrt(uses * run.count_trials)))
    if run.sampling == "poisson" and pull == 1:
        return amplified[0]  # what dp_accounting says, to the digit
    return curves.Least((plain, *amplified))


def _poisson(run):
    noise, probability, steps = run.noise_multiplier, run.batch_size / run.num_examples, run.steps * run.count_trials
    if run.group_size == 1 and run.neighbors == "add_remove":
        return [_accounted(noise, probability, steps)]
    if run.group_size == 1:
        return [losses.mixture(noise, probability, 1, steps, replace=True)]
    group = losses.mixture(noise, probability, run.group_size, steps)
    return [curves.Twice(group) if run.neighbors == "replace" else group]


def _balls_in_bins(run):
    if run.noise_multiplier < SMALL:
        return []
    bins = int(run.num_examples // run.batch_size)
    one = losses.random_allocation(run.noise_multiplier, bins, run.epochs * run.count_trials)
    group = one if run.group_size == 1 else curves.Group(one, run.group_size)
    return [curves.Twice(group) if run.neighbors == "replace" else group]


def _accounted(noise_multiplier, probability, steps):
    import dp_accounting
    from dp_accounting import pld, rdp

    event = dp_accounting.PoissonSampledDpEvent(probability, dp_accounting.GaussianDpEvent(noise_multiplier))
    event = dp_accounting.SelfComposedDpEvent(event, steps)
    renyi = curves.Accountant(rdp.RdpAccountant, event)
    if renyi.epsilon(1e-5) > MEANINGLESS:
        return renyi
    return curves.Accountant(pld.PLDAccountant, event, losses.mixture(noise_multiplier, probability, 1, steps))
