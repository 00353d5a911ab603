"""tensorflow-privacy's DP-Keras optimizers, as the peer that engine `fast` is compared with.

Only this module of the room imports tensorflow_privacy, and only when a function is called. It needs Keras 2 and
TensorFlow < 2.16; elsewhere the one-line ImportError says so, and `ts.shape` (engine `fast`) computes the same update.

Two ways to get its updates wrong are closed here. A loss that is reduced to its mean would be clipped as one
example: `shape` takes the loss of each example itself, whatever reduction is asked for. A microbatch count that does
not divide the batch fails inside TensorFlow: `shape` refuses it by name, and splits a partial last batch, which no
count divides, into microbatches as even as they can be.
"""

from __future__ import annotations

import warnings

import keras
import tensorflow as tf

from tfshape import checks

from ..gradients import per_example_losses
from .chain import Chain, GaussianNoise
from .clipping import Clip
from .model import misfits

_NAMES = {"sgd": "SGD", "adam": "Adam", "adagrad": "Adagrad"}
_OPTIONS = {
    "SGD": ("momentum", "nesterov"),
    "Adam": ("beta_1", "beta_2", "epsilon", "amsgrad"),
    "Adagrad": ("initial_accumulator_value", "epsilon"),
}
_COPIES = 6
_LIMIT_GB = 8


def memory_gb(batch_size, num_parameters):
    """About how many GB a step takes: 6 float32 arrays of batch x parameters (measured: 3 on an MLP, 6 on a CNN)."""
    return _COPIES * 4 * batch_size * num_parameters / 1e9


def _library():
    needs = "needs Keras 2 with tensorflow-privacy 0.9 (TensorFlow < 2.16); engine `fast` (ts.shape) computes the same"
    if int(keras.__version__.split(".")[0]) > 2:
        raise ImportError(f"engine `tensorflow_privacy` {needs}; this is Keras {keras.__version__}")
    try:
        import tensorflow_privacy
    except ImportError as error:
        raise ImportError(f"engine `tensorflow_privacy` {needs}; importing it failed: {error}") from error
    return tensorflow_privacy


def optimizer(name, learning_rate, clip, noise, num_microbatches=None, vectorized=None, **options):
    """A DP-Keras optimizer of tensorflow-privacy.

    name: `sgd`, `adam` or `adagrad`. learning_rate: a number or a Keras schedule. clip: l2 bound of a microbatch's
    gradient, > 0. noise: multiplier, >= 0. num_microbatches: into how many parts a batch is split, whose mean
    gradients are clipped; None: as many as it has rows. vectorized: use the class `VectorizedDPKeras*`, which clips
    all microbatches at once, or `DPKeras*`, which loops over them; None: vectorised.
    options: the other arguments of the Keras optimizer, such as momentum.

    It must be given a loss that is not reduced; `shape` sees to that. Raises ValueError for a bad value and
    ImportError where tensorflow-privacy cannot be used. Source: Abadi et al. 2016, Algorithm 1.
    """
    checks.choice("optimizer", name.lower() if isinstance(name, str) else name, _NAMES)
    clip, noise = checks.real("clip", clip, 0, above=True), checks.real("noise", noise, 0)
    num_microbatches = _microbatches(num_microbatches)
    prefix = "DPKeras" if vectorized is False else "VectorizedDPKeras"
    cls = getattr(_library(), f"{prefix}{_NAMES[name.lower()]}Optimizer")
    return cls(
        l2_norm_clip=clip,
        noise_multiplier=noise,
        num_microbatches=num_microbatches,
        learning_rate=learning_rate,
        **options,
    )


def shape(model, shaping, num_microbatches=None, batch_size=256, vectorized=None):
    """A Keras model that shares `model`'s weights and trains them with tensorflow-privacy's DP-SGD.

    shaping: `dp_sgd(clip, noise)`, `Clip` or a Chain of the two; tensorflow-privacy can do no other.
    num_microbatches: parts of a batch whose mean gradients are clipped; None: one for each example.
    batch_size: rows expected in a batch, for the estimate `memory_gb` that `vectorized=None` chooses by: vectorised up
    to 8 GB, looped and with a warning above, for the loop saves little: both hold the gradients of all microbatches.

    Compile it as any Keras model, with optimizer sgd, adam or adagrad, by name or as a Keras object, whose learning
    rate and other options are taken over. Losses need not be unreduced. As in tensorflow-privacy the sum is divided by
    the microbatches of the batch at hand, and its noise cannot be seeded but by `tf.random.set_seed`.

    Raises ValueError for other shapings, bad values and, in training, models with regularisation losses; ImportError
    where tensorflow-privacy cannot be used.
    """
    clip, noise = _clip_and_noise(shaping)
    num_microbatches = _microbatches(num_microbatches)
    for misfit in misfits(model):
        raise ValueError(misfit.message)
    _library()
    return _DPKerasModel(model, clip, noise, num_microbatches, batch_size, vectorized)


