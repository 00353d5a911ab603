"""Signed descent of a crafting loss over a pool of surrogates: what gradient matching and MetaPoison share."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from tfshape import options
from tfshape.attacks import base, crafting, pooling, surrogates

BASE_RULES = ("gradient_norm", "random")


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of an attack that is a search.

    Attributes:
      steps: int >= 1, updates of the poison a restart; the step size falls linearly to 0.
      step_size: > 0, the first step of a pixel, as a share of eps.
      restarts: int >= 1; of as many random starts the one with the lowest loss over all surrogates is kept.
      ensemble: int >= 1, clean surrogates of different seeds.
      checkpoints: int >= 1, stages of its training at which each surrogate is used.
      surrogates_per_step: int >= 1, of the pool of ensemble * checkpoints that a step averages over, in random turns.
      retrain: int >= 0; as often, evenly spread over the steps, the pool is replaced by surrogates that are trained
        on the poison as it is then (Souri et al. 2022, arXiv 2106.08970, section 3.3).
      retrain_ensemble: int >= 1, the surrogates trained each time.
    """

    steps: int = options.integer(120, 1)
    step_size: float = options.real(0.1, 0, 2, above=True)
    restarts: int = options.integer(1, 1)
    ensemble: int = options.integer(8, 1)
    checkpoints: int = options.integer(5, 1)
    surrogates_per_step: int = options.integer(2, 1)
    retrain: int = options.integer(2, 0)
    retrain_ensemble: int = options.integer(2, 1)


class Searched(Options, base.Targeted):
    """An attack that is a search. Subclasses have an option `base_rule`, and `graph`."""

    def _perturbed(self, problem):
        search, rng = self._search(problem)
        return search.best(self.pool(problem), rng), search.bases

    def _search(self: Any, problem: base.Problem) -> Any:
        """A problem's `Search`, and the generator of its random draws."""
        intended, rng = problem.intended_label(), problem.generator("targeted")
        bases = choose_bases(problem, intended, self.pool(problem), self.base_rule, rng)
        graph, context = self.graph(problem, bases)
        context = [problem.target_x(), np.full(len(problem.targets), intended, np.int32), *context]
        return Search(self, problem, bases, graph, context), rng

    def graph(self, problem: base.Problem, bases: np.ndarray) -> tuple[Any, list]:
        """-> (the `Graph`, what its context has beside the targets and their intended labels)."""
        raise NotImplementedError


class Search:
    """The optimisation of one problem's poison.

    Args:
      options: the attack, with steps, step_size, restarts, surrogates_per_step, retrain, retrain_ensemble, checkpoints.
      problem, bases: the `Problem`, and the examples that the poison is made from, int [K].
      graph: a `Graph`.
      context: tensors that the graph's loss takes beside the poison and its labels.
    """

    def __init__(self, options, problem, bases, graph, context):
        self.options, self.problem, self.bases, self.graph, self.context = options, problem, bases, graph, context
        train = problem.dataset.train
        self.low, self.high = crafting.bounds(train.x[bases], problem.eps)
        self.y = train.y[bases]

    def best(self, pool, rng):
        """The poison x [K, ...] with the lowest loss over the final pool, of as many random starts as `restarts`."""
        results = [self.run(pool, restart, rng) for restart in range(self.options.restarts)]
        return min(results, key=lambda result: result[0])[1]

    def run(self, pool, restart, rng):
        """Returns (loss over the final pool, x [K, ...]) of one random start."""
        options, weights = self.options, pool.weights
        x = crafting.random_start(rng, self.low, self.high)
        momentum, rates = np.zeros_like(x), self.rates()
        for number, segment in enumerate(np.array_split(rates, options.retrain + 1)):
            if number:
                weights = self._retrain(x, pool.starts, restart, number)
            stacks = crafting.stacked(weights)
            picks = _turns(len(weights), len(segment), options.surrogates_per_step, rng)
            seed = np.int32(rng.integers(2**31))
            x, momentum = self.graph.steps(
                x, momentum, self.low, self.high, self.y, self.context, stacks, picks, segment, seed
            )
        return float(self.graph.pool_loss(x, self.y, self.context, stacks)), np.asarray(x)

    def rates(self):
        """The length of each step, float32 [steps]."""
        return crafting.falling_rates(self.options.step_size * self.problem.eps, self.options.steps)

    def _retrain(self, x, starts, restart, number):
        data = surrogates.training_set(self.problem, self.bases, x)
        weights = []
        for k in range(self.options.retrain_ensemble):
            seed = (self.problem.seed, "retrained_surrogate", restart, number, k)
            weights += surrogates.train(
                self.problem, seed, self.options.checkpoints, data, start=starts[k % len(starts)]
            )
        return weights


