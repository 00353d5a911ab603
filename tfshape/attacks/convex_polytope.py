"""Convex polytope: clean-label poison around a target in feature space.

Zhu et al. 2019, arXiv 1905.05897. If the target's features are a convex combination of the poison's, a linear last
layer that gives all poison its label gives it to the target too, whatever its weights.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tfshape import options
from tfshape.attacks import base, crafting, feature_space


@dataclasses.dataclass(frozen=True)
class ConvexPolytope(base.Targeted):
    """Perturbs examples of the intended class so that their convex hull holds the target, in every surrogate.

    Eq. 2 of the paper, by its algorithm 1: coefficients by projected gradient steps on the simplex, one set a target,
    surrogate and layer; then a step of Adam on the poison.

    Attributes:
      steps: int >= 1, updates of the poison; the step size falls linearly to 0.
      step_size: > 0, the first step of a pixel, as a share of eps.
      coefficient_steps: int >= 1, updates of the coefficients before each of them.
      layers: "features", what enters the last layer; "all", the outputs of every layer with weights but the last
        (section 3.3, for victims that train all of theirs).
      ensemble: int >= 1, surrogates, as far as the attacker has to train any.
      base_rule: "nearest", the examples with features nearest to the target's, or "random".
    """

    steps: int = options.integer(400, 1)
    step_size: float = options.real(0.1, 0, 2, above=True)
    coefficient_steps: int = options.integer(20, 1)
    layers: str = options.choice("features", feature_space.LAYERS)
    ensemble: int = options.integer(4, 1)
    base_rule: str = options.choice("nearest", feature_space.BASE_RULES)

    name = "convex_polytope"

    def _perturbed(self, problem):
        space = feature_space.load(problem, self.pool(problem), self.layers)
        bases = feature_space.choose_bases(problem, space, self.base_rule)
        clean = problem.dataset.train.x[bases]
        low, high = crafting.bounds(clean, problem.eps)
        rates = crafting.falling_rates(self.step_size * problem.eps, self.steps)
        if "surround" not in space.compiled:
            space.compiled["surround"] = _surround_in(space)
        surround, coefficient_steps = space.compiled["surround"], np.int32(self.coefficient_steps)
        return np.asarray(surround(clean, problem.target_x(), low, high, rates, coefficient_steps)), bases


def onto_simplex(points):
    """The nearest point of the probability simplex to each row of points [..., K] (Duchi et al. 2008, figure 1)."""
    ordered = tf.sort(points, axis=-1, direction="DESCENDING")
    ranks = tf.range(1, tf.shape(points)[-1] + 1, dtype=points.dtype)
    shifts = (tf.cumsum(ordered, axis=-1) - 1) / ranks
    kept = tf.reduce_sum(tf.cast(ordered > shifts, tf.int32), axis=-1, keepdims=True)
    shift = tf.gather(shifts, kept - 1, axis=-1, batch_dims=len(points.shape) - 1)
    return tf.maximum(points - shift, 0)


def _surround_in(space):
    images = tf.TensorSpec([None, *space.extractors[0].input_shape[1:]])

    @tf.function(input_signature=[*[images] * 4, tf.TensorSpec([None]), tf.TensorSpec([], tf.int32)])
    def surround_target(x, targets, low, high, rates, coefficient_steps):
        goals = space.features(targets)
        first = second = tf.zeros_like(x)
        coefficients = tf.ones([len(goals), tf.shape(targets)[0], tf.shape(x)[0]]) / tf.cast(tf.shape(x)[0], x.dtype)
        for step in tf.range(tf.shape(rates)[0]):
            with tf.GradientTape() as tape:
                tape.watch(x)
                found = space.features(x)
                fixed = [tf.stop_gradient(part) for part in found]
                if coefficient_steps > 0:
                    coefficients = _improve(coefficients, fixed, goals, coefficient_steps)
                gaps = [
                    tf.reduce_sum((goal - tf.matmul(row, part)) ** 2, 1) / tf.maximum(tf.reduce_sum(goal**2, 1), 1e-12)
                    for row, part, goal in zip(tf.unstack(coefficients, len(goals)), found, goals)
                ]
                loss = tf.reduce_mean(tf.stack(gaps))
            move, first, second = crafting.adam(tape.gradient(loss, x), first, second, step)
            x = tf.clip_by_value(x - rates[step] * move, low, high)
        return x

    return surround_target


def _improve(coefficients, found, goals, steps):
    """Coefficients [S, T, K] after projected gradient steps on ‖goal - coefficients · found‖², for each of S spaces."""
    grams = tf.stack([tf.matmul(part, part, transpose_b=True) for part in found])
    sides = tf.stack([tf.matmul(goal, part, transpose_b=True) for goal, part in zip(goals, found)])
    rate = 1 / tf.maximum(tf.linalg.trace(grams), 1e-12)[:, None, None]  # at most 1 / the largest eigenvalue
    for _ in tf.range(steps):
        coefficients = onto_simplex(coefficients - rate * (tf.matmul(coefficients, grams) - sides))
    return coefficients
