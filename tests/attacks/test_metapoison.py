"""MetaPoison: that it works, that its gradient is exact, and the bounds it keeps."""

import dataclasses

import numpy as np
import pytest
import saved_poison
import tensorflow as tf

import tfshape as ts
from tfshape.attacks import metapoison, search, surrogates

RECIPE = ts.training.Recipe("adam", 2e-3, batch_size=32, epochs=10)
SMALL = dict(steps=60, ensemble=3, checkpoints=3, retrain=1, retrain_ensemble=1, clean_examples=8)
EPS = 0.2


def make_blobs(classes=4, size=40):
    """Four overlapping clouds of 75 training examples each."""
    generator = np.random.default_rng(0)
    centers = generator.uniform(0.3, 0.7, (classes, size))

    def split(count):
        y = np.arange(count, dtype=np.int32) % classes
        x = centers[y] + 0.2 * generator.normal(size=(count, size))
        return ts.datasets.Split(np.clip(x, 0, 1).astype(np.float32), y)

    return ts.datasets.Dataset("blobs", split(300), split(200), classes, (size,))


BLOBS = make_blobs()


def make_problem(attack, seed=0, **changes):
    settings = dict(model="mlp", recipe=RECIPE, num_poisons=24, seed=seed, eps=EPS)
    problem = ts.attacks.Problem(BLOBS, **{**settings, **changes})
    if "targets" in changes:
        return problem
    target = ts.attacks.choose_target("runner_up", BLOBS, seed, attack.test_logits(problem))
    return dataclasses.replace(problem, targets=(target,))


def victim_says(problem, x, base, seed):
    model = ts.models.build(problem.model, BLOBS.input_shape, BLOBS.num_classes, seed=seed)
    ts.training.fit(model, ts.attacks.training_set(problem, base, x).as_dataset(), problem.recipe, seed)
    return int(ts.models.predict(model, problem.target_x())[0].argmax())


@pytest.mark.slow
def test_it_turns_victims_of_other_seeds_and_random_noise_of_the_same_size_does_not():
    attack = ts.attacks.get("metapoison")(**SMALL)
    hits = {"attack": 0, "random": 0, "control": 0}
    for seed in range(4):
        problem = make_problem(attack, seed)
        poisons = attack.craft(problem)
        clean = BLOBS.train.x[poisons.base]
        generator = np.random.default_rng(seed)
        noise = np.clip(clean + generator.choice([-EPS, EPS], clean.shape), 0, 1).astype(np.float32)
        for name, x in (("attack", poisons.x), ("random", noise), ("control", clean)):
            hits[name] += victim_says(problem, x, poisons.base, 100 + seed) == problem.targets[0].intended_label
    assert hits["attack"] >= 3
    assert hits["random"] <= 1
    assert hits["control"] <= 1


@pytest.mark.parametrize("inner_steps", [1, 3])
def test_the_gradient_is_that_of_the_unrolled_training(inner_steps):
    """Against a functional mlp whose weights are tensors, so that one tape sees the whole training."""
    problem = make_problem(None, targets=(ts.attacks.Target(0, 0, 2), ts.attacks.Target(4, 0, 2)))
    graph = metapoison._Graph(problem, 1, inner_steps, 0.3, 8)
    start = ts.models.build("mlp", BLOBS.input_shape, BLOBS.num_classes, seed=5).get_weights()
    graph.model.set_weights(start)
    x, y, seed = tf.constant(BLOBS.train.x[:6]), BLOBS.train.y[:6], tf.constant([3, 4])
    intended = np.array([2, 2], np.int32)
    context = [problem.target_x(), intended, BLOBS.train.x[10:], BLOBS.train.y[10:]]

    def logits(weights, x):
        for i in (0, 2):
            x = tf.nn.relu(x @ weights[i] + weights[i + 1])
        return x @ weights[4] + weights[5]

    with tf.GradientTape() as tape:
        tape.watch(x)
        weights = [tf.constant(weight) for weight in start]
        for step in range(inner_steps):
            clean_x, clean_y = graph._clean_batch(*context[2:], seed, step)
            with tf.GradientTape() as inner:
                inner.watch(weights)
                said = logits(weights, tf.concat([x, clean_x], 0))
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.concat([y, clean_y], 0), said)
                loss = tf.reduce_mean(losses)
            gradient = inner.gradient(loss, weights)
            length = tf.sqrt(tf.add_n([tf.reduce_sum(part**2) for part in gradient]))
            weights = [w - 0.3 * part / length for w, part in zip(weights, gradient)]
        outer = metapoison.margin(logits(weights, problem.target_x()), intended)
    wanted = tape.gradient(outer, x)
    wanted = (wanted / tf.reduce_mean(tf.abs(wanted))).numpy()
    for run in (graph.loss_and_gradient, tf.function(graph.loss_and_gradient)):
        found, gradient = run(x, y, context, seed)
        np.testing.assert_allclose(found, outer, rtol=1e-5)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-3, atol=2e-3 * np.abs(wanted).max())
        for weight, first in zip(graph.model.get_weights(), start):
            np.testing.assert_array_equal(weight, first)


