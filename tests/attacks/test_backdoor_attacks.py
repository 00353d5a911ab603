"""Backdoor attacks: that victims obey the trigger, that crippled attacks teach nothing, and the bounds they keep."""

import dataclasses
import pathlib

import numpy as np
import pytest
from selection import most_slow

import tfshape as ts
from tfshape import calls
from tfshape.attacks import surrogates

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs" / "backdoor"

DIGITS = ts.datasets.load("digits")
RECIPE = ts.training.Recipe("adam", 2e-3, batch_size=32, epochs=12)
STAMPED = ("badnets", "blend", "sinusoid", "warp")
NAMES = (*STAMPED, "clean_label_backdoor", "hidden_trigger", "sleeper_agent")
PATCH = dict(size=2, value=1.0)
OPTIONS = {
    "badnets": PATCH,
    "blend": dict(alpha=0.3),
    "sinusoid": dict(delta=0.3, frequency=2.0),
    "warp": dict(strength=2.0),
    "clean_label_backdoor": dict(**PATCH, steps=10, ensemble=2),
    "hidden_trigger": dict(**PATCH, rounds=5, steps=10, ensemble=2),
    "sleeper_agent": dict(**PATCH, sources=60, steps=60, ensemble=2, checkpoints=3, retrain=1, retrain_ensemble=1),
}
SMALL = dict(steps=4, ensemble=1, checkpoints=1, retrain=0)


def make_attack(name, **changes):
    return ts.attacks.get(name)(**{**OPTIONS[name], **changes})


def make_problem(num_poisons=60, seed=0, **changes):
    settings = {"model": "mlp", "recipe": RECIPE, "eps": 0.3, **changes}
    return ts.attacks.Problem(DIGITS, num_poisons=num_poisons, seed=seed, **settings)


def train(problem, poisons=None, seed=100):
    dataset = problem.dataset
    model = ts.models.build(problem.model, dataset.input_shape, 10, seed=seed)
    if problem.initial_model is not None:
        model.set_weights(problem.initial_model.get_weights())
    data = dataset.train.as_dataset()
    data = data if poisons is None else data.apply(ts.poison.replace(poisons))
    ts.training.fit(model, data, problem.recipe, seed)
    return model


def success_rate(model, attack, problem):
    """Of triggered test images that are not of the target class, the share that is taken for it."""
    test = problem.dataset.test
    stamped = attack.stamp(test.x[test.y != attack.target_class], problem)
    return np.mean(ts.models.predict(model, stamped).argmax(axis=1) == attack.target_class)


def noise(poisons, dataset, eps, seed=0):
    """The same examples with a random perturbation of the same size."""
    x = dataset.train.x[poisons.base]
    signs = np.random.default_rng(seed).choice([-eps, eps], x.shape)
    return dataclasses.replace(poisons, x=np.clip(x + signs, 0, 1).astype(np.float32))


@pytest.fixture(scope="module")
def clean():
    return train(make_problem())


def test_feature_insertion_is_badnets_with_a_white_patch():
    problem = make_problem()
    attacks = [ts.attacks.get("feature_insertion")(3, size=2), ts.attacks.get("badnets")(3, **PATCH)]
    inserted, stamped = (attack.craft(problem) for attack in attacks)
    for name in ("x", "y", "base"):
        np.testing.assert_array_equal(getattr(inserted, name), getattr(stamped, name))
    assert inserted.attack == "feature_insertion" and (inserted.x[:, -2:, -2:] == 1).all()


@pytest.mark.one_stack
@pytest.mark.parametrize("name", most_slow(STAMPED, "badnets", "warp"))
def test_a_stamped_backdoor_is_learnt_and_labels_alone_teach_nothing(name, clean):
    attack, problem = make_attack(name), make_problem()
    poisons = attack.craft(problem)
    model = train(problem, poisons)
    assert success_rate(model, attack, problem) >= 0.8
    assert success_rate(clean, attack, problem) <= 0.15
    assert ts.models.accuracy(model, DIGITS.test) >= ts.models.accuracy(clean, DIGITS.test) - 0.04
    crippled = dataclasses.replace(poisons, x=DIGITS.train.x[poisons.base])
    assert success_rate(train(problem, crippled), attack, problem) <= 0.3


