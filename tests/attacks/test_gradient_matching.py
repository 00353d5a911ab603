"""Gradient matching: that it works, why it works, and the bounds it keeps."""

import dataclasses

import keras
import numpy as np
import pytest
import saved_poison
import tensorflow as tf

import tfshape as ts
from tfshape.attacks import crafting, gradient_matching, surrogates

EPS = 32 / 255
RECIPE = ts.training.Recipe("adam", 2e-3, batch_size=32, epochs=10)
STRONG = dict(num_poisons=24, eps=0.2)  # well above what a success needs here, whichever Keras rounds it
SMALL = dict(steps=60, ensemble=3, checkpoints=3, retrain=1, retrain_ensemble=1)


def make_blobs(shape=(40,), classes=4, seed=0):
    """Four overlapping clouds of 75 training examples each, on which an mlp is right 19 times of 20."""
    generator = np.random.default_rng(seed)
    centers = generator.uniform(0.3, 0.7, (classes, *shape))

    def split(size):
        y = np.arange(size, dtype=np.int32) % classes
        x = centers[y] + 0.2 * generator.normal(size=(size, *shape))
        return ts.datasets.Split(np.clip(x, 0, 1).astype(np.float32), y)

    return ts.datasets.Dataset("blobs", split(300), split(200), classes, shape)


BLOBS = make_blobs()
IMAGES = make_blobs((8, 8, 1))


def make_problem(attack, dataset=BLOBS, seed=0, **changes):
    settings = dict(model="mlp", recipe=RECIPE, num_poisons=15, seed=seed, eps=EPS)
    problem = ts.attacks.Problem(dataset, **{**settings, **changes})
    if "targets" in changes:
        return problem
    target = ts.attacks.choose_target("runner_up", dataset, seed, attack.test_logits(problem))
    return dataclasses.replace(problem, targets=(target,))


def victim_says(problem, poisons, seed):
    """The class that a victim trained from scratch on the poisoned data gives the target."""
    dataset = problem.dataset
    model = ts.models.build(problem.model, dataset.input_shape, dataset.num_classes, seed=seed)
    if problem.initial_model is not None:
        model.set_weights(problem.initial_model.get_weights())
    ts.training.fit(model, dataset.train.as_dataset().apply(ts.poison.replace(poisons)), problem.recipe, seed)
    return int(ts.models.predict(model, poisons.target_x)[0].argmax())


def matching_loss(problem, x, base, weights, layers="all"):
    """The matching loss of poison x made from examples `base`, on a model with these weights."""
    dataset = problem.dataset
    model = ts.models.build(problem.model, dataset.input_shape, dataset.num_classes)
    model.set_weights(weights)
    variables = gradient_matching.matched_variables(model, layers)
    intended = np.array([target.intended_label for target in problem.targets], np.int32)
    wanted = gradient_matching.loss_gradient(model, variables, problem.target_x(), intended)
    given = gradient_matching.loss_gradient(model, variables, x, dataset.train.y[base])
    return float(gradient_matching.matching_loss(given, wanted))


def held_out(problem, count=3):
    """Weights of clean models that no attack has seen."""
    return [surrogates.train(problem, (999, k), 1)[0] for k in range(count)]


@pytest.mark.one_stack
def test_it_turns_victims_of_other_seeds_and_random_noise_of_the_same_size_does_not():
    attack = ts.attacks.get("gradient_matching")(**SMALL)
    hits = {"attack": 0, "random": 0, "control": 0}
    for seed in range(4):
        problem = make_problem(attack, seed=seed, **STRONG)
        poisons = attack.craft(problem)
        generator = np.random.default_rng(seed)
        x = BLOBS.train.x[poisons.base]
        noise = np.clip(x + generator.choice([-problem.eps, problem.eps], x.shape), 0, 1).astype(np.float32)
        for name, other in (
            ("attack", poisons),
            ("random", dataclasses.replace(poisons, x=noise)),
            ("control", ts.attacks.control(poisons, BLOBS)),
        ):
            hits[name] += victim_says(problem, other, seed=100 + seed) == problem.targets[0].intended_label
    assert hits["attack"] >= 3
    assert hits["random"] <= 1
    assert hits["control"] <= 1


