"""The attacker's own models: trained as the victim will be, with seeds that no victim has."""

import functools

import keras
import numpy as np

from tfshape import models


class Snapshots(keras.callbacks.Callback):
    """Keeps a model's weights after each of the given epochs, counted from 1."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs, self.weights = frozenset(epochs), []

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 in self.epochs:
            self.weights.append(self.model.get_weights())


def train(problem, seed, checkpoints, data=None):
    """Trains one surrogate as the victim will be trained, and keeps it at `checkpoints` evenly spaced stages.

    Args:
      problem: a `Problem`; its `initial_model`, if any, is what the surrogate goes on from.
      seed: a sequence of ints >= 0, of which the initial weights and the order of the batches are made.
      checkpoints: int >= 1. The last is the end of training; there is at most one an epoch.
      data: what to train on, an unbatched tf.data.Dataset of (x, y); None for the clean training set.

    Returns:
      A list of weights, each as `keras.Model.get_weights` gives them.
    """
    dataset, recipe = problem.dataset, problem.recipe
    seed = int(np.random.SeedSequence([_PURPOSE, *seed]).generate_state(1)[0])
    model = models.build(problem.model, dataset.input_shape, dataset.num_classes, seed=seed)
    if problem.initial_model is not None:
        model.set_weights(problem.initial_model.get_weights())
    epochs = np.ceil(np.arange(1, checkpoints + 1) * recipe.epochs / checkpoints).astype(int)
    snapshots = Snapshots(epochs.tolist())
    models.fit(model, dataset.train.as_dataset() if data is None else data, recipe, seed, callbacks=[snapshots])
    return snapshots.weights


_PURPOSE = 0x5A6E  # sets these seeds apart from those that anything else derives from the same integers


def clean(problem, seed, ensemble, checkpoints):
    """The attacker's pool of clean surrogates, `ensemble` trainings kept at `checkpoints` stages each.

    Crafting for many targets uses one pool, so the last few are remembered in the process.
    """
    if problem.initial_model is not None:
        return _train_all(problem, seed, ensemble, checkpoints)
    return _remember(_Clean(problem), seed, ensemble, checkpoints)


class _Clean:
    """A problem as far as clean surrogates depend on it."""

    def __init__(self, problem):
        self.problem = problem
        self.key = (id(problem.dataset), problem.model, problem.recipe)

    def __eq__(self, other):
        return self.key == other.key

    def __hash__(self):
        return hash(self.key)


@functools.lru_cache(maxsize=2)
def _remember(clean_problem, seed, ensemble, checkpoints):
    return _train_all(clean_problem.problem, seed, ensemble, checkpoints)


def _train_all(problem, seed, ensemble, checkpoints):
    return [weights for k in range(ensemble) for weights in train(problem, (seed, k), checkpoints)]
