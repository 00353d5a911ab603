"""Data sanitisation as Koh, Steinhardt & Liang (arXiv 1811.00741) compare it: sphere, slab, loss, nearest neighbours.

`sphere` and `slab` look at the inputs alone; `loss` and `knn` at a model trained on all the data, poison included.
"""

import dataclasses

import numpy as np

from tfshape import models, options, seeds
from tfshape.defenses import base


@dataclasses.dataclass(frozen=True)
class NoDefense(base.Filter):
    """Keeps everything: plain training."""

    name = "none"

    def _train(self, build, x, y, num_classes, recipe, seed):
        """Plain training; see `Defense.train`."""
        return base.Trained(base.predictor(base.fit(build, x, y, recipe, seed)))


@dataclasses.dataclass(frozen=True)
class _ByDistance(base.Filter):
    rate: float = options.real(0.05, 0, 1, below=True)

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """All but the share `rate` of each class with the largest distance, bool [N]."""
        flat = np.asarray(x, np.float64).reshape(len(x), -1)
        means = {label: flat[y == label].mean(axis=0) for label in np.unique(y)}
        scores = np.zeros(len(y))
        for label, mean in means.items():
            others = [means[other] for other in means if other != label]
            scores[y == label] = self._distances(flat[y == label] - mean, np.reshape(others, (-1, len(mean))) - mean)
        return base.lowest(scores, y, base.share_of(self.rate))

    @staticmethod
    def _distances(away, lines):
        """Of examples `away` [n, D] from the mean of their class, which `lines` [C - 1, D] lead from to the others."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Sphere(_ByDistance):
    """Drops the examples farthest from the mean of their class (Steinhardt, Koh & Liang 2017, arXiv 1706.03691, eq. 4).

    Attributes:
      rate: share of each class to drop, in [0, 1). The means are those of the data given, poison included.
    """

    name = "sphere"

    @staticmethod
    def _distances(away, lines):
        return np.linalg.norm(away, axis=1)


@dataclasses.dataclass(frozen=True)
class Slab(_ByDistance):
    """Drops the examples farthest from the mean of their class along the line to another class's mean.

    Steinhardt, Koh & Liang 2017 (arXiv 1706.03691, eq. 4), for two classes; with more, the largest of these distances
    over the other classes counts.

    Attributes:
      rate: share of each class to drop, in [0, 1). The means are those of the data given, poison included.
    """

    name = "slab"

    @staticmethod
    def _distances(away, lines):
        lines = lines / np.maximum(np.linalg.norm(lines, axis=1, keepdims=True), 1e-12)
        return np.abs(away @ lines.T).max(axis=1, initial=0)


@dataclasses.dataclass(frozen=True)
class Loss(base.Filter):
    """Trims the examples of largest loss under a model trained on what was kept before, then trains again.

    TRIM (Jagielski et al. 2018, arXiv 1804.00308) and iterative trimmed loss (Shen & Sanghavi 2019, arXiv 1810.11874)
    over a fixed number of rounds; with one, the loss defense of Koh et al.

    Attributes:
      rate: share of all examples to drop, in [0, 1).
      rounds: int >= 1; each costs a training. A network that fits everything it is given cannot tell: the fewer the
        epochs of the recipe, the better this works.
    """

    rate: float = options.real(0.05, 0, 1, below=True)
    rounds: int = options.integer(1, 1)

    name = "loss"

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """All but the share `rate` of largest loss in the last round, bool [N]."""
        kept = np.ones(len(y), bool)
        for number in range(self.rounds):
            first = seeds.derive(seed, "sanitization", number)
            found = losses(models.predict(base.fit(build, x[kept], y[kept], recipe, first), x), y)
            kept = base.lowest(found, np.zeros(len(y), int), base.share_of(self.rate))
        return kept


def losses(logits, y):
    """The cross-entropy of each example, float64 [N], of logits [N, num_classes] and labels [N]."""
    logits = logits.astype(np.float64)
    top = logits.max(axis=1)
    return np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - logits[np.arange(len(y)), y]


@dataclasses.dataclass(frozen=True)
class Knn(base.Filter):
    """Drops the examples whose nearest neighbours in feature space agree on another label.

    Deep k-NN (Peri et al. 2020, arXiv 1909.13374): the features are the penultimate layer's of a model trained on all
    the data, poison included. The paper drops whatever the commonest label speaks against.

    Attributes:
      k: int >= 1, neighbours.
      agreement: in [0, 1), the share of neighbours above which another label is believed. On Fashion-MNIST a bare
        majority speaks against one clean example in thirteen.
    """

    k: int = options.integer(50, 1)
    agreement: float = options.real(0.6, 0, 1, below=True)

    name = "knn"

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """All but those whose neighbours, not counting the example itself, agree on another label, bool [N]."""
        from sklearn.neighbors import NearestNeighbors

        found = base.learned_features(build, x, y, recipe, seed, "sanitization").astype(np.float32)
        neighbors = NearestNeighbors(n_neighbors=min(self.k, len(y) - 1)).fit(found).kneighbors(return_distance=False)
        shares = (y[neighbors][:, :, None] == np.arange(num_classes)).mean(axis=1)
        shares[np.arange(len(y)), y] = 0
        return shares.max(axis=1) <= self.agreement
