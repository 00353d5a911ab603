"""Gradient matching, "Witches' Brew": clean-label targeted poisoning of models trained from scratch.

Geiping et al. 2021, arXiv 2009.02276. Poison is perturbed so that its training gradient points where the gradient of
the target's adversarial loss points; a victim that trains on the one takes a step on the other.
"""

import dataclasses
import functools
import numbers

import keras
import numpy as np
import tensorflow as tf

from tfshape import models
from tfshape.attacks import base, surrogates

_RETRAINED = 0x7E  # sets the seeds of retrained surrogates apart from those of clean ones


@dataclasses.dataclass(frozen=True)
class GradientMatching:
    """Perturbs training examples of the intended class, labels untouched, by signed Adam on the matching loss.

    Attributes:
      steps: int >= 1, updates of the poison a restart; the step size falls linearly to 0.
      step_size: > 0, the first step of a pixel, as a share of eps.
      restarts: int >= 1; of as many random starts the one with the lowest matching loss over all surrogates is kept.
      ensemble: int >= 1, clean surrogates of different seeds.
      checkpoints: int >= 1, stages of its training at which each surrogate is used.
      surrogates_per_step: int >= 1, of the pool of ensemble * checkpoints that a step averages over, in random turns.
      retrain: int >= 0; as often, evenly spread over the steps, the pool is replaced by surrogates that are trained
        on the poison as it is then (Souri et al. 2022, arXiv 2106.08970, section 3.3).
      retrain_ensemble: int >= 1, the surrogates trained each time.
      layers: "dense", only the gradients of dense layers are matched, which carries over to victims of other seeds
        better than "all" do where convolutions make the features, and costs a quarter; or "all".
      augment: bool, matches gradients of randomly shifted and mirrored poison, by up to 1/16 of the side; images only.
      base_rule: "gradient_norm", the examples with the largest gradients on the clean surrogates (Geiping et al.,
        appendix), or "random".

    Raises:
      ValueError: a value outside these.
    """

    steps: int = 120
    step_size: float = 0.1
    restarts: int = 1
    ensemble: int = 8
    checkpoints: int = 5
    surrogates_per_step: int = 2
    retrain: int = 2
    retrain_ensemble: int = 2
    layers: str = "dense"
    augment: bool = False
    base_rule: str = "gradient_norm"

    name = "gradient_matching"
    kind = "targeted"

    def __post_init__(self):
        for field in ("steps", "restarts", "ensemble", "checkpoints", "surrogates_per_step", "retrain_ensemble"):
            base.require_integer(field, getattr(self, field), 1)
        base.require_integer("retrain", self.retrain, 0)
        if not isinstance(self.step_size, numbers.Real) or not 0 < self.step_size <= 2:
            raise ValueError(f"step_size must be a number above 0 and at most 2, got {self.step_size!r}")
        if self.layers not in ("dense", "all"):
            raise ValueError(f"layers must be dense or all, got {self.layers!r}")
        if not isinstance(self.augment, bool):
            raise ValueError(f"augment must be True or False, got {self.augment!r}")
        if self.base_rule not in ("gradient_norm", "random"):
            raise ValueError(f"base_rule must be gradient_norm or random, got {self.base_rule!r}")

    def craft(self, problem):
        """Crafts poison for the problem's targets.

        Args:
          problem: a `Problem` whose targets have one intended class, of which the training set has at least
            `num_poisons` examples.

        Returns:
          `ts.poison.Poisons`: x within eps of the base examples and within [0, 1], both exactly; y their own labels.

        Raises:
          ValueError: no targets, several intended classes, too few base examples, or augment on inputs that are not
            images.
        """
        intended = {target.intended_label for target in problem.targets}
        if len(intended) != 1:
            raise ValueError(f"targets must be one or more with one intended label, got {problem.targets!r}")
        if self.augment and len(problem.dataset.input_shape) != 3:
            raise ValueError(f"augment must be False unless inputs are images, got {problem.dataset.input_shape}")
        pool = self._pool(problem)
        rng = np.random.default_rng([problem.seed, 3])
        bases = self._choose_bases(problem, intended.pop(), pool, rng)
        search = _Search(self, problem, bases)
        results = [search.run(pool.weights, restart, rng) for restart in range(self.restarts)]
        _, x = min(results, key=lambda result: result[0])
        return base.make_poisons(problem, self, x, bases)

    def test_logits(self, problem):
        """What the attacker's clean surrogates say of the test examples, [S, N, num_classes], for `choose_target`;
        `problem` needs no targets yet."""
        return self._pool(problem).test_logits

    def _pool(self, problem):
        return surrogates.pool(problem, problem.surrogate_seed, self.ensemble, self.checkpoints)

    def _choose_bases(self, problem, intended, pool, rng):
        train, count = problem.dataset.train, problem.num_poisons
        candidates = np.flatnonzero(train.y == intended)
        if len(candidates) < count:
            raise ValueError(
                f"num_poisons must be at most {len(candidates)}, the training examples of the intended class "
                f"{intended}, got {count}"
            )
        if self.base_rule == "random":
            return np.sort(rng.choice(candidates, count, replace=False))
        norms = pool.gradient_norms(intended)
        return np.sort(candidates[np.argsort(-norms, kind="stable")[:count]])


