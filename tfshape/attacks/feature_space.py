"""The features of clean models, in which collisions and polytopes are built."""

import functools

import keras
import numpy as np
import tensorflow as tf

from tfshape import models
from tfshape.attacks import surrogates

BASE_RULES = ("nearest", "random")
LAYERS = ("features", "all")


class FeatureSpace:
    """Several models of one architecture whose features are computed together; compiled once for all problems.

    Attributes:
      extractors: `keras.Model`s from x [B, ...] to a list of features, [B, F] a layer.
    """

    def __init__(self, architecture, input_shape, num_classes, count, layers):
        self._models = [models.build(architecture, input_shape, num_classes) for _ in range(count)]
        self.extractors = [_extractor(model, layers) for model in self._models]
        images = tf.TensorSpec([None, *input_shape])
        self.distances = tf.function(self._distances, input_signature=[images, images])
        self.compiled = {}  # what the attacks add

    def load(self, weights):
        """Puts weights, a list with an entry a model, into the models."""
        for model, values in zip(self._models, weights):
            model.set_weights(values)

    def features(self, x):
        """The features of x [B, ...]: a list of [B, F], one for each model and layer."""
        return [
            tf.reshape(out, [tf.shape(x)[0], -1]) for extract in self.extractors for out in tf.nest.flatten(extract(x))
        ]

    def _distances(self, x, targets):
        """[B, T]: the squared distances of x [B, ...] to targets [T, ...], each relative to the target's squared norm;
        a mean over models and layers."""
        total = 0.0
        pairs = list(zip(self.features(x), self.features(targets)))
        for found, wanted in pairs:
            squares = tf.reduce_sum(wanted**2, 1)
            gaps = tf.reduce_sum(found**2, 1)[:, None] - 2 * tf.matmul(found, wanted, transpose_b=True) + squares
            total += gaps / tf.maximum(squares, 1e-12)
        return total / len(pairs)


def _extractor(model, layers):
    if layers == "features":
        return keras.Model(model.input, [models.features(model).output])
    outputs = [layer.output for layer in model.layers[:-1] if layer.trainable_variables]
    return keras.Model(model.input, outputs or [models.features(model).output])


@functools.lru_cache(maxsize=8)
def _space(*key):
    return FeatureSpace(*key)


def load(problem, pool, layers="features"):
    """The `FeatureSpace` of a problem with the weights of the pool's clean models in it."""
    dataset = problem.dataset
    key = surrogates.architecture(problem), dataset.input_shape, dataset.num_classes, len(pool.clean), layers
    space = _space(*key)
    space.load(pool.clean)
    return space


def choose_bases(problem, space, rule):
    """Indices [num_poisons] of training examples of the intended class.

    rule: "nearest", those whose features are nearest to a target's, the targets taking turns; or "random".
    """
    candidates = problem.candidates(problem.intended_label())
    if rule == "random":
        return problem.generator("targeted").choice(candidates, problem.num_poisons, replace=False)
    x, targets = problem.dataset.train.x[candidates], problem.target_x()
    distances = np.concatenate([space.distances(x[i : i + 500], targets) for i in range(0, len(x), 500)])
    order = np.argsort(distances, axis=0, kind="stable")
    chosen = list(dict.fromkeys(order.ravel().tolist()))  # row by row: each target's nearest, then each one's second
    return candidates[chosen[: problem.num_poisons]]
