"""Spectral signatures in backdoor attacks (Tran, Li & Madry 2018, arXiv 1811.00636)."""

import dataclasses

import numpy as np

from tfshape import checks
from tfshape.defenses import base

_FIRST = 0x20


@dataclasses.dataclass(frozen=True)
class SpectralSignatures(base.Filter):
    """Drops, in each class, the examples farthest out along the first singular direction of its features.

    Algorithm 1 of the paper: the features are the penultimate layer's of a model trained on all the data.

    Attributes:
      rate: an upper bound on the poison as a share of the training set, in [0, 1). As all of it may be in one class,
        each class loses 1.5 * rate of the size of the *whole* set, and at most half of its own: without poison a share
        of 1.5 * rate * num_classes is lost.

    Raises:
      ValueError: another rate.
    """

    rate: float = 0.01

    name = "spectral_signatures"

    def __post_init__(self):
        checks.real("rate", self.rate, 0, 1, below=True)

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """All but the highest outlier scores of each class, bool [N]."""
        found = base.features(base.fit(build, x, y, recipe, base.derive(seed, _FIRST)), x)
        kept = np.ones(len(y), bool)
        for label in np.unique(y):
            members = np.flatnonzero(y == label)
            dropped = min(int(1.5 * self.rate * len(y) + 1e-9), len(members) // 2)
            order = np.argsort(outlier_scores(found[members]), kind="stable")
            kept[members[order[len(members) - dropped :]]] = False
        return kept


def outlier_scores(features):
    """The squared projections of centred features [n, F] on their first right singular vector, float [n]."""
    centred = features - features.mean(axis=0)
    # The leading eigenvector of the F x F covariance is that singular vector, and F is smaller than n.
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return (centred @ vectors[:, -1]) ** 2