def _microbatches(number):
    return None if number is None else checks.integer("num_microbatches", number, 1)


def _clip_and_noise(shaping):
    first, *rest = shaping.shapers if isinstance(shaping, (Clip, Chain)) else (shaping,)
    if type(first) is Clip and [type(part) for part in rest] in ([], [GaussianNoise]):
        return first.clip, shaping.noise_stddev / first.clip
    raise ValueError(f"shaping must be clip or clip|noise with tensorflow-privacy, got {shaping}")


class _DPKerasModel(keras.Model):
    """Feeds a DP-Keras optimizer the mean loss of each microbatch."""

    def __init__(self, model, clip, noise, num_microbatches, batch_size, vectorized):
        super().__init__(name=f"{model.name}_tensorflow_privacy")
        self.model = model
        self._clip, self._noise = clip, noise
        self._mean_loss = keras.metrics.Mean(name="loss")
        self._num_microbatches, self._batch_size, self._vectorized = num_microbatches, batch_size, vectorized

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)

    def compile(self, optimizer="sgd", loss=None, **options):
        if loss is None:
            raise ValueError("loss must be given, got None")
        self._given_loss = loss
        super().compile(optimizer=self._dp_optimizer(optimizer), loss=loss, **options)

    def _dp_optimizer(self, given):
        given = keras.optimizers.get(given)
        name, config = type(given).__name__, given.get_config()
        for key in ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema"):
            if config.get(key):
                raise ValueError(f"optimizer must not use {key} with tensorflow-privacy, got {config[key]!r}")
        rate = config["learning_rate"]
        rate = keras.optimizers.schedules.deserialize(rate) if isinstance(rate, dict) else float(rate)
        vectorized = self._vectorized
        if vectorized is None:
            count = sum(int(tf.size(variable)) for variable in self.model.trainable_variables)
            need = memory_gb(self._batch_size, count)
            vectorized = need <= _LIMIT_GB
            if not vectorized:
                warnings.warn(f"tensorflow-privacy may need {need:.0f} GB a step; engine `fast` does not", stacklevel=3)
        options = {key: config[key] for key in _OPTIONS.get(name, ())}
        return optimizer(name, rate, self._clip, self._noise, vectorized=vectorized, **options)

    def fit(self, x=None, y=None, batch_size=None, **options):
        """As `keras.Model.fit`. Raises ValueError if num_microbatches does not divide the batch size."""
        if not isinstance(x, (tf.data.Dataset, keras.utils.Sequence)) and x is not None:
            self._check_divides(batch_size or 32)
        elif isinstance(x, tf.data.Dataset):
            self._check_divides(tf.nest.flatten(x.element_spec)[0].shape[0])
        return super().fit(x=x, y=y, batch_size=batch_size, **options)

    def _check_divides(self, rows):
        if self._num_microbatches and rows and rows % self._num_microbatches:
            raise ValueError(f"num_microbatches must divide the batch size {rows}, got {self._num_microbatches}")

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            losses = self._weighted_losses(y, y_pred, sample_weight)
            if self._num_microbatches is None:
                microbatches = losses
            else:
                rows = tf.shape(losses)[0]
                part = tf.range(rows) * self._num_microbatches // rows
                microbatches = tf.math.unsorted_segment_mean(losses, part, self._num_microbatches)
        self.optimizer.minimize(microbatches, self.model.trainable_variables, tape=tape)
        return self._logs(x, y, y_pred, sample_weight, losses)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        return self._logs(x, y, y_pred, sample_weight, self._weighted_losses(y, y_pred, sample_weight))

    def _weighted_losses(self, y, y_pred, sample_weight):
        if self.losses:
            raise ValueError("model has regularisation losses, which tensorflow-privacy would clip; use engine `fast`")
        return per_example_losses(self._given_loss, y, y_pred, sample_weight)

    def _logs(self, x, y, y_pred, sample_weight, losses):
        self._mean_loss.update_state(losses)
        return {**self.compute_metrics(x, y, y_pred, sample_weight), "loss": self._mean_loss.result()}