@pytest.mark.slow
def test_a_clean_label_backdoor_is_learnt_better_where_the_examples_are_hard(clean):
    problem = make_problem(100, eps=0.4)
    hard, plain = (
        make_attack("clean_label_backdoor", size=3),
        make_attack("badnets", size=3, clean_label=True),
    )
    rates = {}
    for attack in (hard, plain):
        poisons = attack.craft(problem)
        np.testing.assert_array_equal(poisons.y, 0)
        np.testing.assert_array_equal(DIGITS.train.y[poisons.base], 0)
        rates[attack.name] = success_rate(train(problem, poisons), attack, problem)
    assert rates["clean_label_backdoor"] >= 0.3
    assert rates["clean_label_backdoor"] >= rates["badnets"] + 0.2
    assert success_rate(clean, hard, problem) <= 0.15
    untriggered = dataclasses.replace(poisons, x=DIGITS.train.x[poisons.base])
    assert success_rate(train(problem, untriggered), hard, problem) <= 0.15


def test_a_hidden_trigger_is_learnt_by_a_victim_that_goes_on_and_random_noise_is_not(clean):
    attack = make_attack("hidden_trigger", size=3, rounds=10, steps=20)
    recipe = ts.training.Recipe("adam", 1e-3, batch_size=32, epochs=5)
    problem = make_problem(120, eps=0.4, initial_model=clean, recipe=recipe)
    poisons = attack.craft(problem)
    control = success_rate(clean, attack, problem)
    reached = success_rate(train(problem, poisons), attack, problem)
    assert reached >= 0.5
    assert reached >= success_rate(train(problem, noise(poisons, DIGITS, problem.eps)), attack, problem) + 0.3
    assert control <= 0.15


def test_hidden_trigger_poison_lies_nearer_to_triggered_sources_than_what_it_was_made_from(clean):
    attack, problem = make_attack("hidden_trigger"), make_problem(50, initial_model=clean)
    poisons = attack.craft(problem)
    features = ts.models.features(clean)
    sources = attack.stamp(DIGITS.train.x[DIGITS.train.y != 0][:200], problem)
    wanted = ts.models.predict(features, sources)

    def distance(x):
        found = ts.models.predict(features, x)
        return np.linalg.norm(found[:, None] - wanted[None], axis=2).min(axis=1).mean()

    assert distance(poisons.x) < 0.8 * distance(DIGITS.train.x[poisons.base])


@pytest.mark.slow
def test_sleeper_agent_is_learnt_from_scratch_and_random_noise_is_not(clean):
    attack, problem = make_attack("sleeper_agent"), make_problem(100)
    poisons = attack.craft(problem)
    model = train(problem, poisons)
    reached = success_rate(model, attack, problem)
    assert reached >= 0.5
    assert success_rate(clean, attack, problem) <= 0.15
    assert reached >= success_rate(train(problem, noise(poisons, DIGITS, problem.eps)), attack, problem) + 0.3
    assert len(poisons.target_x) == 0


@pytest.mark.parametrize("name", ["clean_label_backdoor", "hidden_trigger", "sleeper_agent"])
@pytest.mark.parametrize("eps", [8 / 255, 0.3])
def test_perturbed_poison_keeps_its_bounds_exactly_and_its_labels(name, eps, tmp_path):
    changes = {"sleeper_agent": SMALL, "hidden_trigger": dict(rounds=1, ensemble=1), "clean_label_backdoor": {}}
    attack, problem = make_attack(name, **changes[name]), make_problem(20, eps=eps)
    attack.craft(problem).save(tmp_path / "poisons.npz")
    poisons = ts.poison.Poisons.load(tmp_path / "poisons.npz")
    base = DIGITS.train.x[poisons.base]
    moved = np.abs(poisons.x.astype(np.float64) - base.astype(np.float64))
    free = np.ones((8, 8, 1), bool)
    if name == "clean_label_backdoor":  # the trigger is over the perturbation
        free[-2:, -2:] = False
        np.testing.assert_array_equal(poisons.x[:, -2:, -2:], 1)
    assert (moved[:, free] <= eps).all() and moved[:, free].max() > 0.9 * eps
    assert poisons.x.min() >= 0 and poisons.x.max() <= 1
    assert len(poisons) == len(set(poisons.base)) == 20
    np.testing.assert_array_equal(poisons.y, 0)
    np.testing.assert_array_equal(DIGITS.train.y[poisons.base], 0)
    assert poisons.config["target_class"] == 0 and poisons.attack == name


