"""Adversarial poison: training examples perturbed as adversarial examples are, with their labels left as they were.

Fowl et al. 2021, Adversarial Examples Make Strong Poisons, arXiv 2106.10807. What a clean model sees in it
is a feature of another class, so whoever trains on it learns each class's features under another one's name.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import checks
from tfshape.attacks import base, surrogates
from tfshape.attacks.unlearnable import input_gradient
from tfshape.poison import Poisons


@dataclasses.dataclass(frozen=True)
class AdversarialPoison:
    """Perturbs training examples, within eps, by signed gradient steps on a clean surrogate's loss.

    `num_poisons` random examples are perturbed; the attack wants them all, a budget of 1.

    Attributes:
      objective: "targeted", down to the loss of the next class, c to (c + 1) mod num_classes, the paper's stronger
        one; or "untargeted", up the loss of the own class.
      steps: int >= 1. step_size: > 0, the first step of an entry as a share of eps; it falls linearly to 0.
      ensemble: int >= 1, clean surrogates that take turns.

    Raises:
      ValueError: a value outside these.
    """

    objective: str = "targeted"
    steps: int = 30
    step_size: float = 0.2
    ensemble: int = 1

    name = "adversarial_poison"
    kind = "indiscriminate"

    def __post_init__(self):
        checks.choice("objective", self.objective, ("targeted", "untargeted"))
        checks.integer("steps", self.steps, 1)
        checks.integer("ensemble", self.ensemble, 1)
        checks.real("step_size", self.step_size, 0, 2, above=True)

    def craft(self, problem: base.Problem) -> Poisons:
        """Steps from a random start within eps.

        Args:
          problem: a `Problem`; its targets play no part.

        Returns:
          `ts.poison.Poisons`: x within eps of the base examples and within [0, 1], both exactly; y their own labels.
        """
        dataset = problem.dataset
        rng = np.random.default_rng([problem.seed, 13])
        chosen = np.sort(rng.choice(len(dataset.train), problem.num_poisons, replace=False))
        clean, y = dataset.train.x[chosen], dataset.train.y[chosen]
        low, high = base.bounds(clean, problem.eps)
        x = np.clip(rng.uniform(low, high).astype(np.float32), low, high)
        targeted = self.objective == "targeted"
        label, way = ((y + 1) % dataset.num_classes, -1) if targeted else (y, 1)
        pool = surrogates.pool(problem, problem.surrogate_seed, self.ensemble, 1).finished
        model = surrogates.new_model(problem)
        gradient = input_gradient(model)
        for step in range(self.steps):
            model.set_weights(pool[step % len(pool)])
            rate = np.float32(way * self.step_size * problem.eps * (1 - step / self.steps))
            for start in range(0, len(y), _ROWS):
                rows = slice(start, start + _ROWS)
                moved = x[rows] + rate * np.sign(gradient(x[rows], label[rows]))
                x[rows] = np.clip(moved, low[rows], high[rows])
        return base.make_poisons(problem, self, x, chosen)


_ROWS = 256  # examples a step of the compiled program holds
