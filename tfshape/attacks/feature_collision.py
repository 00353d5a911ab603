"""Feature collision, "Poison Frogs": clean-label poison that looks like one class and has the features of a target.

Shafahi et al. 2018, arXiv 1804.00792. A victim that keeps the features puts the poison, and the target with it, on the
side of the poison's label.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tfshape import options
from tfshape.attacks import base, crafting, feature_space


@dataclasses.dataclass(frozen=True)
class FeatureCollision(base.Targeted):
    """Moves base examples of the intended class to a target in feature space, by forward-backward splitting.

    Algorithm 1 of the paper: a gradient step on ‖f(x) - f(t)‖² (here relative to ‖f(t)‖² and a mean over the
    surrogates), then the proximal step of beta ‖x - b‖² (here a mean over the pixels), which also keeps x within
    `problem.eps` of b and in [0, 1]. The paper bounds x by the penalty alone: that is eps=1. Each poison has a step
    size of its own, halved where the objective would grow. With several targets, poisons take turns.

    Attributes:
      steps: int >= 1, iterations.
      beta: >= 0, weight of the distance to the base example.
      opacity: from 0 to below 1, of the target's watermark in the base example (section 4.2), itself within eps.
      ensemble: int >= 1, surrogates, as far as the attacker has to train any.
      base_rule: "nearest", the examples with features nearest to the target's, or "random".
    """

    steps: int = options.integer(500, 1)
    beta: float = options.real(0.05, 0, 1e6)
    opacity: float = options.real(0.0, 0, 0.999)
    ensemble: int = options.integer(4, 1)
    base_rule: str = options.choice("nearest", feature_space.BASE_RULES)

    name = "feature_collision"

    def _perturbed(self, problem):
        space = feature_space.load(problem, self.pool(problem))
        bases = feature_space.choose_bases(problem, space, self.base_rule)
        clean = problem.dataset.train.x[bases]
        target = problem.target_x()[np.arange(len(bases)) % len(problem.targets)]
        low, high = crafting.bounds(clean, problem.eps)
        start = watermarked(clean, target, self.opacity, low, high)
        if "collide" not in space.compiled:
            space.compiled["collide"] = _collide_in(space)
        x = space.compiled["collide"](start, target, low, high, np.int32(self.steps), np.float32(self.beta))
        return np.asarray(x), bases


def watermarked(x, target, opacity, low, high):
    """Examples x [K, ...] with targets [K, ...] blended in at `opacity`, between `low` and `high`: float32."""
    return np.clip(((1 - opacity) * x + opacity * target).astype(np.float32), low, high)


def _collide_in(space):
    images = tf.TensorSpec([None, *space.extractors[0].input_shape[1:]])

    @tf.function(input_signature=[*[images] * 4, tf.TensorSpec([], tf.int32), tf.TensorSpec([])])
    def collide(start, target, low, high, steps, beta):
        wanted = space.features(target)
        axes = list(range(1, len(start.shape)))
        pixels = float(np.prod(start.shape[1:]))

        def spread(values):
            return tf.reshape(values, [-1, *[1] * len(axes)])

        def look(x):
            """The objective of each poison, [K], and the gradient of its first term."""
            with tf.GradientTape() as tape:
                tape.watch(x)
                gaps = [
                    tf.reduce_sum((found - goal) ** 2, 1) / tf.maximum(tf.reduce_sum(goal**2, 1), 1e-12)
                    for found, goal in zip(space.features(x), wanted)
                ]
                collision = tf.add_n(gaps) / len(gaps)
            return collision + beta * tf.reduce_sum((x - start) ** 2, axes) / pixels, tape.gradient(collision, x)

        x = start
        objective, gradient = look(x)
        rate = tf.fill([tf.shape(x)[0]], pixels / 10)
        for _ in tf.range(steps):
            pull = spread(2 * rate * beta / pixels)
            moved = tf.clip_by_value((x - spread(rate) * gradient + pull * start) / (1 + pull), low, high)
            objective_there, gradient_there = look(moved)
            better = objective_there < objective
            x = tf.where(spread(better), moved, x)
            gradient = tf.where(spread(better), gradient_there, gradient)
            objective = tf.where(better, objective_there, objective)
            rate = tf.where(better, 1.5 * rate, 0.5 * rate)
        return x

    return collide