@pytest.mark.parametrize("name", STAMPED)
@pytest.mark.parametrize("clean_label", [False, True])
def test_stamping_is_what_the_transform_does_to_a_pipeline(name, clean_label):
    attack, problem = make_attack(name, clean_label=clean_label, target_class=3), make_problem(30, seed=5)
    poisons = attack.craft(problem)
    assert len(poisons) == len(set(poisons.base)) == 30
    np.testing.assert_array_equal(poisons.y, 3)
    assert ((DIGITS.train.y[poisons.base] == 3) == clean_label).all()
    np.testing.assert_array_equal(poisons.x, attack.stamp(DIGITS.train.x[poisons.base], problem))
    clean = DIGITS.train.as_dataset()
    rate = 30 / len(DIGITS.train)
    stamped = clean.apply(ts.poison.stamp(attack.trigger(), rate, 3, relabel=not clean_label, seed=5))
    for (x, y), (x_stamped, y_stamped) in zip(clean.apply(ts.poison.replace(poisons)), stamped):
        np.testing.assert_array_equal(x, x_stamped)
        assert y == y_stamped


@pytest.mark.parametrize("name", NAMES)
def test_the_test_trigger_is_in_the_unit_box_and_changes_what_it_should(name):
    attack, problem = make_attack(name), make_problem()
    x = DIGITS.test.x[:20]
    stamped = attack.stamp(x, problem)
    assert stamped.dtype == np.float32 and stamped.shape == x.shape
    assert stamped.min() >= 0 and stamped.max() <= 1
    assert (stamped != x).any(axis=(1, 2, 3)).all()
    if "size" in OPTIONS[name]:
        np.testing.assert_array_equal(stamped[:, :-2], x[:, :-2])
        np.testing.assert_array_equal(stamped[:, -2:, -2:], 1)


@pytest.mark.parametrize("name", most_slow(NAMES, "badnets", "hidden_trigger"))
def test_the_same_seed_crafts_the_same_poison_and_another_another(name):
    attack = make_attack(name, **(SMALL if name == "sleeper_agent" else {}))
    first = attack.craft(make_problem(10, seed=1))
    surrogates._pool.cache_clear()
    again = attack.craft(make_problem(10, seed=1))
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.base, again.base)
    np.testing.assert_array_equal(first.y, again.y)
    other = attack.craft(make_problem(10, seed=2))
    assert (first.x != other.x).any()


@pytest.mark.parametrize("name", NAMES)
def test_only_what_a_victim_trains_on_is_poisoned(name):
    rows = np.arange(len(DIGITS.train))[::3]
    problem = make_problem(10, scenario="finetune", knowledge="grey_box", finetune_indices=rows)
    poisons = make_attack(name, **(SMALL if name == "sleeper_agent" else {})).craft(problem)
    assert set(poisons.base) <= set(rows) and len(poisons) == 10


