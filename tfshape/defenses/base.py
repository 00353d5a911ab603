"""What a defense is: something that trains a classifier on data that may hold poison."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tfshape import checks, models, options, seeds, training

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What training under a defense gives.

    Attributes:
      predict: function of x [N, *input_shape] to scores, float32 [N, num_classes]; the largest is the prediction.
      kept: bool [N], the training examples that were not dropped; None for a defense that drops none.
      certificate: None, or a function of test examples (x [N, ...], y [N]) to int64 [N]: how many changes of the
        training set the prediction provably withstands, -1 where it is wrong; the defense says what counts as one.
    """

    predict: Callable
    kept: np.ndarray | None = None
    certificate: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Defense(options.Checked):
    """What every defense is: a frozen dataclass of options that derives from this, with a `name` and `_train`.

    Options that `tfshape.options` declares are checked when one is made, which raises ValueError for a bad value.

    Attributes:
      name: str, by which `ts.defenses.parse` and the flags know it.
    """

    name: ClassVar[str]

    def train(
        self,
        build: Callable[[], keras.Model],
        x: np.ndarray,
        y: np.ndarray,
        num_classes: int,
        recipe: training.Recipe,
        seed: int,
    ) -> Trained:
        """Trains a classifier.

        Args:
          build: function without arguments that gives a new `keras.Model` of logits with its initial weights.
          x: float32 [N, *input_shape] in [0, 1]. y: int [N].
          num_classes: int.
          recipe: a `ts.training.Recipe`. Every defense keeps the epochs, and the batches unless fewer examples
            than one batch are left to train on. Dropped examples make an epoch shorter and are not made up for.
          seed: int from 0 to 2**32 - 1; the same seed gives the same classifier.

        Returns:
          `Trained`.

        Raises:
          ValueError: data that the defense cannot be used on.
        """
        return self._train(build, x, y, num_classes, recipe, seed)

    def _train(self, build, x, y, num_classes, recipe, seed):
        """What `train` does; each defense has its own."""
        raise NotImplementedError

    def __str__(self):
        values = {field.name: checks.scalar(getattr(self, field.name)) for field in dataclasses.fields(self)}
        given = [f"{f.name}={values[f.name]!r}" for f in dataclasses.fields(self) if values[f.name] != f.default]
        return f"{self.name}({', '.join(given)})" if given else self.name


class Filter(Defense):
    """A defense that drops examples, then trains on the others as an undefended training would."""

    def keep(
        self,
        build: Callable[[], keras.Model],
        x: np.ndarray,
        y: np.ndarray,
        num_classes: int,
        recipe: training.Recipe,
        seed: int,
    ) -> np.ndarray:
        """Which examples to train on, bool [N]; arguments as in `train`."""
        return self._keep(build, x, y, num_classes, recipe, seed)

    def _keep(self, build, x, y, num_classes, recipe, seed):
        """What `keep` does; each filter has its own."""
        raise NotImplementedError

    def _train(self, build, x, y, num_classes, recipe, seed):
        kept = np.asarray(self.keep(build, x, y, num_classes, recipe, seed), bool)
        return Trained(predictor(fit(build, x[kept], y[kept], recipe, seed)), kept)


def fit(build, x, y, recipe, seed):
    """A new model trained on arrays x, y: `ts.training.fit`, with batches no larger than the data."""
    model = build()
    return fit_further(model, x, y, recipe, seed)


def fit_further(model, x, y, recipe, seed):
    """Trains `model` on arrays x, y with batches no larger than the data. Returns it."""
    checks.require("kept", len(y), "at least one example to train on", len(y))
    recipe = dataclasses.replace(recipe, batch_size=min(recipe.batch_size, len(y)))
    training.programs.fit(model, x, np.asarray(y, np.int32), recipe, seed)
    return model


def predictor(model):
    """The function of x [N, ...] to logits [N, num_classes] of a trained model."""
    return lambda x: models.predict(model, x)


def learned_features(build, x, y, recipe, seed, purpose):
    """What a model trained on all the data makes of them: its penultimate layer's output, float64 [N, F].

    purpose: a name that sets the seed of this model apart from that of the final one.
    """
    model = fit(build, x, y, recipe, seeds.derive(seed, purpose))
    return models.predict(models.features(model), x).astype(np.float64)


def share_of(rate):
    """The function of a number of examples to the share `rate` of it, rounded down."""
    return lambda size: int(rate * size + 1e-9)


def lowest(scores, groups, dropped):
    """All but the largest scores of each group.

    Args:
      scores: float [N]. groups: int [N].
      dropped: function of the size of a group to how many of it to leave out.

    Returns:
      bool [N]; of equal scores the later ones go first.
    """
    kept = np.ones(len(scores), bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        order = members[np.argsort(scores[members], kind="stable")]
        kept[order[len(order) - dropped(len(order)) :]] = False
    return kept
