"""Attacks on linear models: slab, influence, KKT."""

import numpy as np
import pytest
from indiscriminate_helpers import (
    accuracy,
    dresses_and_coats,
    flips_of_as_many,
    make_blobs,
    make_problem,
    random_inputs,
    same,
)
from scipy import optimize
from selection import most_slow

import tfshape as ts
from tfshape.attacks import linear
from tfshape.attacks.influence import Learner
from tfshape.attacks.slab import Worst

RECIPE = ts.training.Recipe("adam", 0.01, batch_size=60, epochs=10)
SMALL = make_blobs(classes=2)
ATTACKS = [
    ts.attacks.get("slab")(quantile=0.9, steps=40),
    ts.attacks.get("influence")(steps=6),
    ts.attacks.get("kkt")(decoys=1),
]


def problem_of(share, dataset=None, **changes):
    dataset = dataset or dresses_and_coats()
    return make_problem(dataset, "lr", RECIPE, round(share * len(dataset.train)), **changes)


@pytest.mark.one_stack
@pytest.mark.parametrize("attack", most_slow(ATTACKS, ATTACKS[0]), ids=lambda attack: attack.name)
def test_it_harms_more_than_flips_and_random_inputs_of_the_same_number(attack):
    problem = problem_of(0.2)
    poisons = attack.craft(problem)
    assert len(poisons) == 240 and (poisons.base == -1).all()
    harmed = np.mean([accuracy(problem, poisons, seed) for seed in (100, 101)])
    assert harmed < accuracy(problem, None) - 0.02
    assert harmed < accuracy(problem, flips_of_as_many(problem, poisons)) - 0.01
    assert harmed < accuracy(problem, random_inputs(poisons)) - 0.01


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_poison_is_in_the_box_and_passes_its_filters_after_saving_and_comes_out_the_same_again(tmp_path, attack):
    problem = problem_of(0.2, SMALL)
    attack.craft(problem).save(tmp_path / "p.npz")
    poisons = ts.poison.Poisons.load(tmp_path / "p.npz")
    assert poisons.x.min() >= 0 and poisons.x.max() <= 1 and set(poisons.y) <= {0, 1}
    filters = linear.Filters.fit(SMALL.train.x, SMALL.train.y, attack.quantile)
    assert filters.passes(poisons.x, poisons.y).all()
    assert same(poisons, attack.craft(problem))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_it_refuses_what_is_not_a_linear_model_of_two_classes(attack):
    with pytest.raises(ValueError, match=r"must have 2 classes for attack .*, got 4"):
        attack.craft(make_problem(make_blobs(), "lr", RECIPE, 30))
    with pytest.raises(ValueError, match=r"model must be lr for attack .*, got 'mlp'"):
        attack.craft(make_problem(SMALL, "mlp", RECIPE, 30))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("slab", {"quantile": 1.0}),
        ("slab", {"quantile": 0}),
        ("slab", {"steps": 1}),
        ("slab", {"learning_rate": 0}),
        ("slab", {"radius": float("inf")}),
        ("slab", {"most": 1.1}),
        ("slab", {"refits": -1}),
        ("influence", {"steps": 0}),
        ("influence", {"step_size": -1}),
        ("influence", {"l2": 0}),
        ("influence", {"quantile": 1.5}),
        ("kkt", {"decoys": 9}),
        ("kkt", {"l2": True}),
        ("gradient_canceling", {"corruption": 0}),
        ("gradient_canceling", {"steps": 0.5}),
        ("unlearnable", {"per": "batch"}),
        ("unlearnable", {"step_size": 3}),
        ("unlearnable", {"grid": 0}),
        ("unlearnable", {"blind": 1}),
        ("unlearnable", {"rounds": 0}),
        ("adversarial_poison", {"objective": "best"}),
        ("adversarial_poison", {"ensemble": 0}),
        ("label_flip", {"strategy": "worst"}),
    ],
)
def test_a_bad_option_is_named(name, options):
    (option,) = options
    with pytest.raises(ValueError, match=option):
        ts.attacks.get(name)(**options)


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_filters_keep_the_share_of_each_class_that_they_are_fitted_for(quantile):
    train = SMALL.train
    filters = linear.Filters.fit(train.x, train.y, quantile)
    for label in (0, 1):
        own = train.x[train.y == label]
        away = own - filters.means[label]
        assert np.mean(np.linalg.norm(away, axis=1) <= filters.radii[label]) == pytest.approx(quantile, abs=0.01)
        assert np.mean(np.abs(away @ filters.axis) <= filters.widths[label]) == pytest.approx(quantile, abs=0.01)
        outside = filters.means[label] + 1.001 * filters.widths[label] * filters.axis
        assert not filters.passes(outside[None], np.array([label]))[0]
    assert not filters.passes(train.x, train.y).all()