@pytest.mark.slow
def test_it_turns_a_victim_that_goes_on_from_a_model_the_attacker_knows():
    attack = ts.attacks.get("gradient_matching")(**SMALL)
    initial = ts.models.build("mlp", BLOBS.input_shape, BLOBS.num_classes, seed=50)
    ts.training.fit(initial, BLOBS.train.as_dataset(), RECIPE, 50)
    hits = controls = 0
    for seed in range(2):
        problem = make_problem(attack, seed=seed, initial_model=initial, **STRONG)
        poisons = attack.craft(problem)
        intended = problem.targets[0].intended_label
        hits += victim_says(problem, poisons, seed=100 + seed) == intended
        controls += victim_says(problem, ts.attacks.control(poisons, BLOBS), seed=100 + seed) == intended
    assert hits == 2
    assert controls == 0


def test_the_model_the_attacker_knows_is_all_there_is_to_know():
    attack = ts.attacks.get("gradient_matching")(**SMALL)
    initial = ts.models.build("mlp", BLOBS.input_shape, BLOBS.num_classes, seed=50)
    problem = ts.attacks.Problem(BLOBS, "mlp", RECIPE, 15, 0, initial_model=initial)
    np.testing.assert_array_equal(attack.test_logits(problem), [ts.models.predict(initial, BLOBS.test.x)])


@pytest.mark.parametrize("eps", [8 / 255, EPS, 0.3, 1.0])
def test_poison_stays_within_eps_and_the_unit_box_exactly_and_labels_are_untouched(tmp_path, eps):
    attack = ts.attacks.get("gradient_matching")(steps=10, step_size=1.0, ensemble=1, checkpoints=1, retrain=0)
    poisons = attack.craft(make_problem(attack, eps=eps))
    assert len(poisons) == 15
    saved_poison.assert_within_eps_with_labels_untouched(
        poisons, tmp_path / "poisons.npz", BLOBS.train, eps, 0.99 * min(eps, 0.9)
    )


def test_bounds_round_inwards(rng):
    x = rng.random((50, 40), np.float32)
    x[0], x[1] = 0, 1
    low, high = crafting.bounds(x, 0.1)
    assert low.dtype == high.dtype == np.float32
    exact = x.astype(np.float64)
    assert (exact - low <= 0.1).all() and (high - exact <= 0.1).all()
    assert (low >= 0).all() and (high <= 1).all()
    np.testing.assert_allclose(low, np.maximum(exact - 0.1, 0), atol=1e-7)
    np.testing.assert_allclose(high, np.minimum(exact + 0.1, 1), atol=1e-7)


@pytest.mark.slow
def test_the_same_seed_crafts_the_same_bits_and_another_seed_does_not():
    attack = ts.attacks.get("gradient_matching")(steps=10, ensemble=2, checkpoints=2, retrain=1, retrain_ensemble=1)
    problem = make_problem(attack)
    first = attack.craft(problem)
    surrogates._pool.cache_clear()
    gradient_matching._graph.cache_clear()
    again = attack.craft(problem)
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.base, again.base)
    other = attack.craft(dataclasses.replace(problem, seed=1))
    assert (first.x != other.x).any()


def test_the_file_says_how_it_was_made():
    attack = ts.attacks.get("gradient_matching")(steps=2, ensemble=1, checkpoints=1, retrain=0)
    problem = make_problem(attack, seed=3)
    poisons = attack.craft(problem)
    assert (poisons.attack, poisons.seed, poisons.num_examples) == ("gradient_matching", 3, 300)
    assert poisons.config["steps"] == 2 and poisons.config["eps"] == EPS and poisons.config["model"] == "mlp"
    assert poisons.config["target_index"] == [problem.targets[0].index]
    np.testing.assert_array_equal(poisons.target_x, BLOBS.test.x[[problem.targets[0].index]])
    assert poisons.target_y[0] == BLOBS.test.y[problem.targets[0].index]


