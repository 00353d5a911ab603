"""Every bad value of an experiment is named, and good ones are kept."""

import json
import math

import numpy as np
import pytest

import tfshape as ts
from tfshape.defenses import choices
from tfshape.evaluation import accounting, experiment, run


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget", 2),
        ("budget", 0),
        ("budget", math.nan),
        ("budget", True),
        ("num_poisons", 0),
        ("num_poisons", 1.5),
        ("num_poisons", (1, 0)),
        ("num_poisons", (2, 2)),
        ("num_poisons", ()),
        ("epsilon", 0),
        ("epsilon", math.inf),
        ("sampling", "lottery"),
        ("knowledge", "crystal_box"),
        ("surrogate_model", "cnn"),
        ("finetune_examples", 100),
        ("count_trials", 0),
        ("eps", 0.0),
        ("eps", 1.1),
        ("clip", -1),
        ("clip", 0),
        ("clip", math.inf),
        ("noise", -0.1),
        ("noise", math.nan),
        ("delta", 0),
        ("delta", 1),
        ("trials", 0),
        ("trials", None),
        ("trials", 10**20),
        ("count_trials", 10**20),
        ("epochs", 10**400),
        ("noise", 1e308),
        ("clip", 1e308),
        ("learning_rate", 1e308),
        ("epsilon", 1e308),
        ("num_poisons", 10**20),
        ("adaptive", "yes"),
        ("model", 3),
        ("defense", ["clip(1)"]),
        ("classes", "34"),
        ("classes", (3, -1)),
        ("seed", -1),
        ("seed", 2**32),
        ("scenario", "scratchy"),
        ("engine", "warp"),
        ("num_microbatches", 0),
        ("num_microbatches", 2),
    ],
)
def test_bad_values_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got "):
        ts.Experiment(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attack", "gradient_machting"),
        ("attack", "gradient_matching(steps=0)"),
        ("attack", "gradient_matching(stepz=1)"),
        ("attack", "__import__('os').system('true')"),
        ("dataset", "fashion"),
        ("model", "vgg"),
        ("optimizer", "lion king"),
        ("learning_rate", -1.0),
        ("batch_size", 6_001),
        ("epochs", 0),
        ("shaping", "clip(1.0)|clop(2)"),
        ("target_rule", "nearest"),
    ],
)
def test_bad_values_that_rooms_check_are_named_before_anything_is_written(name, value, tmp_path):
    with pytest.raises(ValueError, match=name.replace("_", ".")):
        ts.evaluate(ts.Experiment(**{"attack": "gradient_matching", "model": "lr", name: value}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "beside"),
    [
        ("shaping", {"noise": 0.1}),
        ("shaping", {"clip": 2.0}),
        ("shaping", {"epsilon": 1.0}),
        ("defense", {"noise": 0.1}),
        ("defense", {"clip": 2.0}),
        ("defense", {"epsilon": 1.0}),
        ("defense", {"shaping": "clip(1.0)"}),
        ("epsilon", {"noise": 0.1}),
    ],
)
def test_nothing_overrides_another_setting_in_silence(given, beside):
    value = {"shaping": "clip(1.0)", "defense": "clip(1.0)", "epsilon": 2.0}[given]
    (name,) = beside
    with pytest.raises(ValueError, match=f"^{name} must be left out with {given}, got "):
        ts.Experiment(**{given: value}, **beside)
    saved = {**ts.Experiment(**{given: value}).to_dict(), **beside}  # by an earlier version, which ignored it
    assert ts.Experiment.from_dict(saved) == ts.Experiment(**{given: value})


def test_numbers_of_numpy_are_numbers():
    values = {"trials": np.int64(3), "clip": np.float32(0.5), "noise": np.array(2.0), "num_poisons": (np.uint8(3), 4)}
    values.update(classes=np.array([3, 4]), adaptive=np.bool_(True), seed=np.uint32(7), learning_rate=np.float16(0.5))
    plain = {"trials": 3, "clip": 0.5, "noise": 2.0, "num_poisons": (3, 4), "classes": (3, 4), "adaptive": True}
    e = ts.Experiment(**values)
    assert e == ts.Experiment(**plain, seed=7, learning_rate=0.5)
    assert json.loads(json.dumps(e.to_dict()))["classes"] == [3, 4]


@pytest.mark.parametrize("attack", ["label_flip", "badnets", "gradient_matching"])
def test_a_target_rule_is_checked_whatever_the_attack(attack):
    with pytest.raises(ValueError, match=r"^target_rule must be "):
        run.plan(ts.Experiment(attack=attack, dataset="digits", model="lr", target_rule="anything"))


def test_microbatches_divide_the_batch():
    with pytest.raises(ValueError, match=r"^num_microbatches must be a divisor of batch_size=128, got 3$"):
        ts.Experiment(num_microbatches=3, batch_size=128, engine="tensorflow_privacy")


