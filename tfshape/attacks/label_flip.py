"""Random label flipping: indiscriminate poison that needs no model (Biggio et al. 2011)."""

import dataclasses

import numpy as np

from tfshape import poison
from tfshape.attacks import base


@dataclasses.dataclass(frozen=True)
class LabelFlip:
    """Gives `problem.num_poisons` random training examples a random other label. The inputs stay as they are."""

    name = "label_flip"
    kind = "indiscriminate"

    def craft(self, problem):
        """Flips labels by `ts.poison.flip_labels`, so that experiments test the transform that users apply.

        Args:
          problem: a `Problem`; its targets, eps, model and recipe play no part.

        Returns:
          `ts.poison.Poisons`: x unchanged, y the new labels, base the examples' places in the training set.
        """
        train = problem.dataset.train
        flip = poison.flip_labels(
            problem.num_poisons / len(train), problem.dataset.num_classes, seed=problem.seed, mark=True
        )
        flipped = train.as_dataset().apply(flip)
        _, y, is_poison = flipped.batch(len(train)).get_single_element()
        chosen = np.flatnonzero(is_poison)
        return base.make_poisons(problem, self, train.x[chosen], chosen, np.asarray(y)[chosen])
