"""The attacker's own models: trained as the victim will be, with seeds that no victim has."""

import functools

import keras
import numpy as np
import tensorflow as tf

from tfshape import gradients, models


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


class Pool:
    """Clean surrogates: `ensemble` trainings with seeds made of `seed`, each kept at `checkpoints` stages.

    If the attacker knows the model that the victim starts from, it alone is the pool.

    Attributes:
      weights: a list, one entry a training and stage, the stages of one training together.
      finished: those at the end of training.
      test_logits: what the finished ones say of the test examples, float32 [S, N, num_classes].
    """

    def __init__(self, problem, seed, ensemble, checkpoints):
        if problem.initial_model is not None:
            trained = [[problem.initial_model.get_weights()]]
        else:
            trained = [train(problem, (seed, k), checkpoints) for k in range(ensemble)]
        self.weights = [weights for stages in trained for weights in stages]
        self.finished = [stages[-1] for stages in trained]
        self._train, self._norms = problem.dataset.train, {}
        self._model = new_model(problem)
        self.test_logits = np.stack([self._predict(weights, problem.dataset.test.x) for weights in self.finished])
        signature = [tf.TensorSpec([None, *problem.dataset.input_shape]), tf.TensorSpec([None], tf.int32)]
        self._norms_of_batch = tf.function(self._gradient_norms, signature)

    def _predict(self, weights, x):
        self._model.set_weights(weights)
        return models.predict(self._model, x)

    def gradient_norms(self, label):
        """The l2 norm of the loss gradient of each training example of class `label`, a mean over `finished`."""
        if label not in self._norms:
            of_class = self._train.y == label
            examples = tf.data.Dataset.from_tensor_slices((self._train.x[of_class], self._train.y[of_class]))
            norms = []
            for weights in self.finished:
                self._model.set_weights(weights)
                norms.append(np.concatenate([self._norms_of_batch(*batch) for batch in examples.batch(64)]))
            self._norms[label] = np.mean(norms, axis=0, dtype=np.float64)
        return self._norms[label]

    def _gradient_norms(self, x, y):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return gradients.per_example(self._model, loss, x, y, training=False).norms


def new_model(problem):
    """A model of the victim's architecture with random weights."""
    return models.build(problem.model, problem.dataset.input_shape, problem.dataset.num_classes)


def pool(problem, seed, ensemble, checkpoints):
    """The `Pool` for a problem. The last two are remembered: crafting for many targets shares one."""
    return _pool(_Shared(problem), seed, ensemble, checkpoints)


@functools.lru_cache(maxsize=2)
def _pool(shared, seed, ensemble, checkpoints):
    return Pool(shared.problem, seed, ensemble, checkpoints)


class _Shared:
    """A problem, equal to every other on which clean surrogates come out the same."""

    def __init__(self, problem):
        self.problem = problem
        self._key = (id(problem.dataset), problem.model, problem.recipe, id(problem.initial_model))

    def __eq__(self, other):
        return self._key == other._key

    def __hash__(self):
        return hash(self._key)
