"""`ts.shape`: a Keras model that trains another one's weights with shaped gradients."""

from __future__ import annotations

import inspect
import math
from typing import Any, overload

import keras
import tensorflow as tf

from .. import checks, gradients
from ..gradients import layers as layers_lib
from . import noise, portable
from .base import Shaper
from .compiling import joint_loss
from .examples import Examples
from .probe import Finding, Probe


@overload
def shape(
    model: keras.Model,
    shaping: Shaper,
    batch_size: int | None = ...,
    microbatch: int | None = ...,
    seed: int | None = ...,
    secure_noise: bool = ...,
    probe: bool = ...,
) -> ShapedModel: ...
@overload
def shape(
    model: keras.Model,
    shaping: None,
    batch_size: int | None = ...,
    microbatch: int | None = ...,
    seed: int | None = ...,
    secure_noise: bool = ...,
    probe: bool = ...,
) -> keras.Model: ...
def shape(
    model: keras.Model,
    shaping: Shaper | None,
    batch_size: int | None = None,
    microbatch: int | None = None,
    seed: int | None = None,
    secure_noise: bool = False,
    probe: bool = True,
) -> keras.Model:
    """A Keras model that shares `model`'s weights and trains them with shaped gradients.

    Compile it with any Keras optimizer and any loss that gives a value an example (by name, object or function; its
    reduction is ignored), then fit, evaluate, save and load it like any other. One step is
    `optimizer(( sum_i w_i g_i + noise ) / B + gradient of the regularisation losses)`.

    shaping: a Shaper; None returns `model` itself, unshaped.
    batch_size: B, >= 1. None: the rows of the batch, padding included, on all replicas. Give the expected batch
    size under Poisson sampling, where the number of rows is itself private.
    microbatch: rows processed at a time, >= 1; the update is that of the whole batch. None: all at once.
    seed: a whole number makes the noise repeatable, for science; None keys it from the operating system's entropy.
    secure_noise: True draws every number of the noise from the operating system's cryptographic generator, on a grid
    that hides float rounding (see `noise.add_secure`); slower, on CPU only, and not to be had with a seed.
    probe: whether the first step of training after `compile` tests that rows do not depend on each other: some rows of
    the batch are replaced, and neither the loss nor the gradient norm of another row may change. The weights, the
    optimizer and everything random stay as they were. It costs about one step, run outside the compiled one.

    Rows with sample weight 0 are padding: they contribute exactly nothing. A row whose loss or gradient is not finite
    contributes nothing either, and is counted in the metric `nonfinite`, which `fit` reports.
    Under a `tf.distribute` strategy each replica shapes its own examples and adds its part of the noise.

    Raises ValueError for bad values, for a microbatch with a shaper that weighs examples against the whole batch, for a
    model that is shaped already, and for one with a training method of its own, such as `train_step` or `compute_loss`,
    which would be ignored. `fit` and `train_on_batch` raise it for a loss or a layer that mixes the rows of a batch;
    `ts.check` lists everything of the kind at once.
    """
    if shaping is None:
        return model
    if not isinstance(shaping, Shaper):
        checks.fail("shaping", "a Shaper such as dp_sgd(clip=1.0, noise=1.0), or None", shaping)
    return ShapedModel(model, shaping, batch_size, microbatch, seed, secure_noise, probe)


# What trains a Keras model. `ShapedModel` trains in its own way, and would call none of them.
_TRAINING = ("train_step", "compute_loss", "make_train_function", "train_on_batch", "fit")


def misfits(model: Any) -> list[Finding]:
    """One finding for each reason why `model` as a whole cannot be shaped, whatever the data."""
    found = []
    for layer in layers_lib.tree(model):
        if isinstance(layer, ShapedModel):
            where = "" if layer is model else f", in {model.name}"
            message = f"model must not be shaped already, got {layer.name}{where}: shape its attribute `model` instead"
            found.append(Finding("already_shaped", True, message, layer.name, type(layer).__name__))
    for name in _TRAINING if not found else ():
        if name in vars(model) or getattr(type(model), name) is not getattr(keras.Model, name):
            message = (
                f"{name} must be that of keras.Model, got {type(model).__name__}.{name}: a shaped model would ignore "
                "it. Move what it computes into the loss, or into the model's `call`"
            )
            found.append(Finding("own_training", True, message, model.name, type(model).__name__))
    return found


