"""Attacks on any model: label flips, unlearnable examples, adversarial poison, gradient canceling."""

import dataclasses
import functools

import numpy as np
import pytest
from indiscriminate_helpers import (
    accuracy,
    flips_of_as_many,
    make_blobs,
    make_problem,
    random_inputs,
    random_perturbation,
    same,
)
from selection import most_slow

import tfshape as ts
from tfshape.attacks import surrogates

BLOBS, IMAGES = make_blobs(), make_blobs((8, 8, 1))
RECIPE = ts.training.Recipe("adam", 2e-3, batch_size=32, epochs=10)
EPS = 0.25
PERTURBING = [
    ts.attacks.get("unlearnable")(),
    ts.attacks.get("unlearnable")(grid=None, blind=False),
    ts.attacks.get("unlearnable")(per="sample", noise_steps=5),
    ts.attacks.get("adversarial_poison")(steps=15),
    ts.attacks.get("adversarial_poison")(objective="untargeted", steps=15),
]


@pytest.mark.parametrize("strategy", ["random", "pair", "near_boundary", "loss_maximising"])
def test_flips_have_other_labels_and_untouched_inputs_and_come_out_the_same_again(strategy):
    attack = ts.attacks.get("label_flip")(strategy)
    problem = make_problem(BLOBS, "mlp", RECIPE, 60)
    poisons = attack.craft(problem)
    assert len(poisons) == len(np.unique(poisons.base)) == 60
    np.testing.assert_array_equal(poisons.x, BLOBS.train.x[poisons.base])
    steps = (poisons.y - BLOBS.train.y[poisons.base]) % 4
    assert (steps != 0).all() and set(poisons.y) <= {0, 1, 2, 3}
    assert set(steps) == ({1} if strategy == "pair" else {1, 2, 3})
    assert same(poisons, attack.craft(problem))
    assert attack.craft(dataclasses.replace(problem, num_poisons=300)).y.shape == (300,)


def test_random_flips_are_those_of_the_transform():
    poisons = ts.attacks.get("label_flip")().craft(make_problem(BLOBS, "mlp", RECIPE, 60, seed=5))
    flipped = BLOBS.train.as_dataset().apply(ts.poison.flip_labels(0.2, 4, seed=5))
    _, y = flipped.batch(300).get_single_element()
    expected = BLOBS.train.y.copy()
    expected[poisons.base] = poisons.y
    np.testing.assert_array_equal(y, expected)


def test_interpolation_mixes_pairs_that_do_not_depend_on_alpha():
    problem = make_problem(BLOBS, "mlp", RECIPE, 40)
    mixed = {a: ts.attacks.get("interpolation")(a, base_class=2, other_class=1).craft(problem) for a in (0.0, 0.3, 1.0)}
    for label, alpha in ((2, 0.0), (1, 1.0)):
        rows = (mixed[alpha].x[:, None] == BLOBS.train.x[None]).all(2).argmax(1)
        np.testing.assert_array_equal(mixed[alpha].x, BLOBS.train.x[rows])
        assert (BLOBS.train.y[rows] == label).all() and len(np.unique(rows)) == 40
        assert (mixed[alpha].y == 2).all() and (mixed[alpha].base == -1).all()
    np.testing.assert_allclose(mixed[0.3].x, 0.7 * mixed[0.0].x + 0.3 * mixed[1.0].x, atol=1e-6)
    assert same(mixed[0.3], ts.attacks.get("interpolation")(0.3, base_class=2, other_class=1).craft(problem))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": -0.1}, "alpha must be a number >= 0 and <= 1"),
        ({"base_class": 1}, "other_class must be another class"),
    ],
)
def test_bad_options_of_interpolation_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ts.attacks.get("interpolation")(**options)


@pytest.mark.slow
def test_chosen_flips_harm_more_than_random_ones():
    problem = make_problem(BLOBS, "mlp", RECIPE, 100)
    harmed = {}
    for strategy in ("random", "near_boundary", "loss_maximising"):
        poisons = ts.attacks.get("label_flip")(strategy).craft(problem)
        harmed[strategy] = np.mean([accuracy(problem, poisons, seed) for seed in (100, 101, 102)])
    assert harmed["random"] < accuracy(problem, None) - 0.04
    assert harmed["loss_maximising"] < harmed["random"] - 0.08
    assert harmed["near_boundary"] < harmed["random"] - 0.03


def test_flips_are_ranked_by_the_surrogate():
    problem = make_problem(BLOBS, "mlp", RECIPE, 40)
    model = surrogates.new_model(problem)
    model.set_weights(surrogates.pool(problem, 0, 1, 1).finished[0])
    logits, rows = ts.models.predict(model, BLOBS.train.x), np.arange(300)
    own = logits[rows, BLOBS.train.y]
    rival = np.where(np.eye(4, dtype=bool)[BLOBS.train.y], -np.inf, logits).max(axis=1)
    last = logits.min(axis=1)
    near = ts.attacks.get("label_flip")("near_boundary").craft(problem).base
    sure = ts.attacks.get("label_flip")("loss_maximising").craft(problem).base
    margin, cost = np.abs(own - rival), own - last
    assert margin[near].max() <= np.delete(margin, near).min()
    assert cost[sure].min() >= np.delete(cost, sure).max()


