"""Adversarial poison: training examples perturbed as adversarial examples are, with their labels left as they were.

Fowl et al. 2021, Adversarial Examples Make Strong Poisons, arXiv 2106.10807. What a clean model sees in it
is a feature of another class, so whoever trains on it learns each class's features under another one's name.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import options
from tfshape.attacks import base, crafting, surrogates
from tfshape.poison import Poisons

_ROWS = 256  # examples that are perturbed at a time


@dataclasses.dataclass(frozen=True)
class AdversarialPoison(base.Attack):
    """Perturbs training examples, within eps, by signed gradient steps on a clean surrogate's loss.

    `num_poisons` random examples are perturbed; the attack wants them all, a budget of 1.

    Attributes:
      objective: "targeted", down to the loss of the next class, c to (c + 1) mod num_classes, the paper's stronger
        one; or "untargeted", up the loss of the own class.
      steps: int >= 1. step_size: > 0, the first step of an entry as a share of eps; it falls linearly to 0.
      ensemble: int >= 1, clean surrogates that take turns.
    """

    objective: str = options.choice("targeted", ("targeted", "untargeted"))
    steps: int = options.integer(30, 1)
    step_size: float = options.real(0.2, 0, 2, above=True)
    ensemble: int = options.integer(1, 1)

    name = "adversarial_poison"
    kind = "indiscriminate"

    def craft(self, problem: base.Problem) -> Poisons:
        """Steps from a random start within eps.

        Args:
          problem: a `Problem`; its targets play no part.

        Returns:
          `ts.poison.Poisons`: x within eps of the base examples and within [0, 1], both exactly; y their own labels.
        """
        dataset = problem.dataset
        rng = problem.generator(self.name)
        chosen = np.sort(rng.choice(len(dataset.train), problem.num_poisons, replace=False))
        clean, y = dataset.train.x[chosen], dataset.train.y[chosen]
        low, high = crafting.bounds(clean, problem.eps)
        start = crafting.random_start(rng, low, high)
        pool = surrogates.pool(problem, problem.surrogate_seed, self.ensemble, 1).finished
        turns = np.arange(self.steps)[:, None] % len(pool)
        rates = crafting.falling_rates(self.step_size * problem.eps, self.steps)
        label, rates = ((y + 1) % dataset.num_classes, rates) if self.objective == "targeted" else (y, -rates)
        x = crafting.perturb(problem, start, label, low, high, pool, turns, rates, batch_size=_ROWS)
        return self.poisons(problem, x, chosen)