def test_the_matching_loss_falls_on_the_pool_and_on_models_never_seen():
    attack = ts.attacks.get("gradient_matching")(**{**SMALL, "retrain": 0})
    problem = make_problem(attack)
    poisons = attack.craft(problem)
    for pool in (attack.pool(problem).finished, held_out(problem)):
        before, after = (
            np.mean([matching_loss(problem, x, poisons.base, weights) for weights in pool])
            for x in (BLOBS.train.x[poisons.base], poisons.x)
        )
        assert after < 0.6 * before


def test_poison_for_an_ensemble_matches_all_of_it_better_than_poison_for_one_of_it():
    options = dict(steps=60, checkpoints=1, retrain=0, base_rule="random")
    whole = ts.attacks.get("gradient_matching")(ensemble=4, **options)
    problem = make_problem(whole)
    pool = whole.pool(problem).finished
    losses = []
    for attack in (whole, ts.attacks.get("gradient_matching")(ensemble=1, **options)):
        poisons = attack.craft(problem)
        losses.append([matching_loss(problem, poisons.x, poisons.base, weights) for weights in pool])
    for_all, for_one = losses
    assert np.mean(for_all) < np.mean(for_one)
    assert for_one[0] == min(for_one)


def test_several_problems_crafted_at_once_come_out_as_good_as_one_by_one():
    attack = ts.attacks.get("gradient_matching")(**{**SMALL, "retrain": 0})
    problems = [make_problem(attack, seed=seed) for seed in range(3)]
    pool = attack.pool(problems[0]).finished

    def loss(problem, poisons):
        return np.mean([matching_loss(problem, poisons.x, poisons.base, weights) for weights in pool])

    together = attack.craft_together(problems)
    for problem, poisons in zip(problems, together):
        alone = attack.craft(problem)
        np.testing.assert_array_equal(poisons.base, alone.base)
        np.testing.assert_array_equal(poisons.target_x, alone.target_x)
        assert np.abs(poisons.x.astype(np.float64) - BLOBS.train.x[poisons.base]).max() <= EPS
        assert loss(problem, poisons) < 1.1 * loss(problem, alone)
    swapped = attack.craft_together([problems[0], problems[2], problems[1]])
    np.testing.assert_allclose(swapped[1].x, together[2].x, atol=1e-6)


def test_problems_with_surrogates_of_their_own_are_not_crafted_at_once():
    attack = ts.attacks.get("gradient_matching")(steps=2, ensemble=1, checkpoints=1, retrain=0)
    problem = make_problem(attack)
    other = dataclasses.replace(problem, surrogate_seed=1)
    for options, problems in (
        ({}, [problem, other]),
        ({"retrain": 1}, [problem] * 2),
        ({"restarts": 2}, [problem] * 2),
    ):
        with pytest.raises(ValueError, match="problems must share surrogates"):
            dataclasses.replace(attack, **options).craft_together(problems)


def test_of_several_restarts_the_best_is_kept():
    options = dict(steps=3, ensemble=1, checkpoints=1, retrain=0)
    attack = ts.attacks.get("gradient_matching")(**options)
    problem = make_problem(attack)
    pool = attack.pool(problem).weights
    crafted = [ts.attacks.get("gradient_matching")(restarts=n, **options).craft(problem) for n in (1, 2, 4, 8, 16)]
    losses = [matching_loss(problem, poisons.x, poisons.base, pool[0]) for poisons in crafted]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_retrained_surrogates_learn_from_the_poison_as_it_is_then(monkeypatch):
    attack = ts.attacks.get("gradient_matching")(**{**SMALL, "steps": 9, "retrain": 2, "retrain_ensemble": 2})
    problem = make_problem(attack)
    train, seen = surrogates.train, []

    def recorded(problem, seed, checkpoints, data, start):
        seen.append((tuple(seed), data.x))
        np.testing.assert_array_equal(data.y, BLOBS.train.y)
        return train(problem, seed, checkpoints, data, start)

    monkeypatch.setattr(surrogates, "train", recorded)
    poisons = attack.craft(problem)
    clean = np.setdiff1d(np.arange(300), poisons.base)
    assert len({seed for seed, _ in seen}) == len(seen) == 4
    for _, x in seen:
        np.testing.assert_array_equal(x[clean], BLOBS.train.x[clean])
        assert (x[poisons.base] != BLOBS.train.x[poisons.base]).any(axis=1).all()
        assert np.abs(x - BLOBS.train.x).max() <= EPS + 1e-6
    np.testing.assert_array_equal(seen[0][1], seen[1][1])
    assert (seen[1][1] != seen[2][1]).any()


