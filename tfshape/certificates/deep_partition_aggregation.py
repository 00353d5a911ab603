"""Deep partition aggregation (Levine & Feizi 2021, arXiv 2006.14768): provable robustness to poison."""

import dataclasses
import hashlib

import numpy as np

from tfshape import models, options, seeds, training
from tfshape.defenses import Defense, Trained

_SMALLEST_BATCH = 8


@dataclasses.dataclass(frozen=True)
class DeepPartitionAggregation(Defense):
    """Trains one model on each part of the data and takes their vote.

    An example's part is a hash of its input, so that one example more, fewer or relabelled changes one part and hence
    one vote; a prediction stands as long as fewer votes change than its lead allows (theorem 1). A *replaced* example
    counts as two changes: one fewer and one more. The certificate is of the classifier that `train` computes, and holds
    as far as Keras trains the same weights from the same examples on this machine.

    Each part sees the recipe's epochs, in batches of 1/partitions of the recipe's size but at least 8 (or the whole
    part), so that small parts still take steps.

    Attributes:
      partitions: int >= 1.
    """

    partitions: int = options.integer(50, 1)

    name = "deep_partition_aggregation"

    def _train(self, build, x, y, num_classes, recipe, seed):
        """Trains the base models; `predict` gives their votes, ties going to the smaller class as in the paper.

        `certificate(x, y)` is the number of changes of the training set that each prediction withstands. See
        `Defense.train`.
        """
        parts = partition(x, self.partitions)
        batch = max(recipe.batch_size // self.partitions, _SMALLEST_BATCH)
        weights = []
        for number in range(self.partitions):
            rows = np.flatnonzero(parts == number)
            rows = rows[_order(x[rows], y[rows])]
            model = build()
            if len(rows):
                small = dataclasses.replace(recipe, batch_size=min(batch, len(rows)))
                part = x[rows], np.asarray(y[rows], np.int32)
                training.programs.fit(model, *part, small, seeds.derive(seed, number))
            weights.append(model.get_weights())
        model = build()

        def votes(x):
            return _votes(model, weights, x, num_classes)

        return Trained(votes, certificate=lambda x, y: withstood(votes(x), y))


def partition(x, count):
    """The part of each example of x [N, ...], int64 [N] from 0 to count - 1: a hash of its bytes alone."""
    x = np.ascontiguousarray(x)
    digests = [hashlib.sha256(example.tobytes()).digest()[:8] for example in x]
    return np.array([int.from_bytes(digest, "big") % count for digest in digests], np.int64)


def _order(x, y):
    """An order of the examples that does not depend on where they stood in the training set."""
    keys = [hashlib.sha256(example.tobytes() + int(label).to_bytes(8, "big")).digest() for example, label in zip(x, y)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def _votes(model, weights, x, num_classes):
    """How many models say each class, float32 [N, num_classes]."""
    votes = np.zeros((len(x), num_classes), np.float32)
    for each in weights:
        model.set_weights(each)
        votes[np.arange(len(x)), models.predict(model, x).argmax(axis=1)] += 1
    return votes


def withstood(votes, y):
    """How many votes may change, whichever and however, with the prediction staying right.

    Theorem 1 of the paper: floor((n_c - max over others of (n_c' + [c' < c])) / 2), ties going to the smaller class.

    Args:
      votes: [N, num_classes]. y: int [N].

    Returns:
      int64 [N]; -1 where the prediction is not y.
    """
    votes, places = np.asarray(votes, np.float64), np.arange(len(y))
    rivals = votes + (np.arange(votes.shape[1]) < np.asarray(y)[:, None])
    rivals[places, y] = -np.inf
    lead = np.floor((votes[places, y] - rivals.max(axis=1)) / 2).astype(np.int64)
    return np.maximum(lead, -1)
