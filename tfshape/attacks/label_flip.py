"""Label flipping: indiscriminate poison that leaves the inputs alone (Biggio et al. 2011)."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfshape import models, options, poison
from tfshape.attacks import base, surrogates
from tfshape.poison import Poisons

STRATEGIES = ("random", "pair", "near_boundary", "loss_maximising")


@dataclasses.dataclass(frozen=True)
class LabelFlip(base.Attack):
    """Gives `problem.num_poisons` training examples another label.

    Attributes:
      strategy: which examples, and which label:
        "random": random ones, a random other class (Biggio et al. 2011, "Support Vector Machines Under Adversarial
          Label Noise");
        "pair": random ones, the next class, c to (c + 1) mod num_classes (Han et al. 2018, arXiv 1804.06872);
        "near_boundary": those of which a clean surrogate is least sure, the class that it holds second likeliest, or
          likeliest where it errs: the mistakes that a human makes, and hard to tell from those;
        "loss_maximising": those whose new label costs a clean surrogate most over the old one, the class that does
          (Xiao, Xiao & Eckert 2012, "Adversarial Label Flips Attack on Support Vector Machines").
    """

    strategy: str = options.choice("random", STRATEGIES)

    name = "label_flip"
    kind = "indiscriminate"

    def craft(self, problem: base.Problem) -> Poisons:
        """Flips labels; random ones by `ts.poison.flip_labels`, the transform that users apply.

        Args:
          problem: a `Problem`; its targets and eps play no part, its model and recipe only where there is a surrogate.

        Returns:
          `ts.poison.Poisons`: x unchanged, y the new labels, base the examples' places in the training set.
        """
        chosen, labels = (self._drawn if self.strategy in ("random", "pair") else self._ranked)(problem)
        return self.poisons(problem, problem.dataset.train.x[chosen], chosen, labels)

    def _drawn(self, problem):
        train = problem.dataset.train
        flip = poison.flip_labels(
            problem.num_poisons / len(train),
            problem.dataset.num_classes,
            seed=problem.seed,
            mapping="uniform" if self.strategy == "random" else "pairwise",
        )
        _, y, is_poison = flip.on_arrays(train.x, train.y)
        chosen = np.flatnonzero(is_poison)
        return chosen, y[chosen]

    def _ranked(self, problem):
        train, everyone = problem.dataset.train, np.arange(len(problem.dataset.train))
        surrogate = surrogates.new_model(problem)
        surrogate.set_weights(surrogates.pool(problem, problem.surrogate_seed, 1, 1).finished[0])
        # The difference of two classes' losses is that of their logits.
        gain = models.predict(surrogate, train.x)
        gain = gain[everyone, train.y][:, None] - gain
        if self.strategy == "near_boundary":
            gain = -gain
        gain[everyone, train.y] = -np.inf
        label = gain.argmax(axis=1)
        best = gain[everyone, label]
        if self.strategy == "near_boundary":
            best = -np.abs(best)
        chosen = np.sort(np.argsort(-best, kind="stable")[: problem.num_poisons])
        return chosen, label[chosen].astype(np.int32)