def test_trials_share_the_pool(monkeypatch):
    attack = ts.attacks.get("gradient_matching")(steps=2, ensemble=2, checkpoints=1, retrain=0)
    make_problem(attack)
    monkeypatch.setattr(surrogates, "train", None)
    for seed in range(2):
        attack.craft(make_problem(attack, seed=seed))
    with pytest.raises(TypeError):
        attack.craft(make_problem(attack, surrogate_seed=1))


def test_the_largest_gradients_are_the_bases():
    attack = ts.attacks.get("gradient_matching")(steps=1, ensemble=2, checkpoints=2, retrain=0)
    problem = make_problem(attack)
    base = attack.craft(problem).base
    of_class = np.flatnonzero(BLOBS.train.y == problem.targets[0].intended_label)
    norms = np.zeros(len(of_class))
    model = ts.models.build("mlp", BLOBS.input_shape, BLOBS.num_classes)
    for weights in attack.pool(problem).finished:
        model.set_weights(weights)
        for k, index in enumerate(of_class):
            gradient = gradient_matching.loss_gradient(
                model, model.trainable_variables, BLOBS.train.x[[index]], BLOBS.train.y[[index]]
            )
            norms[k] += np.sqrt(sum(float(tf.reduce_sum(part**2)) for part in gradient))
    assert set(base) == set(of_class[np.argsort(-norms)[:15]])
    random = dataclasses.replace(attack, base_rule="random")
    draws = [set(random.craft(dataclasses.replace(problem, seed=seed)).base) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_the_gradient_of_the_matching_loss_agrees_with_finite_differences(rng):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(3, 3, activation="tanh", dtype="float64"),
        keras.layers.Flatten(dtype="float64"),
        keras.layers.Dense(4, activation="tanh", dtype="float64"),
        keras.layers.Dense(3, dtype="float64"),
    ]
    model = keras.Sequential([keras.Input((5, 5, 1), dtype="float64"), *layers])
    x, y = tf.constant(rng.random((4, 5, 5, 1))), np.array([2, 2, 2, 2])
    target = rng.random((1, 5, 5, 1))
    for which, count in (("all", 6), ("dense", 4)):
        variables = gradient_matching.matched_variables(model, which)
        assert len(variables) == count
        wanted = gradient_matching.loss_gradient(model, variables, target, np.array([2]))

        def loss(x, variables=variables, wanted=wanted):
            return gradient_matching.matching_loss(gradient_matching.loss_gradient(model, variables, x, y), wanted)

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x)
        gradient = tape.gradient(value, x).numpy()
        assert gradient.dtype == np.float64 and 0 < float(value) < 2
        for _ in range(10):
            direction = rng.normal(size=x.shape)
            slope = float(loss(x + 1e-5 * direction) - loss(x - 1e-5 * direction)) / 2e-5
            np.testing.assert_allclose(slope, np.sum(gradient * direction), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("first", "rest", "loss"), [([3, 0], [4], 0), ([-6, 0], [-8], 2), ([0, 5], [0], 1), ([0, 0], [0], 1)]
)
def test_the_matching_loss_is_one_minus_the_cosine(first, rest, loss):
    gradient = [tf.constant(first, tf.float32), tf.constant(rest, tf.float32)]
    target_gradient = [tf.constant([3.0, 0.0]), tf.constant([4.0])]
    assert float(gradient_matching.matching_loss(gradient, target_gradient)) == pytest.approx(loss, abs=1e-6)


def test_shift_and_mirror_move_each_image_by_itself_and_repeat_the_edge(rng):
    x = rng.random((3, 4, 5, 2), np.float32)
    moved = gradient_matching.shift_and_mirror(
        tf.constant(x), tf.constant([[0, 0], [1, 0], [-1, 2]]), tf.constant([False, False, True])
    ).numpy()
    np.testing.assert_array_equal(moved[0], x[0])
    np.testing.assert_array_equal(moved[1], x[1][[1, 2, 3, 3]])
    np.testing.assert_array_equal(moved[2], x[2][[0, 0, 1, 2]][:, [2, 3, 4, 4, 4]][:, ::-1])


