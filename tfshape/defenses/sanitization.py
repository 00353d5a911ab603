"""Data sanitisation as Koh, Steinhardt & Liang (arXiv 1811.00741) compare it: sphere, slab, loss, nearest neighbours.

`sphere` and `slab` look at the inputs alone; `loss` and `knn` at a model trained on all the data, poison included.
"""

import dataclasses

import numpy as np

from tfshape import checks, models
from tfshape.defenses import base

_FIRST = 0x10  # sets the seed of the model that is looked at apart from that of the final one


@dataclasses.dataclass(frozen=True)
class NoDefense(base.Filter):
    """Keeps everything: plain training."""

    name = "none"

    def _train(self, build, x, y, num_classes, recipe, seed):
        """Plain training; see `Defense.train`."""
        return base.Trained(base.predictor(base.fit(build, x, y, recipe, seed)))


@dataclasses.dataclass(frozen=True)
class Sphere(base.Filter):
    """Drops the examples farthest from the mean of their class (Steinhardt, Koh & Liang 2017, arXiv 1706.03691, eq. 4).

    Attributes:
      rate: share of each class to drop, in [0, 1). The means are those of the data given, poison included.

    Raises:
      ValueError: another rate.
    """

    rate: float = 0.05

    name = "sphere"

    def __post_init__(self):
        checks.real("rate", self.rate, 0, 1, below=True)

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """All but the share `rate` of each class with the largest distance from its mean, bool [N]."""
        flat, means = _flat_and_means(x, y, num_classes)
        return base.lowest(np.linalg.norm(flat - means[y], axis=1), y, self.rate)


@dataclasses.dataclass(frozen=True)
class Slab(base.Filter):
    """Drops the examples farthest from the mean of their class along the line to another class's mean.

    Steinhardt, Koh & Liang 2017 (arXiv 1706.03691, eq. 4), for two classes; with more, the largest of these distances
    over the other classes counts.

    Attributes:
      rate: share of each class to drop, in [0, 1). The means are those of the data given, poison included.

    Raises:
      ValueError: another rate.
    """

    rate: float = 0.05

    name = "slab"

    def __post_init__(self):
        checks.real("rate", self.rate, 0, 1, below=True)

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """All but the share `rate` of each class with the largest distance along such a line, bool [N]."""
        flat, means = _flat_and_means(x, y, num_classes)
        scores = np.zeros(len(y))
        for label in np.unique(y):
            lines = means[label] - np.delete(means[np.unique(y)], np.searchsorted(np.unique(y), label), axis=0)
            lines /= np.maximum(np.linalg.norm(lines, axis=1, keepdims=True), 1e-12)
            scores[y == label] = np.abs((flat[y == label] - means[label]) @ lines.T).max(axis=1, initial=0)
        return base.lowest(scores, y, self.rate)


def _flat_and_means(x, y, num_classes):
    """Inputs as rows, float64 [N, D], and the mean of each class, [num_classes, D], 0 for one without examples."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    means = np.zeros((num_classes, flat.shape[1]))
    for label in np.unique(y):
        means[label] = flat[y == label].mean(axis=0)
    return flat, means


@dataclasses.dataclass(frozen=True)
class Loss(base.Filter):
    """Trims the examples of largest loss under a model trained on what was kept before, then trains again.

    TRIM (Jagielski et al. 2018, arXiv 1804.00308) and iterative trimmed loss (Shen & Sanghavi 2019, arXiv 1810.11874)
    over a fixed number of rounds; with one, the loss defense of Koh et al.

    Attributes:
      rate: share of all examples to drop, in [0, 1).
      rounds: int >= 1; each costs a training. A network that fits everything it is given cannot tell: the fewer the
        epochs of the recipe, the better this works.

    Raises:
      ValueError: a value outside these.
    """

    rate: float = 0.05
    rounds: int = 1

    name = "loss"

    def __post_init__(self):
        checks.real("rate", self.rate, 0, 1, below=True)
        checks.integer("rounds", self.rounds, 1)

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """All but the share `rate` of largest loss in the last round, bool [N]."""
        kept = np.ones(len(y), bool)
        for number in range(self.rounds):
            model = base.fit(build, x[kept], y[kept], recipe, base.derive(seed, _FIRST, number))
            kept = base.lowest(losses(models.predict(model, x), y), np.zeros(len(y), int), self.rate)
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

    Raises:
      ValueError: a value outside these.
    """

    k: int = 50
    agreement: float = 0.6

    name = "knn"

    def __post_init__(self):
        checks.integer("k", self.k, 1)
        checks.real("agreement", self.agreement, 0, 1, below=True)

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """All but those whose neighbours, not counting the example itself, agree on another label, bool [N]."""
        from sklearn.neighbors import NearestNeighbors

        model = base.fit(build, x, y, recipe, base.derive(seed, _FIRST))
        found = base.features(model, x).astype(np.float32)
        neighbors = NearestNeighbors(n_neighbors=min(self.k, len(y) - 1)).fit(found).kneighbors(return_distance=False)
        shares = (y[neighbors][:, :, None] == np.arange(num_classes)).mean(axis=1)
        shares[np.arange(len(y)), y] = 0
        return shares.max(axis=1) <= self.agreement
