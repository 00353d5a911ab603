"""Defenses beside undefended training stopped at equal accuracy: by hand, and on planted tables."""

import math

import numpy as np
import pytest
from scipy import stats

from tfshape.evaluation import frontier

pytestmark = pytest.mark.one_stack

STEPS = np.unique(np.round(np.geomspace(8, 460, 20)).astype(int))
# undefended mlps on README's poison: step, accuracy and rate of success; the first is a guess
MEASURED = np.array(
    [
        (5, 0.450, 0.03),
        (25, 0.725, 0.10),
        (46, 0.770, 0.10),
        (70, 0.787, 0.17),
        (92, 0.795, 0.30),
        (138, 0.800, 0.43),
        (230, 0.816, 0.53),
        (322, 0.828, 0.67),
        (460, 0.832, 0.93),
    ]
)


def undefended(*curves):
    return [{"trial": trial, "checkpoints": list(curve)} for trial, curve in enumerate(curves)]


def defended(*pairs):
    return [{"trial": trial, "accuracy": accuracy, "success": win} for trial, (accuracy, win) in enumerate(pairs)]


def world(rng, trials, noise=0.005, rates=False):
    """-> a function of steps and of what a defense takes from success, which trains a victim in each trial and gives
    accuracies and successes [trials, steps]. Victims of a trial share how hard its target is."""
    hard, easy = rng.normal(size=trials), rng.normal(0, noise, trials)

    def train(steps, effect=0.0):
        size = trials, len(steps)
        accuracy = np.interp(np.log(steps), np.log(MEASURED[:, 0]), MEASURED[:, 1]) + easy[:, None]
        accuracy = accuracy + rng.normal(0, noise, (trials, 1)) + rng.normal(0, noise, size)
        rate = np.interp(np.log(steps), np.log(MEASURED[:, 0]), MEASURED[:, 2]) - effect
        if rates:
            return accuracy, np.clip(rate + 0.1 * hard[:, None] + rng.normal(0, 0.05, size), 0, 1)
        fate = np.sqrt(0.6) * hard[:, None] + np.sqrt(0.1) * rng.normal(size=(trials, 1))
        fate = fate + np.sqrt(0.3) * rng.normal(size=size)
        return accuracy, fate < stats.norm.ppf(np.clip(rate, 1e-3, 1 - 1e-3))

    return train


def planted(rng, trials, step, effect=0.0, **options):
    """The rows of a "defense" that trains for `step` steps and takes `effect` from success; the undefended rows."""
    train = world(rng, trials, **options)
    kind = float if options.get("rates") else bool
    accuracy, success = train(STEPS)
    curves = [list(zip(STEPS.tolist(), a, map(kind, s))) for a, s in zip(accuracy, success)]
    accuracy, success = train(np.array([step]), effect)
    return defended(*((a, kind(s)) for a, s in zip(accuracy[:, 0], success[:, 0]))), undefended(*curves)


def share_helped(tables):
    found = [frontier.compare(*table) for table in tables]
    return np.mean([one.beyond < 0 and one.p_value < 0.05 for one in found]), found


def test_one_step_for_all_trials_by_the_mean_accuracy():
    curves = undefended(
        [(1, 0.5, False), (2, 0.7, False), (4, 0.8, True)],
        [(1, 0.5, False), (2, 0.5, True), (4, 0.8, True)],
    )
    # means 0.5, 0.6, 0.8: the defense's 0.7 is halfway between steps 2 and 4, though one trial of its own is at 0.8
    found = frontier.compare(defended((0.6, False), (0.8, False)), curves)
    assert (found.where, found.trials, found.counted) == ("on", 2, True)
    assert found.step == pytest.approx(3.0)
    assert found.undefended_accuracy == pytest.approx(found.accuracy) == pytest.approx(0.7)
    assert found.undefended == pytest.approx((0.5 + 1) / 2)
    assert found.beyond == pytest.approx(-0.75)
    assert -1 <= found.low < found.beyond < found.high <= 1 and found.p_value >= 0.5
    assert found.columns() == {
        "undefended_at_equal_accuracy": found.undefended,
        "beyond_accuracy": found.beyond,
        "beyond_accuracy_low": found.low,
        "beyond_accuracy_high": found.high,
        "beyond_accuracy_p": found.p_value,
    }


def test_it_is_the_exact_mcnemar_test_at_a_checkpoint_of_certain_accuracy():
    wins = [True] * 9 + [False] * 11
    curves = undefended(*([(10, 0.5, False), (20, 0.75, win), (40, 0.875, True)] for win in wins))
    ours = [False] * 8 + [True] * 2 + [False] * 10  # 8 lost, 1 gained
    found = frontier.compare(defended(*((0.75, win) for win in ours)), curves)
    assert (found.step, found.undefended, found.success) == (20, 9 / 20, 2 / 20)
    assert found.p_value == pytest.approx(stats.binomtest(1, 9).pvalue)
    assert found.high < 0


def test_the_first_time_that_the_accuracy_is_reached_counts():
    curves = undefended([(1, 0.5, 0.0), (2, 0.7, 0.2), (3, 0.6, 0.4), (4, 0.7, 0.6), (5, 0.65, 0.9)])
    assert frontier.compare(defended((0.7, 0.0)), curves).step == 2
    assert frontier.compare(defended((0.6, 0.0)), curves).step == pytest.approx(1.5)
    found = frontier.compare(defended((0.75, 0.0)), curves)  # none is as accurate: the first of the most accurate ones
    assert (found.where, found.step, found.undefended_accuracy) == ("above", 2, 0.7)
    found = frontier.compare(defended((0.45, 0.0)), curves)
    assert found.where == "below" and found.accuracy == 0.45
    assert math.isnan(found.undefended) and math.isnan(found.p_value)
    tenths = undefended(*[[(1, 0.1, False), (2, 0.7, True)]] * 3)  # whose mean is not 0.1 in binary
    for accuracy in (0.1 - 1e-12, 0.7 + 1e-12):
        assert frontier.compare(defended(*[(accuracy, False)] * 3), tenths).where == "on"