@pytest.mark.slow
def test_augmented_poison_matches_better_when_victims_augment():
    losses = {}
    shifts, mirror = tf.constant([[1, -1]] * 15), tf.constant([True] * 15)
    for augment in (False, True):
        attack = ts.attacks.get("gradient_matching")(
            steps=60, ensemble=2, checkpoints=1, retrain=0, augment=augment, layers="all"
        )
        problem = make_problem(attack, IMAGES)
        poisons = attack.craft(problem)
        x = gradient_matching.shift_and_mirror(tf.constant(poisons.x), shifts, mirror)
        losses[augment] = np.mean(
            [matching_loss(problem, x, poisons.base, weights) for weights in attack.pool(problem).finished]
        )
    assert losses[True] < losses[False]


@pytest.mark.parametrize("layers", ["dense", "all"])
def test_it_lowers_the_loss_through_convolutions(layers):
    attack = ts.attacks.get("gradient_matching")(steps=30, ensemble=2, checkpoints=1, retrain=0, layers=layers)
    problem = make_problem(attack, IMAGES, model="cnn")
    poisons = attack.craft(problem)
    for weights in attack.pool(problem).finished:
        before = matching_loss(problem, IMAGES.train.x[poisons.base], poisons.base, weights, layers)
        assert matching_loss(problem, poisons.x, poisons.base, weights, layers) < 0.7 * before


def test_several_targets_are_attacked_at_once():
    attack = ts.attacks.get("gradient_matching")(steps=30, ensemble=2, checkpoints=1, retrain=0)
    labels = BLOBS.test.y
    chosen = np.flatnonzero(labels == 1)[:2]
    targets = tuple(ts.attacks.Target(int(index), 1, 0) for index in chosen)
    problem = make_problem(attack, targets=targets)
    poisons = attack.craft(problem)
    assert poisons.target_x.shape == (2, 40) and list(poisons.intended_y) == [0, 0]
    for weights in attack.pool(problem).finished:
        before = matching_loss(problem, BLOBS.train.x[poisons.base], poisons.base, weights)
        assert matching_loss(problem, poisons.x, poisons.base, weights) < before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": ()}, "targets must be one or more"),
        ({"targets": (ts.attacks.Target(0, 0, 1), ts.attacks.Target(1, 1, 2))}, "one intended label"),
        ({"targets": (ts.attacks.Target(0, 0, 1),), "num_poisons": 76}, "num_poisons must be at most 75"),
    ],
)
def test_problems_it_cannot_attack_are_refused(changes, words):
    attack = ts.attacks.get("gradient_matching")(steps=1, ensemble=1, checkpoints=1, retrain=0)
    with pytest.raises(ValueError, match=words):
        attack.craft(make_problem(attack, **changes))


def test_only_images_are_augmented():
    attack = ts.attacks.get("gradient_matching")(augment=True)
    with pytest.raises(ValueError, match="augment must be False for inputs that are not images, got True"):
        attack.craft(make_problem(attack, targets=(ts.attacks.Target(0, 0, 1),)))


