"""The registry, the statement of the problem, the choice of targets and the control."""

import dataclasses

import numpy as np
import pytest

import tfshape as ts
from tfshape import options


def make_dataset(rng, sizes=(60, 30), classes=3, shape=(6,)):
    def split(size):
        y = np.arange(size, dtype=np.int32) % classes
        return ts.datasets.Split(rng.random((size, *shape), np.float32), y)

    return ts.datasets.Dataset("small", split(sizes[0]), split(sizes[1]), classes, shape)


def make_problem(dataset, **changes):
    settings = dict(model="lr", recipe=ts.training.Recipe(epochs=1), num_poisons=6, seed=0)
    return ts.attacks.Problem(dataset, **{**settings, **changes})


def test_every_name_gets_a_frozen_class_of_that_name():
    assert {"bullseye_polytope", "gradient_matching", "label_flip", "metapoison"} <= set(ts.attacks.names())
    for name in ts.attacks.names():
        attack = ts.attacks.get(name)()
        assert isinstance(attack, ts.attacks.Attack)
        assert attack.name == name and attack.kind in ("targeted", "indiscriminate", "backdoor")
        with pytest.raises(dataclasses.FrozenInstanceError):
            attack.name = "other"


def test_an_unknown_attack_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"gradient_matching, .*label_flip, .*got 'gradient_match'"):
        ts.attacks.get("gradient_match")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "cnnn"}, "model"),
        ({"num_poisons": 0}, "num_poisons"),
        ({"num_poisons": 61}, "from 1 to 60"),
        ({"num_poisons": 2.0}, "num_poisons"),
        ({"num_poisons": True}, "num_poisons"),
        ({"seed": -1}, "seed"),
        ({"eps": 0}, "eps"),
        ({"eps": 1.5}, "eps"),
        ({"eps": float("nan")}, "eps"),
        ({"scenario": "scratchy"}, "scenario must be one of scratch, finetune, transfer"),
        ({"knowledge": "all"}, "knowledge must be one of"),
        ({"knowledge": "white_box"}, "initial_model must be given for white_box"),
        ({"knowledge": "grey_box", "initial_model": object()}, "initial_model must be given for white_box"),
        ({"knowledge": "black_box"}, "surrogate_model must be one of mlp"),
        ({"knowledge": "black_box", "surrogate_model": "lr"}, "surrogate_model must be one of mlp"),
        ({"surrogate_model": "mlp"}, "surrogate_model must be None"),
        ({"scenario": "transfer", "finetune_indices": [3, 3]}, "finetune_indices must be different integers"),
        ({"scenario": "transfer", "finetune_indices": [60]}, "finetune_indices must be different integers"),
        ({"scenario": "transfer", "finetune_indices": []}, "finetune_indices must be different integers"),
        ({"finetune_indices": [3]}, "finetune_indices must be None for scenario scratch"),
        ({"targets": (ts.attacks.Target(30, 0, 1),)}, "target index"),
        ({"targets": (ts.attacks.Target(0, 0, 3),)}, "intended_label"),
        ({"targets": (ts.attacks.Target(1, 0, 2),)}, "true_label must be 1, the class of test example 1, got 0"),
        ({"targets": (ts.attacks.Target(1, 1, 1),)}, "intended_label must be another class than the true one, got 1"),
    ],
)
def test_a_problem_that_cannot_be_is_refused_by_the_name_of_the_argument(rng, changes, words):
    dataset = make_dataset(rng)
    make_problem(dataset)
    with pytest.raises(ValueError, match=words):
        make_problem(dataset, **changes)


def say(best, second):
    """Logits of a model that favours `best`, then `second`, for each of 30 examples."""
    logits = np.zeros((30, 3), np.float32)
    logits[:, best], logits[:, second] = 2, 1
    return logits


def test_runner_up_takes_an_example_that_all_get_right_and_their_second_class(rng):
    dataset = make_dataset(rng)
    targets = {ts.attacks.choose_target("runner_up", dataset, seed, [say(1, 2)]) for seed in range(40)}
    assert {target.true_label for target in targets} == {1}
    assert {target.intended_label for target in targets} == {2}
    assert {target.index for target in targets} == set(range(1, 30, 3))
    assert all(dataset.test.y[target.index] == 1 for target in targets)
    other = say(1, 0)
    other[:20, 1] = -1  # a second model that is wrong about the first 20
    targets = {ts.attacks.choose_target("runner_up", dataset, seed, [say(1, 2), 3 * other]) for seed in range(40)}
    assert {target.index for target in targets} == set(range(22, 30, 3))
    assert {target.intended_label for target in targets} == {0}