def matched_variables(model, layers):
    """The trainable weights of a model whose gradients are matched: those of its dense layers, or all."""
    chosen = [layer for layer in model.layers if layers == "all" or isinstance(layer, keras.layers.Dense)]
    return [variable for layer in chosen for variable in layer.trainable_variables]


def loss_gradient(model, variables, x, y):
    """The gradient by `variables` of the mean cross-entropy of examples x [B, ...], y [B], as a list."""
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=False))
        loss = tf.reduce_mean(losses)
    return tape.gradient(loss, variables)


def matching_loss(gradient, target_gradient):
    """1 - cos(gradient of the poison, gradient of the target's adversarial loss), eq. 3 of Geiping et al.

    Lists of tensors. The gradient of the poison's mean loss stands for that of the sum, which has the same direction.
    """
    dot = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(gradient, target_gradient)])
    squares = [tf.add_n([tf.reduce_sum(a * a) for a in side]) for side in (gradient, target_gradient)]
    return 1 - dot / tf.sqrt(tf.maximum(squares[0] * squares[1], 1e-30))


def shift_and_mirror(x, shifts, mirror):
    """Moves each image x [K, H, W, C] by shifts [K, 2] pixels, repeating the edge, and mirrors it where mirror [K]."""
    rows, columns = tf.range(tf.shape(x)[1]), tf.range(tf.shape(x)[2])
    rows = tf.clip_by_value(rows[None] + shifts[:, :1], 0, rows[-1])
    columns = tf.clip_by_value(columns[None] + shifts[:, 1:], 0, columns[-1])
    columns = tf.where(mirror[:, None], columns[:, ::-1], columns)
    return tf.gather(tf.gather(x, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def bounds(x, eps):
    """The smallest and largest float32 within eps of x and within [0, 1], rounded inwards."""
    exact = np.maximum(x.astype(np.float64) - eps, 0), np.minimum(x.astype(np.float64) + eps, 1)
    low, high = (side.astype(np.float32) for side in exact)
    low = np.where(low < exact[0], np.nextafter(low, np.float32(2)), low)
    high = np.where(high > exact[1], np.nextafter(high, np.float32(-1)), high)
    return low, high


class _Search:
    """The optimisation of one problem's poison."""

    def __init__(self, options, problem, bases):
        self.options, self.problem, self.bases = options, problem, bases
        train = problem.dataset.train
        self.low, self.high = bounds(train.x[bases], problem.eps)
        self.y = train.y[bases]
        self.target_x = problem.target_x()
        self.target_y = np.array([target.intended_label for target in problem.targets], np.int32)
        dataset = problem.dataset
        self.graph = _graph(
            problem.model,
            dataset.input_shape,
            dataset.num_classes,
            options.surrogates_per_step,
            options.layers,
            options.augment,
        )

    def run(self, pool, restart, rng):
        """Returns (matching loss over the final pool, x [K, ...]) of one random start."""
        options = self.options
        x = np.clip(rng.uniform(self.low, self.high).astype(np.float32), self.low, self.high)
        momentum = np.zeros_like(x)
        rates = options.step_size * self.problem.eps * (1 - np.arange(options.steps) / options.steps)
        for number, segment in enumerate(np.array_split(rates.astype(np.float32), options.retrain + 1)):
            if number:
                pool = self._retrain(x, restart, number)
            stacks = [tf.constant(np.stack(arrays)) for arrays in zip(*pool)]
            picks = _turns(len(pool), len(segment), options.surrogates_per_step, rng)
            seed = np.int32(rng.integers(2**31))
            x, momentum = self.graph.steps(
                x, momentum, self.low, self.high, self.y, self.target_x, self.target_y, stacks, picks, segment, seed
            )
        return float(self.graph.pool_loss(x, self.y, self.target_x, self.target_y, stacks)), np.asarray(x)

    def _retrain(self, x, restart, number):
        train = self.problem.dataset.train
        poisoned = train.x.copy()
        poisoned[self.bases] = x
        data = dataclasses.replace(train, x=poisoned).as_dataset()
        seeds = [(self.problem.seed, _RETRAINED, restart, number, k) for k in range(self.options.retrain_ensemble)]
        trained = [surrogates.train(self.problem, seed, self.options.checkpoints, data) for seed in seeds]
        return [weights for stages in trained for weights in stages]


class _Graph:
    """The steps of the search, compiled once for all problems with one architecture."""

    def __init__(self, model, input_shape, num_classes, per_step, layers, augment):
        self.model = models.build(model, input_shape, num_classes)
        self.variables = matched_variables(self.model, layers)
        self.augment = augment
        images, labels = tf.TensorSpec([None, *input_shape]), tf.TensorSpec([None], tf.int32)
        stacks = [tf.TensorSpec([None, *weight.shape], weight.dtype) for weight in self.model.weights]
        picks, rates = tf.TensorSpec([None, per_step], tf.int32), tf.TensorSpec([None])
        self.steps = tf.function(
            self._steps,
            [*[images] * 4, labels, images, labels, stacks, picks, rates, tf.TensorSpec([], tf.int32)],
        )
        self.pool_loss = tf.function(self._pool_loss, [images, labels, images, labels, stacks])

    def _steps(self, x, momentum, low, high, y, target_x, target_y, stacks, picks, rates, seed):
        for step in tf.range(tf.shape(rates)[0]):
            gradient = tf.zeros_like(x)
            for turn in range(picks.shape[1]):
                target_gradient = self._load(stacks, picks[step, turn], target_x, target_y)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    seen = _augmented(x, tf.stack([seed, step])) if self.augment else x
                    loss = matching_loss(loss_gradient(self.model, self.variables, seen, y), target_gradient)
                gradient += tape.gradient(loss, x)
            # The sign of Adam's step is that of its first moment: the second only divides.
            momentum = 0.9 * momentum + 0.1 * gradient
            x = tf.clip_by_value(x - rates[step] * tf.sign(momentum), low, high)
        return x, momentum

    def _pool_loss(self, x, y, target_x, target_y, stacks):
        count = tf.shape(stacks[0])[0]
        total = tf.zeros([])
        for pick in tf.range(count):
            target_gradient = self._load(stacks, pick, target_x, target_y)
            total += matching_loss(loss_gradient(self.model, self.variables, x, y), target_gradient)
        return total / tf.cast(count, tf.float32)

    def _load(self, stacks, pick, target_x, target_y):
        """Puts surrogate `pick` into the model. Returns the gradient of the targets' adversarial loss there."""
        for variable, stack in zip(self.model.weights, stacks):
            variable.assign(stack[pick])
        return loss_gradient(self.model, self.variables, target_x, target_y)


_graph = functools.lru_cache(maxsize=4)(_Graph)


def _augmented(x, seed):
    count, reach = tf.shape(x)[0], max(1, max(x.shape[1:3]) // 16)
    shifts = tf.random.stateless_uniform([count, 2], seed, -reach, reach + 1, tf.int32)
    mirror = tf.random.stateless_uniform([count], seed + 1) < 0.5
    return shift_and_mirror(x, shifts, mirror)


def _turns(count, steps, per_step, rng):
    """Which surrogates each step uses, int32 [steps, per_step]: all in a random order before any comes again."""
    rounds = -(-steps * per_step // count)
    order = np.concatenate([rng.permutation(count) for _ in range(rounds)])
    return order[: steps * per_step].reshape(steps, per_step).astype(np.int32)
