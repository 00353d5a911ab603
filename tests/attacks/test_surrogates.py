"""The attacker's own models in every scenario and state of knowledge."""

import numpy as np
import pytest

import tfshape as ts
from tfshape.attacks import surrogates

RECIPE = ts.training.Recipe("adam", 1e-2, batch_size=10, epochs=2)
GENERATOR = np.random.default_rng(0)
TRAIN, TEST = (
    ts.datasets.Split(GENERATOR.random((size, 5), np.float32), np.arange(size, dtype=np.int32) % 2) for size in (40, 12)
)
SMALL = ts.datasets.Dataset("small", TRAIN, TEST, 2, (5,))
INITIAL = ts.models.build("mlp", (5,), 2, seed=9)


def make_problem(scenario, knowledge="grey_box", **changes):
    initial = INITIAL if knowledge == "white_box" else None
    other = "lr" if knowledge == "black_box" else None
    return ts.attacks.Problem(
        SMALL,
        "mlp",
        RECIPE,
        num_poisons=2,
        seed=0,
        scenario=scenario,
        knowledge=knowledge,
        initial_model=initial,
        surrogate_model=other,
        **changes,
    )


def same(first, second):
    return [bool(np.array_equal(a, b)) for a, b in zip(first, second)]


@pytest.mark.parametrize(("scenario", "kept"), [("scratch", 6), ("finetune", 6), ("transfer", 4)])
def test_a_training_starts_from_what_the_scenario_says(scenario, kept):
    weights = INITIAL.get_weights()
    model = ts.training.starting_model(scenario, "mlp", SMALL, 3, weights)
    head = ts.models.build("mlp", (5,), 2, seed=3).get_weights()[4:]
    assert same(model.get_weights(), weights)[:kept] == [True] * kept
    assert kept == 6 or same(model.get_weights()[4:], head) == [True, True]
    ts.training.fit(model, TRAIN.as_dataset(), RECIPE, 0)
    trained = same(model.get_weights(), weights)
    assert not trained[4] and trained[:4] == [scenario == "transfer"] * 4


@pytest.mark.parametrize("scenario", ["scratch", "finetune", "transfer"])
def test_whoever_knows_the_victims_model_starts_from_it(scenario):
    pool = surrogates.Pool(make_problem(scenario, "white_box"), 0, 3, 2)
    weights = INITIAL.get_weights()
    assert len(pool.starts) == 1 and all(same(pool.starts[0], weights))
    features = [all(same(found, weights)[:4]) for found in pool.weights]
    whole = [all(same(found, weights)) for found in pool.weights]
    expected = {
        "scratch": ([False] * 6, [False] * 6),
        "finetune": ([True], [True]),
        "transfer": ([True] * 6, [False] * 6),
    }
    assert (features, whole) == expected[scenario]
    assert len(pool.clean) == (3 if scenario == "scratch" else 1)


@pytest.mark.parametrize("knowledge", ["grey_box", "black_box"])
@pytest.mark.parametrize("scenario", ["finetune", pytest.param("transfer", marks=pytest.mark.slow)])
def test_whoever_does_not_trains_clean_models_on_all_of_the_data(scenario, knowledge):
    problem = make_problem(scenario, knowledge, finetune_indices=np.arange(20))
    pool = surrogates.Pool(problem, 0, 3, 2)
    assert len(pool.clean) == 3 and len({weights[0].tobytes() for weights in pool.clean}) == 3
    assert len(pool.clean[0]) == (2 if knowledge == "black_box" else 6)
    assert len(pool.weights) == (3 if scenario == "finetune" else 6) and pool.test_logits.shape == (3, 12, 2)
    longer = make_problem(scenario, knowledge, initial_recipe=ts.training.Recipe("adam", 1e-2, 10, 5))
    assert not any(same(pool.clean[0][:1], surrogates.Pool(longer, 0, 3, 2).clean[0][:1]))


def test_the_training_set_holds_the_poison_and_only_what_the_victim_trains_on():
    problem = make_problem("transfer", finetune_indices=np.array([3, 8, 9]))
    x = np.full((1, 5), 0.5, np.float32)
    found = ts.attacks.training_set(problem, [8], x)
    np.testing.assert_array_equal(found.x, [TRAIN.x[3], x[0], TRAIN.x[9]])
    np.testing.assert_array_equal(found.y, TRAIN.y[[3, 8, 9]])
    np.testing.assert_array_equal(ts.attacks.training_set(problem).x, TRAIN.x[[3, 8, 9]])


def test_surrogates_of_an_adaptive_attacker_are_trained_with_the_shaping():
    tiny = ts.shaping.parse("clip(1e-6)")
    sgd = ts.training.Recipe("sgd", 0.1, batch_size=10, epochs=2)
    moves = {}
    for shaper in (None, tiny):
        problem = ts.attacks.Problem(SMALL, "mlp", sgd, 2, 0, initial_model=INITIAL, scenario="scratch", shaping=shaper)
        pool = surrogates.Pool(problem, 0, 1, 1)
        moves[shaper] = max(np.abs(a - b).max() for a, b in zip(pool.weights[0], INITIAL.get_weights()))
    assert 0 < moves[tiny] < 1e-5 < moves[None]


def test_pools_are_shared_only_where_they_come_out_the_same():
    def key(*arguments, **changes):
        return surrogates._Shared(make_problem(*arguments, **changes))

    assert key("transfer") == key("transfer") and hash(key("transfer")) == hash(key("transfer"))
    others = [
        key("scratch"),
        key("transfer", "white_box"),
        key("transfer", "black_box"),
        key("transfer", shaping=ts.shaping.Clip(1.0)),
        key("transfer", finetune_indices=[1, 2, 3]),
        key("transfer", initial_recipe=ts.training.Recipe(epochs=7)),
    ]
    assert all(other != key("transfer") for other in others)