def test_random_rule_reaches_every_other_class_and_no_surrogate_is_needed(rng):
    dataset = make_dataset(rng)
    targets = [ts.attacks.choose_target("random", dataset, seed) for seed in range(60)]
    assert {(t.true_label, t.intended_label) for t in targets} == {(a, b) for a in range(3) for b in range(3) if a != b}
    known = [ts.attacks.choose_target("random", dataset, seed, [say(0, 1)]) for seed in range(40)]
    assert {target.true_label for target in known} == {0}
    assert {target.intended_label for target in known} == {1, 2}


def test_the_same_seed_draws_the_same_target_and_another_seed_another(rng):
    dataset = make_dataset(rng)
    draws = [ts.attacks.choose_target("random", dataset, seed) for seed in (1, 1, 2, 3, 4)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1


def test_index_rule_takes_the_example_and_the_class_it_names(rng):
    dataset = make_dataset(rng)
    assert ts.attacks.choose_target("index:4:0", dataset, 0) == ts.attacks.Target(4, 1, 0)
    drawn = [ts.attacks.choose_target("index:4", dataset, seed) for seed in range(20)]
    assert {(t.index, t.true_label) for t in drawn} == {(4, 1)}
    assert {t.intended_label for t in drawn} == {0, 2}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("runnerup", "target_rule must be"),
        ("index", "target_rule must be"),
        ("index:", "target_rule must be"),
        ("index:-1", "target_rule must be"),
        ("index:1:2:3", "target_rule must be"),
        ("index:30", "from 0 to 29"),
        ("index:4:3", "from 0 to 2"),
        ("index:4:1", "must be another class than that of test example 4, got 1"),
        ("runner_up", "needs the logits"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(rng, rule, words):
    with pytest.raises(ValueError, match=words):
        ts.attacks.choose_target(rule, make_dataset(rng), 0)


def test_a_surrogate_that_is_never_right_is_refused(rng):
    dataset = make_dataset(rng)
    dataset = dataclasses.replace(dataset, test=dataclasses.replace(dataset.test, y=np.zeros(30, np.int32)))
    with pytest.raises(ValueError, match="no test example correctly"):
        ts.attacks.choose_target("runner_up", dataset, 0, [say(1, 2)])


def test_the_control_of_clean_label_poison_is_the_clean_training_set(rng):
    dataset = make_dataset(rng)
    base = np.array([3, 9, 12])
    poisons = ts.poison.Poisons(
        x=np.zeros((3, 6), np.float32), y=dataset.train.y[base], base=base, num_examples=60, attack="any", seed=7
    )
    plain = ts.attacks.control(poisons, dataset)
    assert (plain.attack, plain.seed, plain.num_examples) == ("any", 7, 60)
    clean = dataset.train.as_dataset()
    replaced = clean.apply(ts.poison.replace(plain))
    for (x, y), (x_clean, y_clean) in zip(replaced, clean):
        np.testing.assert_array_equal(x, x_clean)
        assert y == y_clean


def test_no_control_for_poison_without_bases_or_of_another_set(rng):
    dataset = make_dataset(rng)
    for base, size in (([-1], 60), ([3], 61)):
        poisons = ts.poison.Poisons(x=np.zeros((1, 6), np.float32), y=[0], base=base, num_examples=size)
        with pytest.raises(ValueError, match="base examples in the 60 training examples of small"):
            ts.attacks.control(poisons, dataset)


@pytest.mark.parametrize("num_poisons", [1, 7, 60])
def test_label_flip_changes_exactly_as_many_labels_and_nothing_else(rng, num_poisons):
    dataset = make_dataset(rng)
    poisons = ts.attacks.get("label_flip")().craft(make_problem(dataset, num_poisons=num_poisons, seed=5))
    assert len(poisons) == len(set(poisons.base)) == num_poisons
    assert (poisons.attack, poisons.seed, poisons.num_examples) == ("label_flip", 5, 60)
    np.testing.assert_array_equal(poisons.x, dataset.train.x[poisons.base])
    assert (poisons.y != dataset.train.y[poisons.base]).all()
    assert set(poisons.y) <= {0, 1, 2}


def test_label_flip_is_what_the_transform_does_to_a_pipeline(rng):
    dataset = make_dataset(rng)
    poisons = ts.attacks.get("label_flip")().craft(make_problem(dataset, num_poisons=12, seed=5))
    clean = dataset.train.as_dataset()
    replaced = [int(y) for _, y in clean.apply(ts.poison.replace(poisons))]
    flipped = [int(y) for _, y in clean.apply(ts.poison.flip_labels(12 / 60, 3, seed=5))]
    assert replaced == flipped


def test_label_flip_follows_the_seed(rng):
    dataset = make_dataset(rng)
    crafted = [ts.attacks.get("label_flip")().craft(make_problem(dataset, seed=seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(crafted[0].base, crafted[1].base)
    np.testing.assert_array_equal(crafted[0].y, crafted[1].y)
    assert set(crafted[0].base) != set(crafted[2].base)


def test_a_problem_says_what_follows_from_the_model_that_is_known(rng):
    dataset = make_dataset(rng)
    assert (make_problem(dataset).scenario, make_problem(dataset).knowledge) == ("scratch", "grey_box")
    known = make_problem(dataset, initial_model=ts.models.build("lr", (6,), 3))
    assert (known.scenario, known.knowledge) == ("finetune", "white_box")


def test_candidates_are_of_the_class_and_in_what_the_victim_trains_on(rng):
    dataset = make_dataset(rng)
    np.testing.assert_array_equal(make_problem(dataset).candidates(1), np.arange(1, 60, 3))
    problem = make_problem(dataset, num_poisons=2, scenario="transfer", finetune_indices=[7, 0, 4, 5])
    np.testing.assert_array_equal(problem.candidates(1), [4, 7])
    with pytest.raises(ValueError, match=r"num_poisons must be at most 1, .* class 0, got 2"):
        problem.candidates(0)


@pytest.mark.parametrize("size", [3, 4, 31, 60])
def test_the_finetune_set_is_balanced_and_follows_the_seed(rng, size):
    dataset = make_dataset(rng)
    indices = ts.attacks.finetune_set(dataset, size, 0)
    assert len(set(indices)) == size and (np.diff(indices) > 0).all()
    counts = np.bincount(dataset.train.y[indices], minlength=3)
    assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(indices, ts.attacks.finetune_set(dataset, size, 0))
    assert size == 60 or set(indices) != set(ts.attacks.finetune_set(dataset, size, 1))
    for wrong in (2, 61):
        with pytest.raises(ValueError, match="size must be an integer from 3 to 60"):
            ts.attacks.finetune_set(dataset, wrong, 0)


@dataclasses.dataclass(frozen=True)
class Copy(ts.attacks.Attack):
    """Inserts copies of class 0 with label 1, or relabels them."""

    times: int = options.integer(2, 1)
    insert: bool = options.flag(True)

    name = "copy"
    kind = "indiscriminate"

    def craft(self, problem):
        chosen = problem.generator(self.name).choice(problem.candidates(0), problem.num_poisons, replace=False)
        base, y = (None, np.ones(len(chosen), np.int32)) if self.insert else (chosen, None)
        return self.poisons(problem, problem.dataset.train.x[chosen], base, y, drawn=chosen.tolist())


def test_an_attack_of_ones_own_has_its_options_checked_and_recorded(rng):
    dataset = make_dataset(rng)
    inserted, replacing = (Copy(insert=insert).craft(make_problem(dataset, seed=4)) for insert in (True, False))
    assert (inserted.base == -1).all() and (inserted.y == 1).all() and (replacing.y == 0).all()
    np.testing.assert_array_equal(replacing.base, inserted.config["drawn"])
    assert (inserted.attack, inserted.seed, inserted.config["times"], inserted.num_examples) == ("copy", 4, 2, 60)
    other = Copy().craft(make_problem(dataset, seed=5))
    assert other.config["drawn"] != inserted.config["drawn"]
    with pytest.raises(ValueError, match="times must be an integer >= 1, got 0"):
        Copy(times=0)


def test_eligible_examples_are_those_that_victims_train_on(rng):
    dataset = make_dataset(rng)
    np.testing.assert_array_equal(make_problem(dataset).eligible_examples(), np.arange(60))
    problem = make_problem(dataset, num_poisons=2, scenario="transfer", finetune_indices=[7, 0, 4, 5])
    np.testing.assert_array_equal(problem.eligible_examples(), [0, 4, 5, 7])
    np.testing.assert_array_equal(problem.eligible_examples(1), [4, 7])
