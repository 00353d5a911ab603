"""Plain training and evaluation of any Keras classifier that gives logits."""

import dataclasses
import numbers

import numpy as np

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
class Recipe:
    """How a model is trained.

    Attributes:
      optimizer: a name in `OPTIMIZERS`, as Keras calls them; momentum is SGD with momentum 0.9.
      learning_rate: > 0.
      batch_size: int >= 1, examples a step.
      epochs: int >= 1.

    Raises:
      ValueError: a value outside these.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    batch_size: int = 64
    epochs: int = 10

    def __post_init__(self):
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if not isinstance(self.learning_rate, numbers.Real) or not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate!r}")
        for name in ("batch_size", "epochs"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")

    def make_optimizer(self):
        """A new `keras.optimizers.Optimizer` with this learning rate."""
        import keras

        options = {"momentum": 0.9} if self.optimizer == "momentum" else {}
        return getattr(keras.optimizers, _CLASSES[self.optimizer])(self.learning_rate, **options)


def fit(model, data, recipe, seed, callbacks=(), loss=None):
    """Compiles a model and trains it, in an order that depends on the seed alone.

    Every epoch goes through a new permutation of the data in batches of exactly `recipe.batch_size`; what is left over
    sits that epoch out, so that the batch size of the privacy accounting is the one that was used. The data is held
    in memory.

    Args:
      model: a `keras.Model`; its weights are trained in place.
      data: an unbatched `tf.data.Dataset` of (x, y), finite, that gives the same examples whenever it is read.
      recipe: a `Recipe`.
      seed: int >= 0; also set as the seed of Python, NumPy and TensorFlow, for dropout and noise.
      callbacks: `keras.callbacks.Callback`s.
      loss: a Keras loss of (y, logits); by default sparse categorical cross-entropy.

    Returns:
      The `keras.callbacks.History` of the training: loss and accuracy an epoch.

    Raises:
      ValueError: fewer examples than a batch, data without end, or a bad seed.
    """
    import keras

    if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
    keras.utils.set_random_seed(int(seed))
    batches, steps = shuffled_batches(data, recipe.batch_size, recipe.epochs, int(seed))
    model.compile(
        optimizer=recipe.make_optimizer(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True) if loss is None else loss,
        metrics=["accuracy"],
    )
    return model.fit(
        batches, epochs=recipe.epochs, steps_per_epoch=steps, callbacks=list(callbacks), shuffle=False, verbose=0
    )


def shuffled_batches(data, batch_size, epochs, seed):
    """All batches of all epochs.

    Args:
      data: an unbatched, finite `tf.data.Dataset`.
      batch_size, epochs: int >= 1.
      seed: int >= 0. Epoch e is permuted by (seed, e), whatever the global seeds are.

    Returns:
      (a `tf.data.Dataset` of epochs * steps batches of exactly `batch_size` examples, steps an epoch).

    Raises:
      ValueError: fewer examples than a batch, or data without end.
    """
    import tensorflow as tf

    size = int(data.cardinality())
    if size == tf.data.INFINITE_CARDINALITY:
        raise ValueError("data must have an end, got a dataset that repeats for ever")
    if size == tf.data.UNKNOWN_CARDINALITY:
        size = int(data.reduce(np.int64(0), lambda count, _: count + 1))
    if batch_size > size:
        raise ValueError(f"batch_size must be at most the number of examples, {size}, got {batch_size}")
    arrays = data.batch(size).get_single_element()
    steps = size // batch_size

    def epoch(number):
        order = tf.random.experimental.stateless_shuffle(tf.range(size), seed=tf.stack([seed, number]))
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order[: steps * batch_size], [steps, batch_size]))

    def gather(rows):
        return tf.nest.map_structure(lambda array: tf.gather(array, rows), arrays)

    batches = tf.data.Dataset.range(epochs).flat_map(epoch).map(gather)
    return batches.apply(tf.data.experimental.assert_cardinality(epochs * steps)).prefetch(tf.data.AUTOTUNE), steps


def predict(model, x, batch_size=1000):
    """The logits of a model, float32 [N, num_classes], for x [N, *input_shape].

    Calls the model layer by layer in batches, which costs no tracing: models here are many and small.
    """
    x = np.asarray(x)
    starts = range(0, max(len(x), 1), batch_size)
    return np.concatenate([np.asarray(model(x[start : start + batch_size], training=False)) for start in starts])


def accuracy(model, split):
    """The share, from 0 to 1, of a `Split`'s examples whose largest logit is the one of their class."""
    return float(np.mean(np.argmax(predict(model, split.x), axis=1) == split.y))
