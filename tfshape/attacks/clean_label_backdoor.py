"""Label-consistent backdoor attacks (Turner, Tsipras & Madry 2019, arXiv 1912.02771)."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tfshape import checks, models
from tfshape.attacks import backdoor, base, surrogates
from tfshape.poison import Poisons


@dataclasses.dataclass(frozen=True)
class CleanLabelBackdoor(backdoor.PatchBackdoor):
    """Makes examples of the target class hard by an adversarial perturbation, then stamps the trigger on them.

    What makes them what they are being hidden, a victim explains their label by the trigger. The perturbation raises
    the cross-entropy of their own label by projected gradient ascent (section 4.2 of the paper) on clean models of the
    attacker, which are trained as the victim is; the paper's are adversarially trained.

    Attributes:
      target_class: int >= 0, the class that the trigger shall mean.
      size, value, position: the trigger, as `ts.poison.patch` takes them.
      steps: int >= 1, of gradient ascent.
      step_size: in (0, 2], of a pixel, as a share of eps.
      ensemble: int >= 1, the attacker's models, whose losses are averaged.

    Raises:
      ValueError: a value outside these.
    """

    steps: int = 40
    step_size: float = 0.1
    ensemble: int = 4

    name = "clean_label_backdoor"

    def __post_init__(self):
        super().__post_init__()
        checks.integer("steps", self.steps, 1)
        checks.integer("ensemble", self.ensemble, 1)
        checks.real("step_size", self.step_size, 0, 2, above=True)

    def craft(self, problem: base.Problem) -> Poisons:
        """Crafts `problem.num_poisons` triggered examples of the target class, labels untouched.

        Args:
          problem: a `Problem` with at least as many training examples of the target class; its targets play no part.

        Returns:
          `ts.poison.Poisons`: x within eps of the base examples except under the trigger, and within [0, 1].

        Raises:
          ValueError: the trigger does not fit the inputs, or too few examples may be poisoned.
        """
        self.check(problem)
        rng = np.random.default_rng([problem.seed, 4])
        bases = np.sort(rng.choice(self.eligible(problem), problem.num_poisons, replace=False))
        x = self._adversarial(problem, problem.dataset.train.x[bases], rng)
        return base.make_poisons(problem, self, self.stamp(x, problem), bases)

    def _adversarial(self, problem, x, rng):
        low, high = base.bounds(x, problem.eps)
        pool = surrogates.pool(problem, problem.surrogate_seed, self.ensemble, 1)
        stacks = [tf.constant(np.stack(arrays)) for arrays in zip(*pool.finished)]
        start = np.clip(rng.uniform(low, high).astype(np.float32), low, high)
        labels = np.full(len(x), self.target_class, np.int32)
        dataset = problem.dataset
        ascent = _ascent(surrogates.architecture(problem), dataset.input_shape, dataset.num_classes)
        return ascent(start, low, high, labels, stacks, self.steps, self.step_size * problem.eps).numpy()


@functools.lru_cache(maxsize=4)
def _ascent(architecture, input_shape, num_classes):
    """Signed gradient ascent on the mean loss of several models, compiled once for all problems."""
    model = models.build(architecture, input_shape, num_classes)

    def ascend(x, low, high, labels, stacks, steps, rate):
        for _ in tf.range(steps):
            total = tf.zeros_like(x)
            for pick in tf.range(tf.shape(stacks[0])[0]):
                for variable, stack in zip(model.weights, stacks):
                    variable.assign(stack[pick])
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(x, training=False))
                total += tape.gradient(loss, x)
            x = tf.clip_by_value(x + rate * tf.sign(total), low, high)
        return x

    images = tf.TensorSpec([None, *input_shape])
    stacks = [tf.TensorSpec([None, *weight.shape]) for weight in model.weights]
    labels, steps, rate = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32), tf.TensorSpec([])
    return tf.function(ascend, [*[images] * 3, labels, stacks, steps, rate])