def test_budget_becomes_a_count():
    assert ts.Experiment(budget=0.05).count(6_000) == (300,)
    assert ts.Experiment(num_poisons=7).count(6_000) == (7,)
    with pytest.raises(ValueError, match=r"^num_poisons must be 1 to all of the 6 training examples, got 7$"):
        ts.Experiment(num_poisons=7).count(6)
    with pytest.raises(ValueError, match=r"^budget must .*, got 0\.001$"):
        ts.Experiment(budget=0.001).count(100)


def test_epsilon_counts_what_was_run():
    plain = ts.Experiment(noise=1.0)
    (_, choice) = choices.choices(plain, 6_000).values()
    shaper = choice.shaper
    steps = plain.epochs * (6_000 // plain.batch_size)
    for scheme in ("shuffle", "poisson"):
        expected = ts.privacy.epsilon(1.0, plain.batch_size, 6_000, steps, plain.delta, sampling=scheme)
        assert accounting.epsilon(plain, shaper, 6_000, scheme) == pytest.approx(expected)
    grouped = ts.Experiment(noise=1.0, num_microbatches=plain.batch_size // 2, engine="tensorflow_privacy")
    halved = ts.privacy.epsilon(0.5, plain.batch_size, 6_000, steps, plain.delta, sampling="shuffle")
    assert accounting.epsilon(grouped, shaper, 6_000, "shuffle") == pytest.approx(halved)
    assert accounting.epsilon(ts.Experiment(scenario="finetune"), shaper, 6_000, "shuffle") == math.inf
    assert accounting.epsilon(plain, None, 6_000, "shuffle") == math.inf
    (_, silent) = choices.choices(ts.Experiment(noise=0.0), 6_000).values()
    assert accounting.epsilon(plain, silent.shaper, 6_000, "shuffle") == math.inf
    assert "without privacy" in accounting.statement(ts.Experiment(scenario="finetune"), choice, [])


def test_statement_and_row_agree_on_epsilon_where_poison_is_inserted():
    e = ts.Experiment(batch_size=100)
    (_, choice) = choices.choices(e, 6_000).values()
    row = {"num_examples": 6_050, "num_poisons": 50, "inserted": True}
    words = accounting.statement(e, choice, 20 * [row])
    assert f"epsilon = {accounting.epsilon(e, choice.shaper, 6_050, 'poisson'):.3f} for the run" in words
    assert "DP-SGD on 6,050 examples" in words and "include the 50 that the attack inserted" in words
    assert "20 such trainings were made" in words and "only run" not in words


def test_sampling_is_poisson_where_there_is_noise():
    (none, noisy) = choices.choices(ts.Experiment(), 6_000).values()
    (_, silent) = choices.choices(ts.Experiment(noise=0.0), 6_000).values()
    found = [accounting.sampling(ts.Experiment(), choice.shaper) for choice in (none, noisy, silent)]
    assert found == ["shuffle", "poisson", "shuffle"]
    assert accounting.sampling(ts.Experiment(engine="tensorflow_privacy"), noisy.shaper) == "shuffle"
    assert accounting.sampling(ts.Experiment(sampling="balls_in_bins"), noisy.shaper) == "balls_in_bins"


@pytest.mark.parametrize(
    "options", [{}, {"sampling": "shuffle"}, {"engine": "tensorflow_privacy"}, {"count_trials": 4}]
)
def test_epsilon_is_reached_and_not_exceeded(options):
    e = ts.Experiment(epsilon=3.0, **options)
    (_, choice) = choices.choices(e, 6_000).values()
    found = accounting.epsilon(e, choice.shaper, 6_000, accounting.sampling(e, choice.shaper))
    assert 2.95 < found <= 3.0


def test_defenses_are_split_at_the_outer_commas_and_undefended_comes_first():
    e = ts.Experiment(defense="clip(1)|noise(0.1), spectral_signatures(rate=0.02),none,knn,knn")
    assert list(choices.choices(e, 6_000)) == ["none", "clip(1.0)|noise(0.1)", "spectral_signatures(rate=0.02)", "knn"]
    for wrong in ("clip(1),", "klip(1)", "spectral_signatures(rate=2)"):
        with pytest.raises(ValueError, match=r"defense|shaping|rate"):
            choices.choices(ts.Experiment(defense=wrong), 6_000)
    with pytest.raises(ValueError, match="adaptive"):
        choices.choices(ts.Experiment(defense="knn", adaptive=True), 6_000)


def test_attack_options_are_read():
    assert ts.attacks.parse("gradient_matching(restarts=3)").restarts == 3
    assert ts.attacks.parse(" label_flip ").name == "label_flip"


def test_the_words_are_those_of_the_rooms_that_read_them():
    """They are spelled in the experiment too, which is checked before TensorFlow is loaded."""
    assert experiment.SCENARIOS == ts.attacks.base.SCENARIOS and experiment.KNOWLEDGE == ts.attacks.base.KNOWLEDGE
    assert set(experiment.SAMPLING) == set(ts.privacy.SAMPLING) == set(ts.privacy.sampling.SAMPLERS)
