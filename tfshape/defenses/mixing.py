"""Strong data augmentation against poison (Borgnia et al. 2021, arXiv 2011.09527): mixup and CutMix."""

import dataclasses

import numpy as np

from tfshape import checks, options, training
from tfshape.defenses import base


@dataclasses.dataclass(frozen=True)
class _Mixing(base.Defense):
    alpha: float = options.real(1.0, 0, above=True)

    def _train(self, build, x, y, num_classes, recipe, seed):
        """Trains on mixed batches, as many as without; nothing is dropped. See `Defense.train`."""
        import keras
        import tensorflow as tf

        self._check(x)
        model = build()
        data = tf.data.Dataset.from_tensor_slices((x, np.asarray(y, np.int32)))
        recipe = dataclasses.replace(recipe, batch_size=min(recipe.batch_size, len(y)))
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        training.fit(_mixer(model, self._mix, self.alpha, num_classes, seed), data, recipe, seed, loss=loss)
        return base.Trained(base.predictor(model))

    def _check(self, x):
        pass

    @staticmethod
    def _mix(x, others, share, seed):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Mixup(_Mixing):
    """Trains on convex combinations of two examples and of their labels (Zhang et al. 2018, arXiv 1710.09412, eq. 1).

    Attributes:
      alpha: > 0; each example's share is drawn from Beta(alpha, alpha).

    Raises:
      ValueError: another alpha.
    """

    name = "mixup"

    @staticmethod
    def _mix(x, others, share, seed):
        """-> (x share + others (1 - share), share): [B, ...] and [B]."""
        import tensorflow as tf

        wide = tf.reshape(share, [-1] + [1] * (x.shape.rank - 1))
        return wide * x + (1 - wide) * others, share


@dataclasses.dataclass(frozen=True)
class CutMix(_Mixing):
    """Trains on images with a rectangle of another pasted in, labels mixed by area (Yun et al. 2019, arXiv 1905.04899).

    Attributes:
      alpha: > 0; the share of the area that stays is drawn from Beta(alpha, alpha), before the edge cuts rectangles.

    Raises:
      ValueError: another alpha; in training, inputs that are not images.
    """

    name = "cutmix"

    def _check(self, x):
        checks.require("x", np.ndim(x) == 4, "images [N, height, width, channels] for cutmix", list(np.shape(x)))

    @staticmethod
    def _mix(x, others, share, seed):
        """-> (images with rectangles of others, the share of each that is its own): [B, ...] and [B]."""
        import tensorflow as tf

        count = tf.shape(x)[0]
        centers = tf.random.stateless_uniform([2, count, 1], seed)
        inside = []
        for size, center in zip(x.shape[1:3], tf.unstack(centers)):
            half = tf.sqrt(1 - share)[:, None] * size / 2
            pixels = tf.range(size, dtype=tf.float32)[None] + 0.5
            inside.append(tf.abs(pixels - center * size) < half)
        pasted = inside[0][:, :, None] & inside[1][:, None, :]
        area = tf.reduce_mean(tf.cast(pasted, tf.float32), axis=[1, 2])
        return tf.where(pasted[..., None], others, x), 1 - area


def _mixer(model, mix, alpha, num_classes, seed):
    """A `keras.Model` around `model` that mixes each batch before it trains on it."""
    import keras
    import tensorflow as tf

    class Mixer(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = model

        def call(self, x, training=None):
            return self.inner(x, training=training)

        def train_step(self, data):
            x, y = data
            step = tf.cast(self.optimizer.iterations, tf.int64)
            seeds = tf.unstack(tf.random.experimental.stateless_split(tf.stack([tf.constant(seed, tf.int64), step]), 3))
            count = tf.shape(x)[0]
            gammas = [tf.random.stateless_gamma([count], one, alpha) + 1e-20 for one in seeds[:2]]
            # Batches are shuffled already: the next example of a batch is a random other one.
            mixed, share = mix(x, tf.roll(x, 1, 0), gammas[0] / (gammas[0] + gammas[1]), seeds[2])
            labels, share = tf.one_hot(y, num_classes), share[:, None]
            return super().train_step((mixed, share * labels + (1 - share) * tf.roll(labels, 1, 0)))

    return Mixer()
