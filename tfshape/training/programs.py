"""Training that is traced once: models of one architecture, trained alike, share a compiled step and a pipeline.

Keras traces a training step for every model that it compiles, which for the small models of an experiment takes as
long as the training. Here a twin of the model is compiled and kept: weights, data and seed are its inputs.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from tfshape import checks
from tfshape.privacy.sampling import Feed
from tfshape.training import fitting

_KEPT = 4
_programs: collections.OrderedDict[Hashable, _Program] = collections.OrderedDict()
_feeds: collections.OrderedDict[Hashable, Feed] = collections.OrderedDict()

# Layers whose step is a function of weights and data alone, so that nothing of an earlier training can stay behind.
_PLAIN = """
    Activation Add AveragePooling1D AveragePooling2D BatchNormalization Concatenate Conv1D Conv2D Dense DepthwiseConv2D
    Embedding Flatten GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling2D GroupNormalization InputLayer
    LayerNormalization LeakyReLU MaxPooling1D MaxPooling2D ReLU Rescaling Reshape SeparableConv2D Softmax ZeroPadding2D
"""
_REFERENCES = ("inbound_nodes", "input_layers", "output_layers")  # which hold the names of other layers


def fit(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    recipe: fitting.Recipe,
    seed: int,
    callbacks: Sequence[Any] = (),
    sampling: str = "shuffle",
    wrap: Callable[[Any], Any] | None = None,
    kind: Hashable = None,
    look: Callable[[int, Any], object] | None = None,
) -> None:
    """Trains a model in place; the result is that of `ts.training.fit(wrap(model), …)` on (x, y), bit by bit.

    Args:
      model, recipe, seed: as in `ts.training.fit`.
      x, y: the examples, [N, ...] and [N].
      callbacks: `keras.callbacks.Callback`s; what they see may be a twin of `model`, and trains again later.
      wrap: function of a model to the one that trains its weights, such as `ts.shape`; None: the model itself. If what
        it gives has a seed, `reseed` is called with `seed`, which must be the one it has.
      sampling: a name in `ts.privacy.sampling.SAMPLERS`.
      kind: tells `wrap` from every other one.
      look: function of the number of steps done and the model as it is then, called about twenty times, at last at the
        end of training, see `looks.moments`; without callbacks that count epochs.
    """
    wrap, seed = wrap or (lambda model: model), checks.integer("seed", seed, 0, 2**32 - 1)
    with _fed(x, y, recipe, seed, sampling) as feed:
        plan, steps = recipe, feed.steps
        if look is None:
            at_once, watch = _at_once(steps, callbacks), lambda model, at_once: callbacks
        else:
            from tfshape.training.looks import Looks, stride

            plan, steps = dataclasses.replace(recipe, epochs=1), steps * recipe.epochs
            at_once, watch = stride(steps), lambda model, at_once: [*callbacks, Looks(model, steps, at_once, look)]
        key = _key(model, feed.batches, recipe, at_once, kind)
        if key is None:
            fitting.seed_everything(seed)
            trained = wrap(model)
            fitting.compile_for(trained, recipe, feed.batches)
            fitting.run(trained, plan, feed.batches, steps, watch(model, 1))
            return
        # No global seed is set, for nothing here depends on it: to set one makes TensorFlow prepare all functions anew.
        program = _programs.pop(key, None) or _Program(model, wrap, recipe, feed.batches, at_once)
        program.start(model.get_weights(), seed)
        fitting.run(program.trained, plan, feed.batches, steps, watch(program.model, at_once))
        model.set_weights(program.model.get_weights())
        _keep(_programs, key, program)


@contextlib.contextmanager
def _fed(x, y, recipe, seed, sampling):
    """The `Feed` of a training."""
    arrays = np.asarray(x), np.asarray(y)
    key = sampling, recipe.batch_size, recipe.epochs, *((array.shape, array.dtype) for array in arrays)
    feed = _feeds.pop(key, None) or Feed(sampling, arrays, recipe.batch_size, recipe.epochs)
    feed.start(arrays, seed)
    try:
        yield feed
        _keep(_feeds, key, feed)  # one that an error interrupted may still be read by another thread
    finally:
        feed.stop()


def _keep(found, key, value):
    found[key] = value
    if len(found) > _KEPT:
        found.popitem(last=False)


class _Program:
    """A twin of a model, compiled, and what its variables held before it was trained."""

    def __init__(self, model, wrap, recipe, batches, at_once):
        import keras

        self.model = keras.models.clone_model(model)
        self.trained = wrap(self.model)
        fitting.compile_for(self.trained, recipe, batches, steps_per_execution=at_once)
        variables = [*self.trained.weights, *self.trained.optimizer.variables]
        self._initial = [(variable, variable.numpy()) for variable in variables]

    def start(self, weights, seed):
        for variable, value in self._initial:
            variable.assign(value)
        self.model.set_weights(weights)
        if getattr(self.trained, "seed", None) is not None:
            self.trained.reseed(seed)


def _at_once(steps, callbacks):
    """How many steps Keras runs between two looks at its callbacks: a divisor of `steps`, at most 32."""
    import keras

    hooks = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
    plain = keras.callbacks.Callback
    watched = any(getattr(type(each), hook) is not getattr(plain, hook) for each in callbacks for hook in hooks)
    return 1 if watched else max(count for count in range(1, 33) if steps % count == 0)


def _key(model, batches, recipe, at_once, kind):
    """What all trainings have in common that may share a program; None for one that may not."""
    import keras
    import tensorflow as tf

    plain = tuple(getattr(keras.layers, name) for name in _PLAIN.split())
    known = type(model).__module__.startswith("keras.") and all(type(layer) in plain for layer in model.layers)
    if not known or tf.distribute.has_strategy():
        return None
    names = {layer.name: index for index, layer in enumerate(model.layers)}
    try:
        config = json.dumps(_nameless(model.get_config(), names), sort_keys=True)
    except TypeError:  # not JSON
        return None
    trainable = tuple(layer.trainable for layer in model.layers)
    return config, trainable, str(batches.element_spec), recipe, at_once, kind


def _nameless(value, names, refers=False):
    """A configuration without what differs from one model of an architecture to the next: names and initial seeds."""
    if isinstance(value, dict):
        parts = {key: part for key, part in value.items() if key not in ("name", "seed")}
        return {key: _nameless(part, names, refers or key in _REFERENCES) for key, part in parts.items()}
    if isinstance(value, (list, tuple)):
        return [_nameless(part, names, refers) for part in value]
    return names.get(value, value) if refers and isinstance(value, str) else value