def test_a_flat_curve_whose_success_rises_leaves_the_match_uncertain():
    curves = undefended(*([(1, 0.5, False), (2, 0.80 + i, False), (3, 0.801 + i, True)] for i in (-0.01, 0.01) * 5))
    pairs = [(0.801 + i, False) for i in (-0.02, 0.02) * 5]
    found = frontier.compare(defended(*pairs), curves)
    assert found.undefended == pytest.approx(1.0) and found.beyond == pytest.approx(-1.0)
    assert found.p_value > 0.05 and found.high > -0.5  # a step earlier nobody succeeds


def test_rows_that_cannot_be_compared():
    curves = undefended([(1, 0.5, False), (2, 0.6, True)], [(1, 0.5, False), (2, 0.6, True)])
    assert frontier.compare([], curves).where == "no checkpoints"
    assert frontier.compare(defended((0.5, True)), []).where == "no checkpoints"
    assert frontier.compare(defended((0.5, True)), [{"trial": 0}, {"trial": 1, "checkpoints": None}]).trials == 0
    assert frontier.compare([{"trial": 0, "accuracy": 0.5}], curves).trials == 0
    one = frontier.compare(defended((0.6, False)), curves)
    assert (one.trials, one.beyond) == (1, -1.0) and math.isnan(one.low) and math.isnan(one.p_value)
    two = frontier.compare(defended((0.6, True), (math.nan, True)), curves)
    assert two.trials == 1
    broken = undefended([(1, 0.5, False), (2, math.nan, True), (3, 0.6, True)], [(1, 0.5, None), (3, 0.6, True)])
    assert frontier.compare(defended((0.6, False), (0.6, False)), broken).step == 3  # the one step that both have
    assert [point["step"] for point in frontier.curve(broken)] == [3]


def test_equal_success_everywhere_is_no_difference():
    for win in (True, False, 0.3):
        curves = undefended(*[[(1, 0.5, win), (2, 0.6, win)]] * 12)
        found = frontier.compare(defended(*[(0.55, win)] * 12), curves)
        assert found.beyond == 0 and found.p_value == 1
        assert found.low <= 0 <= found.high


def test_points_of_the_curve():
    first, last = frontier.curve(undefended([(1, 0.4, False), (9, 0.8, True)], [(9, 0.6, False), (1, 0.2, False)]))
    assert (first["step"], first["success"], first["trials"]) == (1, 0, 2)
    assert first["accuracy"] == pytest.approx(0.3) and last["accuracy"] == pytest.approx(0.7)
    assert (last["success"], last["success_low"]) == (0.5, pytest.approx(1 - last["success_high"]))
    assert frontier.curve([]) == []
    rates = frontier.curve(undefended([(1, 0.4, 0.0)], [(1, 0.4, 0.0)]))
    assert rates[0]["success_high"] == 0  # of rates: Student, not Wilson


def test_harm_is_matched_by_the_accuracy_without_the_attack():
    rows = [{"trial": 0, "accuracy": 0.7, "checkpoints": [(1, 0.5, None), (2, 0.6, None)]}, {"trial": 1, "accuracy": 0}]
    controls = [{"trial": 0, "accuracy": 0.8, "checkpoints": [(2, 0.75, None), (3, 0.8, None)]}]
    (found,) = frontier.harm(rows, controls)
    assert (found["trial"], found["accuracy"]) == (0, 0.8)
    assert found["success"] == pytest.approx(0.1)
    assert found["checkpoints"] == [(2, 0.75, pytest.approx(0.15))]
    assert "checkpoints" not in frontier.harm([{"trial": 0, "accuracy": 0.7}], controls)[0]


@pytest.mark.parametrize(("step", "rates"), [(60, False), (180, False), (300, False), (180, True)])
def test_training_for_fewer_steps_is_not_beyond_accuracy(rng, step, rates):
    helped, found = share_helped(planted(rng, 20, step, rates=rates) for _ in range(300))
    assert helped <= 0.07
    assert np.mean([one.low <= 0 <= one.high for one in found]) >= 0.93


def test_dropping_the_poison_is_beyond_accuracy(rng):
    def table():
        _, curves = planted(rng, 20, 460)
        return defended(*((rng.normal(0.844, 0.005), bool(win)) for win in rng.random(20) < 0.02)), curves

    helped, found = share_helped(table() for _ in range(50))
    assert helped == 1 and {one.where for one in found} == {"above"}


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.004, 0.008])
@pytest.mark.parametrize("step", [60, 81, 180, 300, 400])
def test_error_and_coverage_at_20_trials(rng, step, noise):
    helped, found = share_helped(planted(rng, 20, step, noise=noise) for _ in range(2000))
    assert helped <= 0.05
    assert np.mean([one.low <= 0 <= one.high for one in found]) >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize(("trials", "effect", "power"), [(20, 0.3, 0.55), (20, 0.4, 0.85), (50, 0.2, 0.65)])
def test_power(rng, trials, effect, power):
    helped, _ = share_helped(planted(rng, trials, 180, effect) for _ in range(1000))
    assert helped >= power