@pytest.mark.parametrize(
    "option",
    [
        {"steps": 0},
        {"steps": 2.5},
        {"step_size": 0},
        {"step_size": float("nan")},
        {"restarts": 0},
        {"ensemble": True},
        {"checkpoints": -1},
        {"surrogates_per_step": 0},
        {"retrain": -1},
        {"retrain_ensemble": 0},
        {"layers": "conv"},
        {"augment": 1},
        {"base_rule": "largest"},
    ],
)
def test_a_bad_option_is_named(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        ts.attacks.get("gradient_matching")(**option)


@pytest.mark.parametrize(
    "text",
    ["clip(0.5)", "normalize(1.0)|noise(1.0)", "per_layer_clip(0.5)", "orient(0.0)", "orient(0.0, reference='t.npz')"],
)
def test_the_shaped_gradient_is_what_a_shaped_training_step_takes(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    np.savez("t.npz", x=BLOBS.train.x[20:30], y=BLOBS.train.y[20:30])
    shaper = ts.shaping.parse(text)
    model = ts.models.build("mlp", BLOBS.input_shape, BLOBS.num_classes, seed=3)
    x, y = BLOBS.train.x[:12], BLOBS.train.y[:12]
    variables = gradient_matching.matched_variables(model, "dense")
    found = gradient_matching.shaped_gradient(model, variables, x, y, shaper)
    before = model.get_weights()
    silent = ts.shaping.Chain([part for part in shaper.shapers if not isinstance(part, ts.shaping.GaussianNoise)])
    trained = ts.shape(model, silent, seed=0)
    trained.compile(keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trained.train_on_batch(x, y)
    for gradient, old, new in zip(found, before, model.get_weights()):
        np.testing.assert_allclose(gradient, old - new, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_an_adaptive_attacker_matches_the_shaped_gradient_on_surrogates_that_are_shaped():
    shaper = ts.shaping.parse("clip(0.05)")
    losses = {}
    for shaping in (None, shaper):
        attack = ts.attacks.get("gradient_matching")(steps=60, ensemble=2, checkpoints=1, retrain=0, base_rule="random")
        problem = make_problem(attack, targets=(ts.attacks.Target(1, 1, 2),), shaping=shaping)
        poisons = attack.craft(problem)
        assert poisons.config["shaping"] == (None if shaping is None else "clip(0.05)")
        losses[shaping] = np.mean(
            [shaped_matching_loss(problem, poisons, weights, shaper) for weights in shaped_pool(problem, shaper)]
        )
    assert losses[shaper] < losses[None]


def shaped_pool(problem, shaper):
    """Weights of clean models, trained with shaping, that no attack has seen."""
    return [surrogates.train(dataclasses.replace(problem, shaping=shaper), (998, k), 1)[0] for k in range(2)]


def shaped_matching_loss(problem, poisons, weights, shaper):
    model = ts.models.build("mlp", BLOBS.input_shape, BLOBS.num_classes)
    model.set_weights(weights)
    variables = gradient_matching.matched_variables(model, "dense")
    intended = np.array([target.intended_label for target in problem.targets], np.int32)
    wanted = gradient_matching.loss_gradient(model, variables, problem.target_x(), intended)
    given = gradient_matching.shaped_gradient(model, variables, poisons.x, poisons.y, shaper)
    return float(gradient_matching.matching_loss(given, wanted))


def test_the_poison_gradient_goes_through_the_clip_as_through_a_loop_of_tapes():
    model = ts.models.build("mlp", BLOBS.input_shape, BLOBS.num_classes, seed=3)
    variables = gradient_matching.matched_variables(model, "dense")
    wanted = gradient_matching.loss_gradient(model, variables, BLOBS.test.x[:1], np.array([2], np.int32))
    x, y = tf.constant(BLOBS.train.x[:6]), BLOBS.train.y[:6]

    def clipped(x):
        each = [gradient_matching.loss_gradient(model, variables, x[i : i + 1], y[i : i + 1]) for i in range(6)]
        each = [tf.clip_by_global_norm(gradient, 0.5)[0] for gradient in each]
        return [tf.add_n(parts) / 6 for parts in zip(*each)]

    def by_engine(x):
        return gradient_matching.shaped_gradient(model, variables, x, y, ts.shaping.parse("clip(0.5)|noise(1.0)"))

    found = []
    for gradient in (clipped, by_engine):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = gradient_matching.matching_loss(gradient(x), wanted)
        found.append(tape.gradient(loss, x))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3, atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = gradient_matching.matching_loss(gradient_matching.loss_gradient(model, variables, x, y), wanted)
    assert np.abs(tape.gradient(loss, x) - found[0]).max() > 0.1 * np.abs(found[0]).max()


@pytest.mark.slow
def test_default_settings_reach_sixty_percent_and_controls_stay_below_ten():
    results = ts.evaluate(ts.Experiment(attack="gradient_matching", shaping="none", trials=20))
    rates = {
        data: np.mean([row["success"] for row in results.trials if row["data"] == data])
        for data in ("poison", "control")
    }
    assert rates["poison"] >= 0.6
    assert rates["control"] <= 0.1
