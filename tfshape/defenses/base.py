"""What a defense is: something that trains a classifier on data that may hold poison."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tfshape import checks, models

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
class Defense:
    """A frozen value of options with `name`, how `tfshape.defenses.parse` spells it."""

    name: ClassVar[str]

    def train(
        self,
        build: Callable[[], keras.Model],
        x: np.ndarray,
        y: np.ndarray,
        num_classes: int,
        recipe: models.Recipe,
        seed: int,
    ) -> Trained:
        """Trains a classifier.

        Args:
          build: function without arguments that gives a new `keras.Model` of logits with its initial weights.
          x: float32 [N, *input_shape] in [0, 1]. y: int [N].
          num_classes: int.
          recipe: a `ts.models.Recipe`. Whatever the defense, epochs stay the same; so do batches, unless fewer examples
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
        recipe: models.Recipe,
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
    """A new model trained on arrays x, y: `ts.models.fit`, with batches no larger than the data."""
    model = build()
    return fit_further(model, x, y, recipe, seed)


def fit_further(model, x, y, recipe, seed):
    """Trains `model` on arrays x, y with batches no larger than the data. Returns it."""
    import tensorflow as tf

    checks.require("kept", len(y), "at least one example to train on", len(y))
    data = tf.data.Dataset.from_tensor_slices((x, np.asarray(y, np.int32)))
    models.fit(model, data, dataclasses.replace(recipe, batch_size=min(recipe.batch_size, len(y))), seed)
    return model


def predictor(model):
    """The function of x [N, ...] to logits [N, num_classes] of a trained model."""
    return lambda x: models.predict(model, x)


def derive(seed, *purpose):
    """A seed below 2**32 for one purpose (ints), made of `seed`."""
    return int(np.random.SeedSequence([int(seed), *purpose]).generate_state(1)[0])


def features(model, x):
    """The penultimate layer's output for x [N, ...], float64 [N, F]."""
    return models.predict(models.features(model), x).astype(np.float64)


def lowest(scores, groups, share):
    """All but the largest scores of each group.

    Args:
      scores: float [N]. groups: int [N].
      share: of each group, in [0, 1], to leave out, rounded down.

    Returns:
      bool [N]; of equal scores the later ones go first.
    """
    kept = np.ones(len(scores), bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        order = members[np.argsort(scores[members], kind="stable")]
        kept[order[len(order) - int(share * len(order) + 1e-9) :]] = False
    return kept
