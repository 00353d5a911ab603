"""Feature collision, the two polytopes and the watermark: that they work, why they work, and the bounds they keep."""

import dataclasses

import keras
import numpy as np
import pytest
import saved_poison
import tensorflow as tf

import tfshape as ts
from tfshape.attacks import convex_polytope, feature_space, surrogates

EPS = 0.25
CLEAN = ts.training.Recipe("adam", 2e-3, batch_size=32, epochs=6)
HEAD = ts.training.Recipe("adam", 3e-2, batch_size=8, epochs=40)
ATTACKS = {
    "feature_collision": {"steps": 150, "ensemble": 1},
    "bullseye_polytope": {"steps": 80, "ensemble": 1},
    "convex_polytope": {"steps": 80, "ensemble": 1},
}
ALL = {**ATTACKS, "watermark": {"ensemble": 1}}


def make_blobs(classes=4, size=40):
    generator = np.random.default_rng(0)
    centers = generator.uniform(0.3, 0.7, (classes, size))

    def split(count):
        y = np.arange(count, dtype=np.int32) % classes
        x = centers[y] + 0.15 * generator.normal(size=(count, size))
        return ts.datasets.Split(np.clip(x, 0, 1).astype(np.float32), y)

    return ts.datasets.Dataset("blobs", split(300), split(200), classes, (size,))


BLOBS = make_blobs()
FEW = ts.attacks.finetune_set(BLOBS, 40, 0)


@pytest.fixture(scope="module")
def initial():
    model = ts.models.build("mlp", BLOBS.input_shape, BLOBS.num_classes, seed=50)
    ts.training.fit(model, BLOBS.train.as_dataset(), CLEAN, 50)
    return model


def make_problem(attack, initial, seed=0, **changes):
    settings = dict(num_poisons=3, scenario="transfer", initial_recipe=CLEAN, finetune_indices=FEW, eps=EPS)
    problem = ts.attacks.Problem(BLOBS, "mlp", HEAD, seed=seed, initial_model=initial, **{**settings, **changes})
    if "targets" in changes:
        return problem
    target = ts.attacks.choose_target("random", BLOBS, seed, attack.test_logits(problem))
    return dataclasses.replace(problem, targets=(target,))


def make_attack(name, **changes):
    return ts.attacks.get(name)(**{**ALL[name], **changes})


def victim_says(problem, x, base, initial, seed):
    """The class that a victim with a new last layer gives the target."""
    model = ts.training.starting_model("transfer", "mlp", BLOBS, seed, initial.get_weights())
    ts.training.fit(model, ts.attacks.training_set(problem, base, x).as_dataset(), HEAD, seed)
    return int(ts.models.predict(model, problem.target_x())[0].argmax())


def gap(model, x, target):
    """How far the features of x are from the target's, relative to its norm: each, and their mean's."""
    found, wanted = (np.asarray(ts.models.features(model)(part)) for part in (x, target))
    scale = np.linalg.norm(wanted)
    return np.linalg.norm(found - wanted, axis=1) / scale, np.linalg.norm(found.mean(0) - wanted) / scale


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_it_turns_victims_that_keep_the_features_and_a_shuffled_perturbation_does_not(initial, name):
    attack = make_attack(name, opacity=0.9) if name == "watermark" else make_attack(name)
    changes = dict(num_poisons=5, eps=1.0) if name == "watermark" else {}
    hits = {"attack": 0, "shuffled": 0, "control": 0}
    for seed in range(4):
        problem = make_problem(attack, initial, seed, **changes)
        poisons = attack.craft(problem)
        clean = BLOBS.train.x[poisons.base]
        generator = np.random.default_rng(seed)
        shuffled = np.clip(clean + generator.permuted(poisons.x - clean, axis=1), 0, 1)
        for key, x in (("attack", poisons.x), ("shuffled", shuffled), ("control", clean)):
            said = victim_says(problem, x, poisons.base, initial, 100 + seed)
            hits[key] += said == problem.targets[0].intended_label
    assert hits["attack"] >= 3
    assert hits["shuffled"] <= 1
    assert hits["control"] <= 1


