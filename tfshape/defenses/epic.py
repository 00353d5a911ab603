"""EPIC: effective poison identification (Yang, Liu & Mirzasoleiman 2022, arXiv 2210.09671)."""

import dataclasses
import heapq

import numpy as np

from tfshape import models, options, seeds
from tfshape.defenses import base


@dataclasses.dataclass(frozen=True)
class Epic(base.Defense):
    """Drops, during training, the examples whose gradients are isolated.

    After `warmup` epochs and then every `every` epochs, medoids of each class's gradients are chosen; a medoid that is
    nearest to no example but itself is dropped for good (algorithm 1). The gradients are those by the logits, softmax
    minus one-hot, to which the paper reduces the distances of whole gradients. In total there are as many epochs as in
    the recipe; the optimizer's moments start anew after each round.

    Attributes:
      subset: share in (0, 1) of a class's examples to choose as medoids; the larger, the more are isolated.
      warmup: int >= 1, epochs before the first round.
      every: int >= 1, epochs between rounds. No round follows the last epoch.
    """

    subset: float = options.real(0.1, 0, 1, below=True)
    warmup: int = options.integer(2, 1)
    every: int = options.integer(2, 1)

    name = "epic"

    def _train(self, build, x, y, num_classes, recipe, seed):
        """Trains while dropping what is isolated; `kept` is what the last epochs used. See `Defense.train`."""
        model, kept = build(), np.ones(len(y), bool)
        starts = [0, *range(self.warmup, recipe.epochs, self.every), recipe.epochs]
        for number, (start, end) in enumerate(zip(starts, starts[1:])):
            if number:
                rows = np.flatnonzero(kept)
                kept[rows[self._isolated(models.predict(model, x[rows]), y[rows])]] = False
            part = dataclasses.replace(recipe, epochs=end - start)
            base.fit_further(model, x[kept], y[kept], part, seeds.derive(seed, number) if number else seed)
        return base.Trained(base.predictor(model), kept)

    def _isolated(self, logits, y):
        """The places of the examples to drop, int64 [D], of logits [n, num_classes] and labels [n]."""
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        gradients = shares / shares.sum(axis=1, keepdims=True)
        gradients[np.arange(len(y)), y] -= 1
        dropped = []
        for label in np.unique(y):
            members = np.flatnonzero(y == label)
            chosen = medoids(gradients[members], int(self.subset * len(members)))
            if len(chosen) > 1:
                nearest = distances(gradients[members], gradients[members[chosen]]).argmin(axis=1)
                sizes = np.bincount(nearest, minlength=len(chosen))
                dropped.append(members[chosen[sizes == 1]])
        return np.concatenate(dropped) if dropped else np.zeros(0, np.int64)


def distances(rows, others):
    """Euclidean distances [n, m] of float rows [n, F] and others [m, F]."""
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * rows @ others.T
    return np.sqrt(np.maximum(squares, 0))


def medoids(points, count):
    """`count` rows of points [n, F] chosen greedily to bring every point near one: facility location.

    Lazy greedy (Minoux 1978): an old gain bounds the new one, so that few gains are computed anew a choice.

    Returns:
      int64 [count], in the order chosen.
    """
    apart = distances(points, points)
    nearest = np.full(len(points), apart.max(initial=0))
    gains = [(-float(np.maximum(nearest - row, 0).sum()), place) for place, row in enumerate(apart)]
    heapq.heapify(gains)
    chosen: list[int] = []
    while len(chosen) < count:
        _, place = heapq.heappop(gains)
        gain = float(np.maximum(nearest - apart[place], 0).sum())
        if gains and -gain > gains[0][0]:
            heapq.heappush(gains, (-gain, place))
        else:
            chosen.append(place)
            nearest = np.minimum(nearest, apart[place])
    return np.array(chosen, np.int64)
