"""Spectral signatures in backdoor attacks (Tran, Li & Madry 2018, arXiv 1811.00636)."""

import dataclasses

import numpy as np

from tfshape import options
from tfshape.defenses import base


@dataclasses.dataclass(frozen=True)
class SpectralSignatures(base.Filter):
    """Drops, in each class, the examples farthest out along the first singular direction of its features.

    Algorithm 1 of the paper: the features are the penultimate layer's of a model trained on all the data.

    Attributes:
      rate: an upper bound on the poison as a share of the training set, in [0, 1). As all of it may be in one class,
        each class loses 1.5 * rate of the size of the *whole* set, and at most half of its own: without poison a share
        of 1.5 * rate * num_classes is lost.
    """

    rate: float = options.real(0.01, 0, 1, below=True)

    name = "spectral_signatures"

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """All but the highest outlier scores of each class, bool [N]."""
        found = base.learned_features(build, x, y, recipe, seed, self.name)
        scores, most = np.zeros(len(y)), base.share_of(1.5 * self.rate)(len(y))
        for label in np.unique(y):
            scores[y == label] = outlier_scores(found[y == label])
        return base.lowest(scores, y, lambda size: min(most, size // 2))


def outlier_scores(features):
    """The squared projections of centred features [n, F] on their first right singular vector, float [n]."""
    centred = features - features.mean(axis=0)
    # The leading eigenvector of the F x F covariance is that singular vector, and F is smaller than n.
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return (centred @ vectors[:, -1]) ** 2