@keras.saving.register_keras_serializable(package="tfshape")
class ShapedModel(keras.Model):
    """The Keras model that `shape` returns. `model` is the original, `shaping` the shaper."""

    def __init__(
        self,
        model: keras.Model,
        shaping: Shaper,
        batch_size: int | None = None,
        microbatch: int | None = None,
        seed: int | None = None,
        secure_noise: bool = False,
        probe: bool = True,
        name: str | None = None,
    ) -> None:
        checks.require("model", isinstance(model, keras.Model), "a keras.Model", model)
        for misfit in misfits(model):
            raise ValueError(misfit.message)
        batch_size = None if batch_size is None else checks.integer("batch_size", batch_size, 1)
        microbatch = None if microbatch is None else checks.integer("microbatch", microbatch, 1)
        if seed is not None:
            seed = checks.integer("seed", seed, 0)
            checks.require("seed", not secure_noise, "None with secure_noise, which nothing repeats", seed)
        shapers = shaping.shapers
        for shaper in shapers:
            if microbatch is not None and shaper.whole_batch:
                checks.fail("microbatch", f"None with {shaper}, which needs all rows", microbatch)
        shapers[-1].noise_for(shaping.sensitivity)
        super().__init__(name=name or f"{model.name}_shaped")
        self.model = model
        self.shaping, self.batch_size, self.microbatch, self.seed = shaping, batch_size, microbatch, seed
        self.secure_noise, self.probe = bool(secure_noise), bool(probe)
        self._states = [
            portable.add_state(self, f"{index}_{shaper.spelling}", shaper.variables(model))
            for index, shaper in enumerate(shapers)
        ]
        self._noise_key = portable.hidden_key(noise.entropy_key() if seed is None else (seed, 0))
        self._noise_step = portable.add_counter(self, tracked=seed is not None)
        self._counts = portable.Hidden([keras.metrics.Mean(name="shaped_loss"), keras.metrics.Sum(name="nonfinite")])
        self._trained = False
        self.output_names = getattr(model, "output_names", None)
        self.built = model.built

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.model(inputs, training=training)

    @property
    def metrics(self) -> list:
        """The compiled metrics, and two that are the training's own: its loss, and the count `nonfinite`."""
        return [*super().metrics, *self._counts.value]

    @property
    def metrics_names(self) -> list[str]:
        """As `keras.Model.metrics_names`."""
        names = [metric.name for metric in super().metrics]
        return ["loss", *names] if self._trained and "loss" not in names else names

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        **options: Any,
    ) -> None:
        """As `keras.Model.compile`. Raises ValueError unless `loss` gives a value an example for every output."""
        loss_weights = checks.scalar(loss_weights)
        self._example_loss = joint_loss(loss, loss_weights, self.output_names)
        self._probe = portable.Hidden(Probe(self.model, self._example_loss, self.microbatch) if self.probe else None)
        options = portable.compile_options(options)
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, loss_weights=loss_weights, **options)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as the saved model was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force: bool = False) -> Any:
        """As `keras.Model.make_train_function`. What it makes raises ValueError if the probe objects to a batch."""
        model: Any = self
        if model.train_function is None or force:
            probe = self._probe.value
            # XLA cannot hand out a batch: it compiles the steps after those that are examined
            later = probe is not None and probe.pending and model.jit_compile
            if later:
                model.jit_compile = False
            super().make_train_function(force)
            if probe is not None and probe.pending:
                step, then = model.train_function, self._compile_by_xla if later else None
                model.train_function = probe.watching(step, lambda: self.variables if self.model.built else [], then)
        return model.train_function

    def reseed(self, seed: int) -> None:
        """Draws the noise of the steps to come as if the model had been made with this seed; `seed` was given then."""
        self.seed = checks.integer("seed", seed, 0)
        self._noise_key.value.assign((self.seed, 0))
        portable.reveal(self._noise_step).assign(0)

    def _compile_by_xla(self):
        self.jit_compile = True
        self.make_train_function(force=True)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        replica = tf.distribute.get_replica_context()
        rows = self._rows(x, replica)
        shaped_sum = self._whole if self.microbatch is None else self._by_microbatches
        update, y_pred, penalty, tallies = shaped_sum(1.0 / rows, x, y, sample_weight)
        self.built = True  # the engine has called `model`, which builds it
        if self._probe.value is not None and self._probe.value.pending:
            self._probe.value.see(x, y)
        update = self._advance(update, tallies["observed"], rows, replica)
        if penalty is not None:
            replicas = replica.num_replicas_in_sync
            update = [
                part if more is None else part + tf.cast(more, part.dtype) / replicas
                for part, more in zip(update, penalty)
            ]
        portable.apply(self.optimizer, update, self.model.trainable_variables)

        mean_loss, nonfinite = self._counts.value
        nonfinite.update_state(tallies["nonfinite"])
        loss = tf.math.divide_no_nan(tallies["loss"], tallies["count"])
        if self.model.losses:
            loss += tf.cast(tf.add_n(self.model.losses), loss.dtype)
        mean_loss.update_state(loss, sample_weight=tallies["count"])
        if self.output_names is not None and len(self.output_names) > 1:
            self.compute_loss(x, y, y_pred, sample_weight)  # for Keras' metrics of the loss of each output
        logs = self._without_own(self.compute_metrics(x, y, y_pred, sample_weight))
        self._trained = True
        return {**logs, "loss": mean_loss.result(), "nonfinite": nonfinite.result()}

    def train_on_batch(self, *args: Any, **options: Any) -> Any:
        """As `keras.Model.train_on_batch`, in the same order; with `return_dict=True`, `nonfinite` is there too."""
        given = inspect.signature(super().train_on_batch).bind(*args, **options).arguments
        as_dict = given.pop("return_dict", False)
        logs = super().train_on_batch(**given, return_dict=True)
        if as_dict:
            return logs
        del logs["nonfinite"]
        return portable.in_order(logs, ["loss", *(name for name in portable.names(super().metrics) if name != "loss")])

    def test_step(self, data: Any) -> dict[str, Any]:
        return self._without_own(super().test_step(data))

    def _without_own(self, logs):
        return {key: value for key, value in logs.items() if key not in ("shaped_loss", "nonfinite")}

    def _rows(self, x, replica):
        """B, a scalar float64."""
        if self.batch_size is not None:
            return tf.constant(self.batch_size, tf.float64)
        rows = tf.cast(tf.shape(tf.nest.flatten(x)[0])[0], tf.float64)
        if replica.num_replicas_in_sync > 1:
            rows = replica.all_reduce(tf.distribute.ReduceOp.SUM, rows)
        return tf.maximum(rows, 1.0)

    def _whole(self, scale, x, y, sample_weight):
        """The shaped sum times `scale`, the predictions, the regularisation gradients, and what was counted."""
        found = gradients.per_example(self.model, self._example_loss, x, y, sample_weight=sample_weight, training=True)
        norms, finite = found.norms, found.finite
        present = tf.ones_like(finite)
        if sample_weight is not None:
            present = tf.reshape(sample_weight, tf.shape(finite)) != 0
        examples = Examples(found, norms, finite & present, mean_gradient=self._mean_gradient)
        examples, observed = examples.shaped(self.shaping.shapers, self._states)
        losses = tf.where(examples.valid, found.losses, tf.zeros_like(found.losses))
        tallies = {
            "loss": tf.cast(tf.reduce_sum(losses), tf.float32),
            "count": tf.cast(examples.count, tf.float32),
            "nonfinite": tf.reduce_sum(tf.cast(present & ~finite, tf.float32)),
            "observed": tf.stack(observed),
        }
        return examples.weighted_sum(scale), found.y_pred, found.regularization(), tallies

    def example_weights(self, found: gradients.PerExample) -> tf.Tensor:
        """The weights, [B] or [L, B], that the next step would give `found`, the engine's gradients of a batch."""
        examples = Examples(found, found.norms, found.finite, mean_gradient=self._mean_gradient)
        return examples.shaped(self.shaping.shapers, self._states)[0].weights

    def _mean_gradient(self, x, y):
        found = gradients.per_example(self.model, self._example_loss, x, y, training=True)
        return found.weighted_sum(tf.fill(tf.shape(found.losses), 1 / tf.cast(tf.size(found.losses), tf.float32)))

    def _by_microbatches(self, scale, x, y, sample_weight):
        """The same as `_whole`, but never more than `microbatch` rows at a time."""
        size = self.microbatch
        rows = tf.shape(tf.nest.flatten(x)[0])[0]

        def part(start):
            def rows_of(tensor):
                return None if tensor is None else tensor[start : start + size]

            return [tf.nest.map_structure(rows_of, item) for item in (x, y, sample_weight)]

        # The first part stands before the loop, and shows the structure of what the loop gathers.
        update, y_pred, penalty, tallies = self._whole(scale, *part(0))
        outputs = tf.nest.flatten(y_pred)
        gathered = [
            tf.TensorArray(out.dtype, size=0, dynamic_size=True, element_shape=[None, *out.shape[1:]]).write(0, out)
            for out in outputs
        ]

        def add(start, update, tallies, gathered):
            more, y_more, _, counted = self._whole(scale, *part(start))
            gathered = [g.write(start // size, out) for g, out in zip(gathered, tf.nest.flatten(y_more))]
            update = [a + b for a, b in zip(update, more)]
            return start + size, update, tf.nest.map_structure(tf.add, tallies, counted), gathered

        state = (tf.constant(size), update, tallies, gathered)
        _, update, tallies, gathered = tf.while_loop(lambda i, *_: i < rows, add, state, parallel_iterations=1)
        return update, tf.nest.pack_sequence_as(y_pred, [g.concat() for g in gathered]), penalty, tallies

    def _advance(self, update, observed, rows, replica):
        """Adds this replica's part of the noise to the update, and moves the noise and the shapers' state on."""
        shapers, states, replicas = self.shaping.shapers, self._states, replica.num_replicas_in_sync
        bound = math.inf
        for shaper, state in zip(shapers, states):
            bound = shaper.bound(bound, state or None)
        stddev = shapers[-1].noise_for(None if self.shaping.sensitivity is None else bound)
        stateful = any(states)
        if stateful or not isinstance(stddev, float) or stddev > 0:
            step = portable.reveal(self._noise_step)
            stream = tf.convert_to_tensor(step) * replicas + tf.cast(replica.replica_id_in_sync_group, tf.int64)
            step.assign_add(1)
            stddev = tf.cast(stddev, tf.float64) / (rows * math.sqrt(replicas))
            numbers = len(shapers) if stateful else 0
            if self.secure_noise:
                update, extra = noise.add_secure(update, stddev, numbers)
            else:
                drawn, extra = noise.like(update, stddev, tf.unstack(self._noise_key.value), stream, numbers)
                update = [part + more for part, more in zip(update, drawn)]
        if stateful:
            released = update
            if replicas > 1:
                add = tf.distribute.ReduceOp.SUM
                released, observed, extra = replica.all_reduce(add, [update, observed, extra / math.sqrt(replicas)])
            for index, (shaper, state) in enumerate(zip(shapers, states)):
                if state:
                    shaper.advance(state, released, observed[index], tf.cast(rows, tf.float32), extra[index])
        return update

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs: the original model, the shaping, and the other arguments of `shape`."""
        return {
            "model": keras.saving.serialize_keras_object(self.model),
            "shaping": self.shaping.to_config(),
            "batch_size": self.batch_size,
            "microbatch": self.microbatch,
            "seed": self.seed,
            "secure_noise": self.secure_noise,
            "probe": self.probe,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> ShapedModel:
        """The shaped model of `get_config`."""
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects=custom_objects)
        return cls(**{**config, "model": model, "shaping": Shaper.from_config(config["shaping"])})
