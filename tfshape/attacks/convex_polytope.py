"""Convex polytope: clean-label poison around a target in feature space.

Zhu et al. 2019, arXiv 1905.05897. If the target's features are a convex combination of the poison's, a linear last
layer that gives all poison its label gives it to the target too, whatever its weights.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tfshape import checks
from tfshape.attacks import base, crafting, feature_space
from tfshape.poison import Poisons


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

    Raises:
      ValueError: a value outside these.
    """

    steps: int = 400
    step_size: float = 0.1
    coefficient_steps: int = 20
    layers: str = "features"
    ensemble: int = 4
    base_rule: str = "nearest"

    name = "convex_polytope"

    def __post_init__(self):
        check(self)
        checks.integer("coefficient_steps", self.coefficient_steps, 1)

    def craft(self, problem: base.Problem) -> Poisons:
        """Crafts poison for the problem's targets.

        Args:
          problem: a `Problem` whose targets have one intended class, with at least `num_poisons` examples.

        Returns:
          `ts.poison.Poisons`: x within eps of the base examples and within [0, 1], both exactly; y their own labels.

        Raises:
          ValueError: no targets, several intended classes, or too few base examples.
        """
        return surround(self, problem, self.coefficient_steps)


def check(options):
    """Raises ValueError unless the options that both polytopes have are as they say."""
    for field in ("steps", "ensemble"):
        checks.integer(field, getattr(options, field), 1)
    checks.real("step_size", options.step_size, 0, 2, above=True)
    checks.choice("layers", options.layers, feature_space.LAYERS)
    checks.choice("base_rule", options.base_rule, feature_space.BASE_RULES)


def surround(options, problem, coefficient_steps):
    """Crafts the `Poisons` of a polytope; with 0 coefficient_steps all coefficients stay equal."""
    space = feature_space.load(problem, options.pool(problem), options.layers)
    rng = problem.generator("targeted")
    bases = feature_space.choose_bases(problem, space, options.base_rule, rng)
    clean = problem.dataset.train.x[bases]
    low, high = crafting.bounds(clean, problem.eps)
    rates = crafting.falling_rates(options.step_size * problem.eps, options.steps)
    if "surround" not in space.compiled:
        space.compiled["surround"] = _surround_in(space)
    x = space.compiled["surround"](clean, problem.target_x(), low, high, rates, np.int32(coefficient_steps))
    return base.make_poisons(problem, options, np.asarray(x), bases)


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