def test_the_clean_examples_of_every_step_are_others_and_follow_the_seed():
    problem = make_problem(None, targets=(ts.attacks.Target(0, 0, 2),))
    graph = metapoison._Graph(problem, 1, 2, 0.1, 16)
    keys = [([7, 0], 0), ([7, 0], 1), ([7, 1], 0), ([7, 1], 1), ([8, 0], 0)]
    drawn = [graph._clean_batch(BLOBS.train.x, BLOBS.train.y, tf.constant(seed), step) for seed, step in keys]
    assert len({x.numpy().tobytes() for x, _ in drawn}) == len(keys)
    again = graph._clean_batch(BLOBS.train.x, BLOBS.train.y, tf.constant([7, 0]), 0)
    np.testing.assert_array_equal(again[0], drawn[0][0])


def test_the_margin_is_the_other_best_less_the_intended():
    logits = tf.constant([[1.0, 5.0, 2.0], [4.0, 0.0, 1.0]])
    assert float(metapoison.margin(logits, np.array([0, 0], np.int32))) == pytest.approx((4 - 3) / 2)


@pytest.mark.parametrize("eps", [8 / 255, EPS, 1.0])
def test_poison_stays_within_eps_and_the_unit_box_exactly_and_labels_are_untouched(tmp_path, eps):
    attack = ts.attacks.get("metapoison")(steps=10, step_size=1.0, ensemble=1, checkpoints=1, retrain=0)
    poisons = attack.craft(make_problem(attack, eps=eps))
    assert len(poisons) == 24
    saved_poison.assert_within_eps_with_labels_untouched(
        poisons, tmp_path / "poisons.npz", BLOBS.train, eps, 0.99 * min(eps, 0.9)
    )


@pytest.mark.slow
def test_the_same_seed_crafts_the_same_bits_and_another_seed_does_not():
    attack = ts.attacks.get("metapoison")(steps=8, ensemble=2, checkpoints=2, retrain=1, retrain_ensemble=1)
    problem = make_problem(attack)
    first = attack.craft(problem)
    surrogates._pool.cache_clear()
    metapoison._graph.cache_clear()
    again = attack.craft(problem)
    np.testing.assert_array_equal(first.x, again.x)
    other = attack.craft(dataclasses.replace(problem, seed=1))
    assert (first.x != other.x).any()


def test_poison_is_not_among_the_clean_examples():
    problem = make_problem(None, targets=(ts.attacks.Target(0, 0, 2),))
    bases = np.array([2, 6, 10])
    x, y = search.clean_examples(problem, bases)
    np.testing.assert_array_equal(x, np.delete(BLOBS.train.x, bases, 0))
    np.testing.assert_array_equal(y, np.delete(BLOBS.train.y, bases))


@pytest.mark.parametrize(
    "option",
    [
        {"steps": 0},
        {"step_size": 0},
        {"restarts": 0},
        {"ensemble": 0},
        {"checkpoints": 0},
        {"surrogates_per_step": 0},
        {"retrain": -1},
        {"retrain_ensemble": 0},
        {"inner_steps": 0},
        {"inner_rate": float("inf")},
        {"clean_examples": -1},
        {"base_rule": "nearest"},
    ],
)
def test_a_bad_option_is_named(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        ts.attacks.get("metapoison")(**option)
