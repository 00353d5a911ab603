"""Plain training of any Keras classifier that gives logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tfshape import checks, graphs, options

if TYPE_CHECKING:
    import keras

_CLASSES = {  # of keras.optimizers
    "sgd": "SGD",
    "momentum": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
    "nadam": "Nadam",
    "adamax": "Adamax",
    "adadelta": "Adadelta",
}
OPTIMIZERS = tuple(_CLASSES)


@dataclasses.dataclass(frozen=True)
class Recipe(options.Plain):
    """How a model is trained.

    Attributes:
      optimizer: a name in `OPTIMIZERS`, as Keras calls them; momentum is SGD with momentum 0.9.
      learning_rate: > 0.
      batch_size: int >= 1, examples a step.
      epochs: int >= 1.

    Raises:
      ValueError: a value outside these.
    """

    optimizer: str = options.choice("adam", OPTIMIZERS)
    learning_rate: float = options.real(1e-3, 0, above=True)
    batch_size: int = options.integer(64, 1)
    epochs: int = options.integer(10, 1)

    def make_optimizer(self) -> keras.optimizers.Optimizer:
        """A new `keras.optimizers.Optimizer` with this learning rate."""
        import keras

        options = {"momentum": 0.9} if self.optimizer == "momentum" else {}
        return getattr(keras.optimizers, _CLASSES[self.optimizer])(self.learning_rate, **options)


def fit(
    model: Any,
    data: Any,
    recipe: Recipe,
    seed: int,
    callbacks: Sequence[Any] = (),
    loss: Any = None,
    sampling: str | Callable[..., Any] = "shuffle",
) -> Any:
    """Compiles a model and trains it, on batches that depend on the seed alone.

    By default every epoch goes through a new permutation of the data in batches of exactly `recipe.batch_size`; what is
    left over sits that epoch out, so that the batch size of the privacy accounting is the one that was used. The data
    is held in memory.

    Args:
      model: a `keras.Model`; its weights are trained in place.
      data: an unbatched `tf.data.Dataset` of (x, y), finite, that gives the same examples whenever it is read.
      recipe: a `Recipe`.
      seed: int >= 0; also set as the seed of Python, NumPy and TensorFlow, for dropout and noise.
      callbacks: `keras.callbacks.Callback`s.
      loss: a Keras loss of (y, logits); by default sparse categorical cross-entropy.
      sampling: how batches are drawn: "shuffle", "poisson" or "balls_in_bins", or a function with the arguments and
        results of these in `ts.privacy.sampling`. The latter two have random sizes around `recipe.batch_size` and are
        padded with examples of weight 0: train a model of `ts.shape(…, batch_size=recipe.batch_size)`, which divides by
        the expected size; a plain Keras model divides by rows, padding included, and so takes smaller steps.

    Returns:
      The `keras.callbacks.History` of the training: loss and accuracy an epoch.

    Raises:
      ValueError: fewer examples than a batch, data without end, a bad seed or an unknown sampling.
    """
    batches, steps = draw(data, recipe, seed, sampling)
    compile_for(model, recipe, batches, loss)
    return run(model, recipe, batches, steps, callbacks)


def draw(data, recipe, seed, sampling):
    """Seeds everything, and returns the batches of a training and the steps of an epoch; as in `fit`."""
    from tfshape.privacy.sampling import SAMPLERS

    sampler = sampling if callable(sampling) else SAMPLERS[checks.choice("sampling", sampling, SAMPLERS)]
    return sampler(data, recipe.batch_size, recipe.epochs, seed_everything(seed))


def seed_everything(seed):
    """Sets the seeds of Python, NumPy and TensorFlow, and returns it as an int."""
    import keras

    seed = checks.integer("seed", seed, 0, 2**32 - 1)
    keras.utils.set_random_seed(seed)
    return seed


def compile_for(model, recipe, batches, loss=None, steps_per_execution=1):
    """Compiles a model for `run`; `loss` as in `fit`, `steps_per_execution` as in `keras.Model.compile`."""
    import keras

    # Keras weighs only `weighted_metrics`; without weights the two are the same, and have the same name.
    weighted = len(batches.element_spec) == 3
    model.compile(
        optimizer=recipe.make_optimizer(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True) if loss is None else loss,
        steps_per_execution=steps_per_execution,
        **{"weighted_metrics" if weighted else "metrics": ["accuracy"]},
    )
    if loss is None and model.built:
        _make_variables(model, batches.element_spec)


def run(model, recipe, batches, steps, callbacks):
    """Trains a compiled model, and returns its `keras.callbacks.History`."""
    options = {"epochs": recipe.epochs, "steps_per_epoch": steps, "shuffle": False, "verbose": 0}
    with graphs.collectable():
        return model.fit(batches, callbacks=list(callbacks), **options)


def _make_variables(model, spec):
    """Makes those of the optimizer and the metrics before the first step: made in it, they have it traced twice."""
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        x, y, *weights = (tf.zeros([1, *part.shape[1:]], part.dtype) for part in spec)
        model.compute_metrics(x, y, model(x, training=False), *(weights or [None]))
        model.reset_metrics()
        model.optimizer.build(model.trainable_variables)
