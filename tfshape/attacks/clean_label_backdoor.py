"""Label-consistent backdoor attacks (Turner, Tsipras & Madry 2019, arXiv 1912.02771)."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import options
from tfshape.attacks import backdoor, crafting, surrogates


@dataclasses.dataclass(frozen=True)
class CleanLabelBackdoor(backdoor.PatchBackdoor):
    """Makes examples of the target class hard by an adversarial perturbation, then stamps the trigger on them.

    What makes them what they are being hidden, a victim explains their label by the trigger. The perturbation raises
    the cross-entropy of their own label by projected gradient ascent (section 4.2 of the paper) on clean models of the
    attacker, which are trained as the victim is; the paper's are adversarially trained.

    Attributes:
      target_class: int >= 0, the class that the trigger shall mean.
      size, value, position: the trigger, as `ts.poison.patch` takes them.
      steps: int >= 1, of gradient ascent.
      step_size: in (0, 2], of a pixel, as a share of eps.
      ensemble: int >= 1, the attacker's models, whose losses are averaged.
    """

    steps: int = options.integer(40, 1)
    step_size: float = options.real(0.1, 0, 2, above=True)
    ensemble: int = options.integer(4, 1)

    name = "clean_label_backdoor"

    def _perturbed(self, problem):
        rng = problem.generator(self.name)
        bases = self._bases(problem, rng)
        return self.stamp(self._adversarial(problem, problem.dataset.train.x[bases], rng), problem), bases

    def _adversarial(self, problem, x, rng):
        low, high = crafting.bounds(x, problem.eps)
        pool = surrogates.pool(problem, problem.surrogate_seed, self.ensemble, 1).finished
        labels = np.full(len(x), self.target_class, np.int32)
        start, together = crafting.random_start(rng, low, high), np.tile(np.arange(len(pool)), [self.steps, 1])
        rates = np.full(self.steps, -self.step_size * problem.eps, np.float32)
        return crafting.perturb(problem, start, labels, low, high, pool, together, rates)