@pytest.mark.parametrize("eps", [8 / 255, EPS, 1.0])
@pytest.mark.parametrize("name", ALL)
def test_poison_stays_within_eps_and_the_unit_box_exactly_and_labels_are_untouched(tmp_path, initial, name, eps):
    attack = make_attack(name, opacity=0.9) if name == "watermark" else make_attack(name)
    poisons = attack.craft(make_problem(attack, initial, eps=eps))
    assert len(poisons) == 3 and set(poisons.base) <= set(FEW)
    assert poisons.attack == name and poisons.config["scenario"] == "transfer"
    saved_poison.assert_within_eps_with_labels_untouched(
        poisons, tmp_path / "poisons.npz", BLOBS.train, eps, 0.9 * min(eps, 0.3)
    )


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_crafts_the_same_bits_and_another_seed_does_not(initial, name):
    attack = make_attack(name, base_rule="random") if name in ATTACKS else make_attack(name)
    problem = make_problem(attack, initial)
    first = attack.craft(problem)
    surrogates._pool.cache_clear()
    feature_space._space.cache_clear()
    np.testing.assert_array_equal(first.x, attack.craft(problem).x)
    other = [attack.craft(dataclasses.replace(problem, seed=seed)) for seed in (1, 2, 3)]
    assert any(first.base.tolist() != poisons.base.tolist() for poisons in other)


def test_a_collision_is_near_the_target_and_the_penalty_keeps_it_near_its_base(initial):
    gaps, moves = [], []
    for beta in (0, 0.05, 50):
        attack = make_attack("feature_collision", beta=beta, steps=300)
        problem = make_problem(attack, initial, eps=1.0)
        poisons = attack.craft(problem)
        gaps.append(gap(initial, poisons.x, problem.target_x())[0].max())
        moves.append(np.linalg.norm(poisons.x - BLOBS.train.x[poisons.base]))
    assert gaps[0] < 0.05 and gaps[0] <= gaps[1] < gaps[2]
    assert moves[2] < moves[1]


def test_a_bullseye_is_hit_by_the_mean(initial):
    attack = make_attack("bullseye_polytope", steps=300)
    problem = make_problem(attack, initial)
    poisons = attack.craft(problem)
    before = gap(initial, BLOBS.train.x[poisons.base], problem.target_x())[1]
    each, mean = gap(initial, poisons.x, problem.target_x())
    assert mean < 0.1 * before and mean < 0.5 * each.min()


def test_a_convex_polytope_holds_the_target(initial):
    attack = make_attack("convex_polytope", steps=300)
    problem = make_problem(attack, initial)
    poisons = attack.craft(problem)
    found, wanted = (np.asarray(ts.models.features(initial)(x)) for x in (poisons.x, problem.target_x()))
    grid = np.array([(a, b, 1 - a - b) for a in np.linspace(0, 1, 101) for b in np.linspace(0, 1 - a, 101)])
    nearest = np.linalg.norm(grid @ found - wanted, axis=1).min() / np.linalg.norm(wanted)
    assert nearest < 0.05


def test_a_collision_takes_the_targets_by_turns(initial):
    chosen = np.flatnonzero(BLOBS.test.y == 1)[:3]
    targets = tuple(ts.attacks.Target(int(index), 1, 0) for index in chosen)
    attack = make_attack("feature_collision", steps=300)
    problem = make_problem(attack, initial, targets=targets, eps=1.0)
    poisons = attack.craft(problem)
    for x, target in zip(poisons.x, problem.target_x()):
        assert gap(initial, x[None], target[None])[1] < 0.05


