"""The attacker's own models: trained as the victim will be, with seeds that no victim has."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfshape import datasets, gradients, models, seeds, shaping
from tfshape.training import programs, starting_model


class Snapshots(keras.callbacks.Callback):
    """Keeps the weights after each of the given epochs, counted from 1; of a shaped model those of the model inside."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs, self.weights = frozenset(epochs), []

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 in self.epochs:
            model: Any = self.model
            self.weights.append(getattr(model, "model", model).get_weights())


def training_set(problem: Any, bases: np.ndarray | tuple = (), x: np.ndarray | tuple = ()) -> datasets.Split:
    """What the victim trains on, a `Split`: with examples x [K, ...] in the place of training examples `bases` [K]."""
    train = problem.dataset.train
    if len(bases):
        poisoned = train.x.copy()
        poisoned[bases] = x
        train = dataclasses.replace(train, x=poisoned)
    if problem.finetune_indices is None:
        return train
    return dataclasses.replace(train, x=train.x[problem.finetune_indices], y=train.y[problem.finetune_indices])


def train(problem, seed, checkpoints, data=None, start=None):
    """Trains one surrogate as the victim will be trained, and keeps it at `checkpoints` evenly spaced stages.

    Args:
      problem: a `Problem`.
      seed: a key of `tfshape.seeds.derive`, of which the initial weights and the order of the batches are made.
      checkpoints: int >= 1. The last is the end of training; there is at most one an epoch.
      data: what to train on, a `ts.datasets.Split`; None for the clean examples.
      start: the weights to start from, as in `starting_model`.

    Returns:
      A list of weights, each as `keras.Model.get_weights` gives them.
    """
    data = training_set(problem) if data is None else data
    return _train(problem, problem.scenario, problem.recipe, seed, checkpoints, data, start, problem.shaping)


def _train_clean(problem, seed):
    """The weights of a clean model from which finetune and transfer go on."""
    recipe = problem.initial_recipe or problem.recipe
    return _train(problem, "scratch", recipe, seed, 1, problem.dataset.train, None, None)[0]


def _train(problem, scenario, recipe, seed, checkpoints, data, start, shaper):
    seed = seeds.derive("surrogate", *seed)
    model = starting_model(scenario, architecture(problem), problem.dataset, seed, start)
    epochs = np.ceil(np.arange(1, checkpoints + 1) * recipe.epochs / checkpoints).astype(int)
    snapshots = Snapshots(epochs.tolist())
    wrap = functools.partial(shaping.shape, shaping=shaper, seed=seed, probe=False)
    programs.fit(model, data.x, data.y, recipe, seed, [snapshots], wrap=wrap, kind=("surrogate", shaper))
    return snapshots.weights


class Pool:
    """Clean surrogates: `ensemble` trainings with seeds made of `seed`, each kept at `checkpoints` stages.

    For finetune, where the clean model itself is what a victim is at first, the pool is the models that victims go on
    from, as far as the attacker knows: `initial_model` alone for white_box, else `ensemble` of the attacker's own.
    For transfer it is new last layers on the features of those.

    Attributes:
      weights: a list, one entry a training and stage, the stages of one training together.
      finished: those at the end of training.
      clean: the trained models whose features a victim has at first, or for scratch at the end: weights.
      starts: the weights that a training starts from, by turns; None for random ones.
      test_logits: what the finished ones say of the test examples, float32 [S, N, num_classes].
    """

    def __init__(self, problem, seed, ensemble, checkpoints):
        known = [] if problem.initial_model is None else [problem.initial_model.get_weights()]
        if problem.scenario == "scratch":
            self.starts = known or [None]
        else:
            self.starts = known or [_train_clean(problem, (seed, k, "clean_surrogate")) for k in range(ensemble)]
        self._problem, self._trainings = problem, [(seed, k) for k in range(ensemble)]
        self._checkpoints, self._norms = checkpoints, {}
        self._model = new_model(problem)
        signature = [tf.TensorSpec([None, *problem.dataset.input_shape]), tf.TensorSpec([None], tf.int32)]
        self._norms_of_batch = tf.function(self._gradient_norms, signature)

    @functools.cached_property
    def _trained(self):
        """A list of stages for every training. Not all attacks need them: features are frozen before any."""
        if self._problem.scenario == "finetune":
            return [[weights] for weights in self.starts]
        starts = itertools.cycle(self.starts)
        return [train(self._problem, key, self._checkpoints, start=next(starts)) for key in self._trainings]

    @property
    def weights(self):
        return [weights for stages in self._trained for weights in stages]

    @property
    def finished(self):
        return [stages[-1] for stages in self._trained]

    @property
    def clean(self):
        return self.finished if self._problem.scenario == "scratch" else self.starts

    @functools.cached_property
    def test_logits(self):
        return np.stack([self._predict(weights, self._problem.dataset.test.x) for weights in self.finished])

    def _predict(self, weights, x):
        self._model.set_weights(weights)
        return models.predict(self._model, x)

    def gradient_norms(self, label):
        """The l2 norm of the loss gradient of each training example of class `label`, a mean over `finished`."""
        if label not in self._norms:
            train_set = self._problem.dataset.train
            of_class = train_set.y == label
            examples = tf.data.Dataset.from_tensor_slices((train_set.x[of_class], train_set.y[of_class]))
            norms = []
            for weights in self.finished:
                self._model.set_weights(weights)
                norms.append(np.concatenate([self._norms_of_batch(*batch) for batch in examples.batch(64)]))
            self._norms[label] = np.mean(norms, axis=0, dtype=np.float64)
        return self._norms[label]

    def _gradient_norms(self, x, y):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return gradients.per_example(self._model, loss, x, y, training=False).norms


def architecture(problem):
    """The name of the architecture of the attacker's models."""
    return problem.surrogate_model or problem.model


def new_model(problem):
    """A model of the surrogates' architecture with random weights, frozen as the scenario says."""
    return starting_model(problem.scenario, architecture(problem), problem.dataset, 0)


def pool(problem, seed, ensemble, checkpoints):
    """The `Pool` for a problem. The last ones are remembered: crafting for many targets shares one."""
    return _pool(_Shared(problem), seed, ensemble, checkpoints)


@functools.lru_cache(maxsize=8)
def _pool(shared, seed, ensemble, checkpoints):
    return Pool(shared.problem, seed, ensemble, checkpoints)


class _Shared:
    """A problem, equal to every other on which clean surrogates come out the same."""

    def __init__(self, problem):
        self.problem = problem
        indices = problem.finetune_indices
        self._key = (
            id(problem.dataset),
            problem.model,
            problem.surrogate_model,
            problem.recipe,
            problem.initial_recipe,
            problem.scenario,
            id(problem.initial_model),
            problem.shaping,
            None if indices is None else indices.tobytes(),
        )

    def __eq__(self, other):
        return self._key == other._key

    def __hash__(self):
        return hash(self._key)