@pytest.mark.one_stack
@pytest.mark.parametrize("attack", most_slow(PERTURBING, *PERTURBING[2:4]), ids=str)
def test_perturbing_every_example_harms_and_random_signs_of_that_size_do_not(attack):
    problem = make_problem(IMAGES, "cnn", RECIPE, 300, eps=EPS)
    poisons = attack.craft(problem)
    harmed, crippled = accuracy(problem, poisons), accuracy(problem, random_perturbation(problem, poisons))
    assert crippled > 0.85
    assert harmed < crippled - (0.08 if "sample" in str(attack) else 0.2)


@pytest.mark.slow
def test_unlearnable_examples_take_40_points_from_a_cnn_and_random_signs_do_not():
    dataset = ts.datasets.load("fashion_mnist_mini")
    problem = make_problem(dataset, "cnn", ts.training.Recipe("adam", 1e-3, 128, 5), 6000, eps=0.5)
    poisons = ts.attacks.get("unlearnable")(rounds=3).craft(problem)
    clean = accuracy(problem, None)
    assert accuracy(problem, poisons) <= clean - 0.4
    assert accuracy(problem, random_perturbation(problem, poisons)) >= clean - 0.2


@pytest.mark.parametrize("attack", PERTURBING, ids=str)
def test_perturbations_stay_within_eps_and_the_box_and_labels_are_untouched(attack):
    problem = make_problem(BLOBS, "mlp", RECIPE, 90, eps=0.1, seed=3)
    attack = dataclasses.replace(attack, step_size=1.0)
    poisons = attack.craft(problem)
    clean = BLOBS.train.x[poisons.base].astype(np.float64)
    assert len(np.unique(poisons.base)) == 90
    assert (np.abs(poisons.x.astype(np.float64) - clean) <= 0.1).all()
    assert poisons.x.min() >= 0 and poisons.x.max() <= 1
    assert np.abs(poisons.x - clean).max() > 0.05
    np.testing.assert_array_equal(poisons.y, BLOBS.train.y[poisons.base])
    assert same(poisons, attack.craft(problem))
    assert not np.array_equal(poisons.base, attack.craft(dataclasses.replace(problem, seed=4)).base)


@pytest.mark.parametrize(("dataset", "model"), [(BLOBS, "mlp"), (IMAGES, "cnn")], ids=["rows", "images"])
def test_class_wise_noise_is_one_perturbation_a_class_and_one_number_a_field(dataset, model):
    problem = make_problem(dataset, model, RECIPE, 300, eps=0.1)
    poisons = ts.attacks.get("unlearnable")(grid=3, rounds=2).craft(problem)
    clean = dataset.train.x
    fields = (slice(0, 3), slice(3, 6), slice(6, 8))
    moved = np.where((clean > 0.1) & (clean < 0.9), poisons.x - clean, np.nan)
    for label in range(4):
        own = moved[dataset.train.y == label]
        noise = np.nanmean(own, axis=0)
        assert np.nanmax(np.abs(own - noise)) < 1e-6
        if dataset is IMAGES:
            for rows in fields:
                for columns in fields:
                    assert np.ptp(noise[rows, columns]) < 1e-6


def test_gradient_canceling_moves_a_convex_victim_and_random_inputs_or_flips_do_not():
    problem = make_problem(BLOBS, "lr", ts.training.Recipe("adam", 1e-2, 32, 30), 100)
    attack = ts.attacks.get("gradient_canceling")(corruption=0.1)
    poisons = attack.craft(problem)
    assert poisons.config["residual"] < 0.25 < poisons.config["residual_before"]
    assert (poisons.base == -1).all() and poisons.x.min() >= 0 and poisons.x.max() <= 1
    harmed = accuracy(problem, poisons)
    assert harmed < accuracy(problem, random_inputs(poisons)) - 0.15
    assert harmed < accuracy(problem, flips_of_as_many(problem, poisons)) - 0.08
    assert same(poisons, attack.craft(problem))


def test_gradient_canceling_takes_the_target_whose_poison_harms_most():
    problem = make_problem(BLOBS, "lr", ts.training.Recipe("adam", 1e-2, 32, 30), 30)
    attack = functools.partial(ts.attacks.get("gradient_canceling"), steps=100)
    poisons = attack().craft(problem)
    taken = poisons.config["target_corruption"]
    assert same(poisons, attack(corruption=taken).craft(problem))
    harmed = accuracy(problem, poisons)
    assert harmed < accuracy(problem, random_inputs(poisons)) - 0.08
    assert harmed < accuracy(problem, attack(corruption=0.00625).craft(problem)) - 0.08


def test_gradient_canceling_lowers_the_gradient_of_a_network_at_its_target():
    attack = ts.attacks.get("gradient_canceling")(corruption=0.02, steps=100)
    found = attack.craft(make_problem(BLOBS, "mlp", RECIPE, 100)).config
    assert found["residual"] < 0.7
    fewer = attack.craft(make_problem(BLOBS, "mlp", RECIPE, 3)).config
    assert found["residual"] < fewer["residual"] <= fewer["residual_before"]
    too_far = dataclasses.replace(attack, corruption=0.1).craft(make_problem(BLOBS, "mlp", RECIPE, 100)).config
    assert too_far["residual"] > 0.9
