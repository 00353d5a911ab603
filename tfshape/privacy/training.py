"""A DP-SGD training as the accountant sees it."""

from __future__ import annotations

import dataclasses
import functools
import math

from tfshape import checks
from tfshape.privacy import curves, losses, sampling

SAMPLING = {
    "poisson": "each step takes each example independently with probability batch_size / num_examples",
    "shuffle": "the data are shuffled anew each epoch and cut into batches, an example used at most once an epoch",
    "balls_in_bins": "each epoch throws each example into one of its batches, independently and uniformly",
}
NEIGHBORS = {
    "add_remove": "adding or removing one example",
    "replace": "replacing one example by another",
}
SMALL = 0.1  # a noise multiplier below which ratios of balls in bins exceed what a float can hold
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
        truncation: probability that a batch lost examples to its fixed number of rows, as given to the sampler
            (`ts.privacy.sampling`, which keeps the examples that come first in the data).

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

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("noise_multiplier", checks.real("noise_multiplier", self.noise_multiplier, 0))
        put("num_examples", checks.integer("num_examples", self.num_examples, 1))
        size = checks.real("batch_size", self.batch_size, 1, self.num_examples)
        put("batch_size", int(size) if size.is_integer() else size)
        put("steps", checks.integer("steps", self.steps, 0))
        checks.choice("sampling", self.sampling, SAMPLING)
        checks.choice("neighbors", self.neighbors, NEIGHBORS)
        put("group_size", checks.integer("group_size", self.group_size, 1))
        put("count_trials", checks.integer("count_trials", self.count_trials, 1))
        put("truncation", checks.real("truncation", self.truncation, 0, 1, below=True))

    @property
    def epochs(self) -> int:
        """Epochs begun: how often one example can be used, where it is used at most once an epoch."""
        return math.ceil(self.steps / (self.num_examples // self.batch_size))

    def epsilon(self, delta: float) -> float:
        """Epsilon at `delta`, 0 < delta < 1; inf where the noise is 0 and steps are not. Raises ValueError."""
        delta = probability("delta", delta)
        if self.steps == 0:
            return 0.0
        return self.curve.epsilon(delta) if self.noise_multiplier > 0 else math.inf

    def delta(self, epsilon: float) -> float:
        """Delta at `epsilon` >= 0; 1 where the noise is 0 and steps are not. Raises ValueError."""
        epsilon = checks.real("epsilon", epsilon, 0)
        if self.steps == 0:
            return 0.0
        return min(1.0, self.curve.delta(epsilon)) if self.noise_multiplier > 0 else 1.0

    @functools.cached_property
    def curve(self) -> curves.Curve:
        """The `Curve` of a training with noise and steps."""
        full = dataclasses.replace(self, truncation=0.0)
        if not self.truncation or self.neighbors == "replace":  # what takes an example's place puts no other out
            return _untruncated(full)
        half = dataclasses.replace(full, noise_multiplier=self.noise_multiplier / 2)
        return curves.Truncated(_untruncated(full), self._spilled(), functools.partial(_untruncated, half))

    def _spilled(self):
        """The most that the probability can be that, in all trainings, a batch is full without the group."""
        from scipy import stats

        if self.sampling == "shuffle":
            return min(1.0, self.truncation * self.count_trials)
        bins = self.num_examples // self.batch_size
        mean = self.batch_size if self.sampling == "poisson" else self.num_examples / bins
        rows = sampling.rows(mean, self.num_examples, self.steps, self.truncation)
        full = stats.binom.sf(rows - self.group_size, self.num_examples, mean / self.num_examples)
        return min(1.0, float(full) * self.steps * self.count_trials)


def probability(name, value):
    """`value` as a float. Raises ValueError unless 0 < value < 1."""
    return checks.real(name, value, 0, 1, above=True, below=True)


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
    # Below `least`, what rounding does to a PLD would show in the digits.
    fast, least = losses.mixture(noise_multiplier, probability, 1, steps), 1e4 * losses.ROUNDING * steps
    return curves.Least((renyi, curves.Accountant(pld.PLDAccountant, event, fast, least)))