@pytest.mark.parametrize("name", ["convex_polytope", "bullseye_polytope"])
def test_a_polytope_of_several_targets_is_nearer_to_each(initial, name):
    chosen = np.flatnonzero(BLOBS.test.y == 1)[:2]
    targets = tuple(ts.attacks.Target(int(index), 1, 0) for index in chosen)
    attack = make_attack(name)
    problem = make_problem(attack, initial, targets=targets)
    poisons = attack.craft(problem)
    for target in problem.target_x():
        before, after = (gap(initial, x, target[None])[1] for x in (BLOBS.train.x[poisons.base], poisons.x))
        assert after < before


def test_all_layers_are_matched_when_asked(initial):
    gaps = {}
    hidden = keras.Model(initial.input, initial.get_layer("hidden").output)
    for layers in ("features", "all"):
        attack = make_attack("bullseye_polytope", layers=layers, steps=200, base_rule="random")
        problem = make_problem(attack, initial, eps=1.0)
        x = attack.craft(problem).x
        found, wanted = (hidden(part).numpy() for part in (x, problem.target_x()))
        gaps[layers] = np.linalg.norm(found.mean(0) - wanted) / np.linalg.norm(wanted)
    assert gaps["all"] < 0.5 * gaps["features"]


@pytest.mark.parametrize("knowledge", [pytest.param("grey_box", marks=pytest.mark.slow), "black_box"])
def test_an_ensemble_of_own_models_carries_over_to_a_victim_never_seen(initial, knowledge):
    changes = dict(knowledge=knowledge, surrogate_model="lr" if knowledge == "black_box" else None)
    attack = make_attack("bullseye_polytope", ensemble=3)
    problem = make_problem(attack, None, **changes)
    assert attack.pool(problem).test_logits.shape == (3, 200, 4)
    poisons = attack.craft(problem)
    before, after = (gap(initial, x, problem.target_x())[1] for x in (BLOBS.train.x[poisons.base], poisons.x))
    assert after < 0.8 * before


def test_the_simplex_projection_is_the_nearest_point(rng):
    points = rng.normal(size=(6, 3, 4)).astype(np.float32)
    found = convex_polytope.onto_simplex(tf.constant(points)).numpy()
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    inside = rng.dirichlet(np.ones(4), size=2000)
    best = ((inside[:, None, None] - points) ** 2).sum(-1).min(0)
    assert (((found - points) ** 2).sum(-1) <= best + 1e-5).all()
    np.testing.assert_allclose(convex_polytope.onto_simplex(tf.constant(inside)), inside, atol=1e-6)


def test_a_watermark_is_a_blend(initial):
    attack = make_attack("watermark", opacity=0.25)
    problem = make_problem(attack, initial, eps=1.0)
    poisons = attack.craft(problem)
    blend = 0.75 * BLOBS.train.x[poisons.base] + 0.25 * problem.target_x()
    np.testing.assert_allclose(poisons.x, blend, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": ()}, "targets must be one or more"),
        ({"targets": (ts.attacks.Target(0, 0, 1), ts.attacks.Target(1, 1, 2))}, "one intended label"),
        ({"targets": (ts.attacks.Target(0, 0, 1),), "num_poisons": 11}, "num_poisons must be at most 10"),
    ],
)
@pytest.mark.parametrize("name", ALL)
def test_problems_that_cannot_be_attacked_are_refused(initial, name, changes, words):
    attack = make_attack(name)
    with pytest.raises(ValueError, match=words):
        attack.craft(make_problem(attack, initial, **changes))


@pytest.mark.parametrize(
    ("name", "option"),
    [
        *[(name, {"steps": 0}) for name in ATTACKS],
        *[(name, {"ensemble": 0}) for name in ALL],
        *[(name, {"base_rule": "gradient_norm"}) for name in ATTACKS],
        ("feature_collision", {"beta": -1}),
        ("feature_collision", {"opacity": 1}),
        ("watermark", {"opacity": 0}),
        ("watermark", {"opacity": float("nan")}),
        ("convex_polytope", {"coefficient_steps": 0}),
        ("convex_polytope", {"layers": "dense"}),
        ("bullseye_polytope", {"step_size": 0}),
    ],
)
def test_a_bad_option_is_named(name, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        ts.attacks.get(name)(**option)