def run_together(searches, pool, rngs):
    """The poison of several searches with as many poisons and targets each, from one random start: x [P, K, ...].

    All take the same steps at the same time, on surrogates that take the turns of the first search.
    """
    first = searches[0]
    x = np.stack([crafting.random_start(rng, search.low, search.high) for search, rng in zip(searches, rngs)])
    low, high, y = (np.stack([getattr(search, name) for search in searches]) for name in ("low", "high", "y"))
    context = [np.stack(parts) for parts in zip(*(search.context for search in searches))]
    stacks = crafting.stacked(pool.weights)
    picks = _turns(len(pool.weights), first.options.steps, first.options.surrogates_per_step, rngs[0])
    seed = np.int32(rngs[0].integers(2**31))
    x, _ = first.graph.steps_together(x, np.zeros_like(x), low, high, y, context, stacks, picks, first.rates(), seed)
    return np.asarray(x)


class Graph:
    """The steps of a search, compiled once for all problems with one architecture.

    Subclasses give `loss_and_gradient` and `loss`, of the surrogate whose weights are in `model`.
    """

    def __init__(self, problem, surrogates_per_step, context):
        """`context`: a list of `tf.TensorSpec`s."""
        self.model = pooling.with_cheap_second_derivatives(surrogates.new_model(problem))
        images, labels = tf.TensorSpec([None, *problem.dataset.input_shape]), tf.TensorSpec([None], tf.int32)
        stacks = crafting.stack_specs(self.model)
        picks, rates = tf.TensorSpec([None, surrogates_per_step], tf.int32), tf.TensorSpec([None])
        rest = [stacks, picks, rates, tf.TensorSpec([], tf.int32)]
        self.steps = tf.function(self._steps, [*[images] * 4, labels, context, *rest])
        many = [
            [tf.TensorSpec([None, *spec.shape], spec.dtype) for spec in specs] for specs in ([images, labels], context)
        ]
        (images_each, labels_each), context_each = many
        self.steps_together = tf.function(
            functools.partial(self._steps, together=True), [*[images_each] * 4, labels_each, context_each, *rest]
        )
        self.pool_loss = tf.function(self._pool_loss, [images, labels, context, stacks])

    def loss_and_gradient(self, x, y, context, seed):
        """The crafting loss of poison x [K, ...] with labels y [K], a scalar, and its gradient by x."""
        raise NotImplementedError

    def loss(self, x, y, context):
        """The crafting loss alone, without anything random."""
        raise NotImplementedError

    def _steps(self, x, momentum, low, high, y, context, stacks, picks, rates, seed, together=False):
        """together: whether the first six have one axis more, of problems."""
        for step in tf.range(tf.shape(rates)[0]):
            gradient = tf.zeros_like(x)
            for turn in range(picks.shape[1]):
                crafting.load(self.model, stacks, picks[step, turn])
                key = tf.stack([seed, step])
                if together:
                    gradient += tf.vectorized_map(
                        lambda each, key=key: self.loss_and_gradient(each[0], each[1], each[2], key)[1], (x, y, context)
                    )
                else:
                    gradient += self.loss_and_gradient(x, y, context, key)[1]
            # The sign of Adam's step is that of its first moment: the second only divides.
            momentum = 0.9 * momentum + 0.1 * gradient
            x = crafting.signed_step(x, momentum, rates[step], low, high)
        return x, momentum

    def _pool_loss(self, x, y, context, stacks):
        count = tf.shape(stacks[0])[0]
        total = tf.zeros([])
        for pick in tf.range(count):
            crafting.load(self.model, stacks, pick)
            total += self.loss(x, y, context)
        return total / tf.cast(count, tf.float32)


class Key:
    """A problem, equal to every other whose searches take the same compiled steps."""

    def __init__(self, problem):
        self.problem = problem
        dataset = problem.dataset
        architecture = surrogates.architecture(problem)
        self._key = architecture, dataset.input_shape, dataset.num_classes, problem.scenario, problem.shaping

    def __eq__(self, other):
        return self._key == other._key

    def __hash__(self):
        return hash(self._key)


def choose_bases(problem, label, pool, rule, rng):
    """Sorted indices [num_poisons] of training examples of class `label`.

    rule: "gradient_norm", those with the largest gradients on the finished surrogates, or "random".
    """
    candidates = problem.candidates(label)
    if rule == "random":
        return np.sort(rng.choice(candidates, problem.num_poisons, replace=False))
    of_class = np.flatnonzero(problem.dataset.train.y == label)
    norms = pool.gradient_norms(label)[np.isin(of_class, candidates)]
    return np.sort(candidates[np.argsort(-norms, kind="stable")[: problem.num_poisons]])


def clean_examples(problem, bases):
    """What the victim trains on beside the poison, (x, y)."""
    rest = np.setdiff1d(problem.eligible_examples(), bases)
    return problem.dataset.train.x[rest], problem.dataset.train.y[rest]


def _turns(count, steps, per_step, rng):
    """Which surrogates each step uses, int32 [steps, per_step]: all in a random order before any comes again."""
    rounds = -(-steps * per_step // count)
    order = np.concatenate([rng.permutation(count) for _ in range(rounds)])
    return order[: steps * per_step].reshape(steps, per_step).astype(np.int32)
