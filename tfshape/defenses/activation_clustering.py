"""Detecting backdoors by activation clustering (Chen et al. 2018, arXiv 1811.03728)."""

import dataclasses
import warnings

import numpy as np

from tfshape import options, seeds
from tfshape.defenses import base

_SAMPLED = 2000  # examples of a class that the silhouette, quadratic in them, is computed of


@dataclasses.dataclass(frozen=True)
class ActivationClustering(base.Filter):
    """Splits the features of each class in two and drops the smaller part where it looks like poison.

    The features are the penultimate layer's of a model trained on all the data, reduced by independent component
    analysis; k-means makes two clusters. Poisoned classes fall into two tight clusters of unlike size, so the smaller
    is dropped if it is small and the split is clear (sections 4 and 5.2 of the paper: relative size and silhouette).

    Attributes:
      components: int >= 1, independent components.
      size: in (0, 0.5], the share of a class below which the smaller cluster is suspect.
      silhouette: in [-1, 1), the mean silhouette above which a split is clear.
    """

    components: int = options.integer(10, 1)
    size: float = options.real(0.35, 0, 0.5, above=True)
    silhouette: float = options.real(0.17, -1, 1, below=True)

    name = "activation_clustering"

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """All but the suspect clusters, bool [N]."""
        from threadpoolctl import threadpool_limits

        found = base.learned_features(build, x, y, recipe, seed, self.name)
        kept = np.ones(len(y), bool)
        with threadpool_limits(1):  # the matrices are small: more threads only wait for each other
            for label in np.unique(y):
                members = np.flatnonzero(y == label)
                kept[members] = ~self._suspect(found[members], seeds.derive(seed, self.name, int(label)))
        return kept

    def _suspect(self, features, seed):
        """The suspect cluster of one class's features [n, F], bool [n], all False if there is none."""
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score

        none = np.zeros(len(features), bool)
        varying = features[:, features.std(axis=0) > 1e-6]
        if len(features) < 4 or not varying.shape[1]:
            return none
        reduced = self._reduce(varying, seed)
        clusters = KMeans(2, n_init=10, random_state=seed).fit_predict(reduced)
        smaller = clusters == np.argmin(np.bincount(clusters, minlength=2))
        if not 0 < smaller.mean() < self.size:
            return none
        sample = min(len(features), _SAMPLED)
        clear = silhouette_score(reduced, clusters, sample_size=sample, random_state=seed) > self.silhouette
        return smaller if clear else none

    def _reduce(self, features, seed):
        from sklearn.decomposition import FastICA

        components = min(self.components, *features.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of not having converged, which k-means does not mind
            options = {"whiten": "unit-variance", "whiten_solver": "eigh", "max_iter": 200, "tol": 1e-3}
            return FastICA(components, random_state=seed, **options).fit_transform(features)