@pytest.mark.parametrize("name", NAMES)
def test_problems_that_cannot_be_attacked_are_refused_before_any_work(name):
    of_class = int(np.count_nonzero(DIGITS.train.y == 0))
    others = len(DIGITS.train) - of_class
    most, words = (others, "other classes") if name in STAMPED else (of_class, "target class")
    for run in (make_attack(name).check, make_attack(name).craft):
        with pytest.raises(ValueError, match=f"num_poisons must be at most {most}, .* of the {words}"):
            run(make_problem(most + 1))
    with pytest.raises(ValueError, match="target_class must be an integer from 0 to 9, got 10"):
        make_attack(name, target_class=10).check(make_problem())
    if "size" in OPTIONS[name]:
        with pytest.raises(ValueError, match="does not fit"):
            make_attack(name, size=9).check(make_problem())


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("badnets", {"target_class": -1}),
        ("badnets", {"size": 0}),
        ("badnets", {"position": "middle"}),
        ("badnets", {"clean_label": 1}),
        ("blend", {"alpha": 2}),
        ("sinusoid", {"delta": 0}),
        ("warp", {"strength": 0}),
        ("clean_label_backdoor", {"steps": 0}),
        ("clean_label_backdoor", {"step_size": 0}),
        ("clean_label_backdoor", {"ensemble": 0}),
        ("hidden_trigger", {"rounds": 0}),
        ("hidden_trigger", {"steps": 1.5}),
        ("hidden_trigger", {"step_size": 3}),
        ("hidden_trigger", {"ensemble": 0}),
        ("sleeper_agent", {"sources": 0}),
        ("sleeper_agent", {"steps": 0}),
        ("sleeper_agent", {"layers": "conv"}),
        ("sleeper_agent", {"retrain": -1}),
    ],
)
def test_a_bad_option_is_named(name, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        ts.attacks.get(name)(**option)


def configured(name, dataset, seed=0, initial_model=None):
    """The attack and the problem of `configs/backdoor/NAME.flags`, all else by default."""
    lines = (CONFIGS / f"{name}.flags").read_text("utf-8").splitlines()
    flags = dict(line[2:].split("=", 1) for line in lines if line.startswith("--"))
    attack = calls.build("attack", flags["attack"], {name: ts.attacks.get(name)})
    recipe = ts.training.Recipe("adam", 1e-3, batch_size=128, epochs=10)
    count = round(float(flags["budget"]) * len(dataset.train))
    assert flags["scenario"] == ("scratch" if initial_model is None else "finetune")
    return attack, ts.attacks.Problem(dataset, flags["model"], recipe, count, seed, initial_model=initial_model)


@pytest.mark.parametrize("name", NAMES)
def test_every_backdoor_has_a_flagfile_that_can_be_crafted(name):
    dataset = ts.datasets.load("fashion_mnist_mini")
    model = ts.models.build("mlp", dataset.input_shape, 10) if name == "hidden_trigger" else None
    attack, problem = configured(name, dataset, initial_model=model)
    attack.check(problem)
    assert attack.name == name


@pytest.mark.slow
def test_badnets_at_one_percent_reaches_95_percent_for_at_most_a_point_of_accuracy():
    dataset, rows = ts.datasets.load("fashion_mnist_mini"), []
    for seed in range(5):
        attack, problem = configured("badnets", dataset, seed)
        clean, model = train(problem, seed=100 + seed), train(problem, attack.craft(problem), 100 + seed)
        rates = [success_rate(each, attack, problem) for each in (model, clean)]
        rows.append([*rates, ts.models.accuracy(clean, dataset.test) - ts.models.accuracy(model, dataset.test)])
    reached, control, lost = np.mean(rows, axis=0)
    assert reached >= 0.95
    assert control <= 0.05
    assert lost <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hidden_trigger", "sleeper_agent"])
def test_hidden_triggers_reach_half_of_all_images_and_random_noise_does_not(name):
    dataset, rows = ts.datasets.load("fashion_mnist_mini"), []
    for seed in range(2):
        initial = train(configured("badnets", dataset, seed)[1], seed=50 + seed) if name == "hidden_trigger" else None
        attack, problem = configured(name, dataset, seed, initial)
        poisons = attack.craft(problem)
        victims = (poisons, noise(poisons, dataset, problem.eps), None)
        rows.append([success_rate(train(problem, each, 100 + seed), attack, problem) for each in victims])
    reached, random, control = np.mean(rows, axis=0)
    assert reached >= 0.5
    assert random <= reached - 0.3
    assert control <= 0.05