def test_slab_poison_takes_the_means_along_and_passes_about_them():
    problem, train = problem_of(0.1), dresses_and_coats().train
    known, moving = (ts.attacks.get("slab")(steps=20, refits=refits).craft(problem) for refits in (0, 1))
    assert known.config["passes"] == moving.config["passes"] == 1.0
    true = linear.Filters.fit(train.x, train.y, 0.65)
    assert true.passes(known.x, known.y).all() and not true.passes(moving.x, moving.y).any()
    about = linear.Filters.fit(train.x, train.y, 0.65, (moving.x, moving.y))
    assert about.passes(moving.x, moving.y).all()
    for label in (0, 1):
        x = np.concatenate([linear.rows(data.x[data.y == label]) for data in (train, moving)])
        np.testing.assert_allclose(about.means[label], x.mean(axis=0), rtol=1e-5, atol=1e-6)
    away = [linear.rows(found.x) - true.means[found.y] for found in (known, moving)]
    margins = [np.mean(linear.signs(found.y) * (x @ true.axis)) for x, found in zip(away, (known, moving))]
    assert margins[1] < margins[0] < 0


def test_the_worst_point_is_what_another_solver_finds_and_its_bound_holds(rng):
    filters = linear.Filters.fit(SMALL.train.x, SMALL.train.y, 0.65)
    for label in (0, 1):
        theta, sign = rng.normal(size=41), linear.signs(label)
        x, margin, least = Worst(filters, label)(theta)
        assert margin == pytest.approx(sign * (x @ theta[:-1] + theta[-1]))
        other = smallest(filters, label, sign * theta[:-1]) + sign * theta[-1]
        assert other == pytest.approx(margin, abs=1e-3)
        assert least <= other + 1e-6 and least == pytest.approx(margin, abs=1e-3)


def smallest(filters, label, direction):
    """The least direction · x over a class's feasible set, by sequential quadratic programs."""
    mean, width, axis = filters.means[label], filters.widths[label], filters.axis
    limits = [
        {"type": "ineq", "fun": lambda z: filters.radii[label] ** 2 - np.sum((z - mean) ** 2)},
        {"type": "ineq", "fun": lambda z: width - axis @ (z - mean)},
        {"type": "ineq", "fun": lambda z: width + axis @ (z - mean)},
    ]
    box, slope = [(0, 1)] * len(mean), lambda z: direction
    return optimize.minimize(lambda z: z @ direction, mean, jac=slope, bounds=box, constraints=limits).fun


def test_no_poison_we_have_costs_the_best_model_more_than_the_slab_bound(rng):
    """The bound is on the hinge loss of the best model, for any poison that the filters let through."""
    problem = problem_of(0.1, SMALL)
    poisons = ts.attacks.get("slab")(steps=60, radius=1.0).craft(problem)
    bound, train = poisons.config["loss_bound"], SMALL.train
    clean = linear.with_one(linear.rows(train.x)) * linear.signs(train.y)[:, None]

    def best_loss(x, y):
        import cvxpy

        poison = linear.with_one(linear.rows(x)) * linear.signs(y)[:, None]
        theta = cvxpy.Variable(clean.shape[1])
        loss = cvxpy.sum(cvxpy.pos(1 - clean @ theta)) + cvxpy.sum(cvxpy.pos(1 - poison @ theta))
        return linear.solve(cvxpy.Problem(cvxpy.Minimize(loss / len(train)), [cvxpy.norm(theta) <= 1.0]))

    filters = linear.Filters.fit(train.x, train.y, 0.65)
    oracles = [Worst(filters, label) for label in (0, 1)]
    others = np.array([oracles[k % 2](rng.normal(size=41))[0] for k in range(30)])
    attacked = best_loss(poisons.x, poisons.y)
    assert attacked <= bound
    assert best_loss(others, np.arange(30) % 2) <= bound
    assert best_loss(train.x[:1], train.y[:1]) < 0.9 * attacked  # and it is not so high as to say nothing
    assert bound < 1.2 * attacked


def test_the_influence_gradient_is_that_of_training_again(rng):
    learner = Learner(SMALL.train, share=0.1, l2=0.01)
    points = [rng.random(40), rng.random(40)]
    slopes = learner.uphill(learner.fit(points), points)
    for label in (0, 1):
        for entry in (3, 17):
            losses = []
            for sign in (1, -1):
                moved = [x.copy() for x in points]
                moved[label][entry] += sign * 1e-2
                losses.append(learner.clean_loss(learner.fit(moved)))
            assert slopes[label][entry] == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=0.02, abs=1e-6)


def test_kkt_poison_cancels_most_of_the_gradient_at_its_decoy_and_raises_the_loss():
    poisons = ts.attacks.get("kkt")(decoys=2).craft(problem_of(0.2, SMALL))
    assert poisons.config["residual"] < 0.7
    assert poisons.config["loss_after"] > 1.15 * poisons.config["loss_before"]
