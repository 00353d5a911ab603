"""Sleeper Agent: hidden-trigger backdoors of models trained from scratch (Souri et al. 2022, arXiv 2106.08970)."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import datasets, options
from tfshape.attacks import backdoor, base, gradient_matching, search


@dataclasses.dataclass(frozen=True)
class SleeperAgent(search.Options, backdoor.PatchBackdoor):
    """Gradient matching whose targets are triggered examples: what they teach is the trigger.

    Examples of the target class are perturbed so that their training gradient points where the gradient of the loss of
    triggered examples of other classes, labelled as the target class, points (eq. 3 and 4 of the paper). Those of the
    largest gradients are chosen as bases (section 3.3), and the surrogates are retrained on the poison while it is
    made (section 3.2). The trigger itself is in no training example.

    Attributes:
      target_class: int >= 0, the class that the trigger shall mean.
      size, value, position: the trigger, as `ts.poison.patch` takes them.
      steps to retrain_ensemble: as of `search.Options`, the loss being the matching loss.
      sources: int >= 1, random training examples of the other classes that are triggered and matched.
      layers: as in `GradientMatching`.
    """

    ensemble: int = options.integer(4, 1)
    sources: int = options.integer(300, 1)
    layers: str = options.choice("dense", gradient_matching.LAYERS)

    name = "sleeper_agent"

    def _perturbed(self, problem):
        matched = self._matching().craft(self._triggered(problem))
        return matched.x, matched.base

    def _matching(self):
        names = {field.name for field in dataclasses.fields(gradient_matching.GradientMatching)}
        shared = {name: value for name, value in dataclasses.asdict(self).items() if name in names}
        return gradient_matching.GradientMatching(**shared)

    def _triggered(self, problem):
        """The same problem with triggered training examples of other classes in place of the test set, as targets."""
        train = problem.dataset.train
        rng = problem.generator(self.name)
        others = np.flatnonzero(train.y != self.target_class)
        chosen = np.sort(rng.choice(others, min(self.sources, len(others)), replace=False))
        split = datasets.Split(self.stamp(train.x[chosen], problem), train.y[chosen])
        targets = [base.Target(k, int(label), self.target_class) for k, label in enumerate(split.y)]
        dataset = dataclasses.replace(problem.dataset, test=split)
        return dataclasses.replace(problem, dataset=dataset, targets=tuple(targets))
