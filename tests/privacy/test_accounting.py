"""Epsilon against dp_accounting, tensorflow-privacy and published figures; what is built on it, and its words."""

import math
import re

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from scipy import stats
from selection import most_slow

from tfshape import certificates, privacy
from tfshape.privacy import curves, losses

pytestmark = pytest.mark.one_stack


def composed(noise, probability, steps):
    event = dp_accounting.GaussianDpEvent(noise)
    if probability < 1:
        event = dp_accounting.PoissonSampledDpEvent(probability, event)
    return dp_accounting.SelfComposedDpEvent(event, steps)


def compare_with_dp_accounting(rng, runs):
    """Also with tensorflow-privacy, where it is installed: its epsilon of a run is that of dp_accounting's event."""
    try:
        from tensorflow_privacy.privacy.analysis import compute_dp_sgd_privacy_lib as theirs
    except ImportError:  # it has no release for TensorFlow >= 2.16
        theirs = None
    for _ in range(runs):
        noise, n = rng.uniform(0.8, 6), int(rng.integers(1_000, 60_000))
        batch, steps, delta = int(rng.integers(16, 400)), int(rng.integers(1, 800)), 10 ** rng.uniform(-7, -3)
        ours = privacy.epsilon(noise, batch, n, steps, delta)
        event, q = composed(noise, batch / n, steps), batch / n
        renyi = rdp.RdpAccountant().compose(event).get_epsilon(delta)
        assert ours == pytest.approx(pld.PLDAccountant().compose(event).get_epsilon(delta), abs=1e-6)
        assert ours <= renyi + 1e-6
        assert privacy.delta_for(ours, noise, batch, n, steps) == pytest.approx(delta, rel=1e-3)
        if theirs is not None:
            epochs, kind = (steps - 0.5) * q, theirs.AccountantType
            example = theirs._compute_dp_sgd_example_privacy
            assert ours == pytest.approx(example(epochs, noise, delta, False, q, kind.PLD), abs=1e-6)
            assert renyi == pytest.approx(example(epochs, noise, delta, False, q, kind.RDP), abs=1e-6)


def test_poisson_equals_dp_accounting_on_random_runs(rng):
    compare_with_dp_accounting(rng, 4)


@pytest.mark.slow
def test_poisson_equals_dp_accounting_on_200_random_runs(rng):
    compare_with_dp_accounting(rng, 200)


def test_shuffle_equals_composed_gaussians(rng):
    for _ in range(5):
        noise, batch, n, epochs = rng.uniform(1, 5), int(rng.integers(16, 400)), 6_000, int(rng.integers(1, 20))
        ours = privacy.epsilon(noise, batch, n, epochs * (n // batch), 1e-5, sampling="shuffle")
        grid = pld.PLDAccountant().compose(composed(noise, 1.0, epochs)).get_epsilon(1e-5)
        assert ours == pytest.approx(grid, abs=2e-3)
        assert ours <= grid + 1e-9  # the grid is rounded up


@pytest.mark.parametrize(
    ("run", "expected", "source"),
    [
        (dict(noise_multiplier=0.7, batch_size=10, num_examples=1_000, steps=120, delta=1e-5), 2.4612381, "example"),
        (dict(noise_multiplier=0.35, batch_size=10, num_examples=1_000, steps=120, delta=1e-5), 18.6977407, "example"),
        (dict(noise_multiplier=1.0, batch_size=64, num_examples=10_000, steps=782, delta=1e-6), 1.199, "statement"),
    ],
)
def test_published_figures_of_tensorflow_privacy(run, expected, source):
    """tensorflow-privacy 0.9, compute_dp_sgd_privacy_test.py: test_compute_dp_sgd_example_privacy (…_pld) and
    test_dp_sgd_privacy_statement_no_user_dp_with_pld; microbatching there halves the multiplier."""
    digits = 1e-6 if source == "example" else 5e-4
    assert privacy.epsilon(**run) == pytest.approx(expected, abs=digits)


def test_published_figures_without_amplification_and_of_a_paper():
    # The same file, no_microbatching_no_subsampling_pld (two epochs begun) and the statement's "once per epoch".
    assert privacy.epsilon(0.7, 100, 1_000, 20, 1e-5, "shuffle") == pytest.approx(10.1224946, abs=1e-3)
    assert privacy.epsilon(1.0, 64, 10_000, 5 * 156, 1e-6, "shuffle") == pytest.approx(12.595, abs=2e-3)
    # Abadi et al. 2016, section 3: q = 0.01, sigma = 4, delta = 1e-5, T = 10,000 has epsilon 1.26 by moments, which are
    # an upper bound; losses are tighter.
    assert 0.9 < privacy.epsilon(4.0, 600, 60_000, 10_000, 1e-5) <= 1.26


def test_own_losses_equal_those_of_dp_accounting():
    for noise, q, steps in [(1.0, 0.02, 200), (0.6, 0.02, 100), (2.0, 0.1, 500), (1.5, 1.0, 3)]:
        theirs = pld.PLDAccountant().compose(composed(noise, q, steps)).get_epsilon(1e-5)
        assert losses.mixture(noise, q, 1, steps).epsilon(1e-5) == pytest.approx(theirs, abs=1e-5)


def test_groups():
    run = (1.0, 120, 6_000, 200)
    one, four = (privacy.epsilon(*run, 1e-5, group_size=k) for k in (1, 4))
    assert one == privacy.epsilon(*run, 1e-5)
    by_lemma = curves.Group(losses.mixture(1.0, 0.02, 1, 200), 4).epsilon(1e-5)
    assert one < four < by_lemma
    # A group that is always in the batch is one example with k times the sensitivity.
    full = privacy.epsilon(6.0, 100, 100, 3, 1e-5, group_size=3)
    assert full == pytest.approx(curves.Gaussian(2 / math.sqrt(3)).epsilon(1e-5), abs=1e-4)
    # A group of two of which never both are drawn can do no worse than the loss of one twice as likely.
    pair = privacy.epsilon(1.0, 1, 6_000, 10, 1e-5, group_size=2)
    assert pair >= privacy.epsilon(1.0, 2, 6_000, 10, 1e-5) - 1e-9


@pytest.mark.slow
def test_replacing_is_between_adding_and_twice_the_sensitivity():
    for noise, batch, steps in [(1.0, 120, 200), (2.0, 600, 100)]:
        added = privacy.epsilon(noise, batch, 6_000, steps, 1e-5)
        replaced = privacy.epsilon(noise, batch, 6_000, steps, 1e-5, neighbors="replace")
        assert added < replaced < privacy.epsilon(noise / 2, batch, 6_000, steps, 1e-5)
    full = privacy.epsilon(2.0, 100, 100, 3, 1e-5, neighbors="replace")
    assert full == pytest.approx(curves.Gaussian(1 / math.sqrt(3)).epsilon(1e-5), abs=1e-4)
    shuffled = privacy.epsilon(2.0, 100, 6_000, 60, 1e-5, "shuffle", neighbors="replace")
    assert shuffled == privacy.epsilon(1.0, 100, 6_000, 60, 1e-5, "shuffle")
    # Values of dp_accounting 0.6.0, PLDAccountant(REPLACE_ONE), which the older ones cannot compute.
    assert privacy.epsilon(1.0, 20, 1_000, 200, 1e-5, neighbors="replace") == pytest.approx(2.587717, abs=2e-5)


def test_balls_in_bins_against_a_simulation_and_its_limits(rng):
    noise, bins, at = 1.0, 8, 0.5
    curve = losses.random_allocation(noise, bins, 1)
    z = rng.normal(size=(400_000, bins)) / noise
    moved = z.copy()
    moved[:, 0] += noise**-2
    ratio, ratio_p = (math.e ** (part - 0.5 * noise**-2) for part in (z, moved))
    ratio, ratio_p = ratio.mean(axis=1), ratio_p.mean(axis=1)
    removed = (1 - math.exp(at) / ratio_p).clip(0).mean()
    added = (1 - math.exp(at) * ratio).clip(0).mean()
    assert curve.delta(at) == pytest.approx(max(removed, added), abs=0.003)
    alone = losses.random_allocation(noise, 1, 1).epsilon(1e-5)
    assert curves.Gaussian(noise).epsilon(1e-5) <= alone < curves.Gaussian(noise).epsilon(1e-5) + 5e-3
    run = (1.0, 120, 6_000, 500, 1e-5)
    bins, poisson = privacy.epsilon(*run, "balls_in_bins"), privacy.epsilon(*run)
    assert 0.5 * poisson < bins < poisson < privacy.epsilon(*run, "shuffle")
    assert privacy.epsilon(0.05, 120, 6_000, 500, 1e-5, "balls_in_bins") <= privacy.epsilon(
        0.05, 120, 6_000, 500, 1e-5, "shuffle"
    )


@pytest.mark.parametrize("sampling", most_slow(privacy.SAMPLING, "poisson"))
def test_more_noise_fewer_steps_fewer_trials_leak_less(sampling):
    base = privacy.epsilon(1.0, 100, 2_000, 60, 1e-5, sampling)
    assert privacy.epsilon(1.5, 100, 2_000, 60, 1e-5, sampling) < base
    assert privacy.epsilon(1.0, 100, 2_000, 20, 1e-5, sampling) < base
    assert privacy.epsilon(1.0, 100, 2_000, 60, 1e-4, sampling) < base
    assert privacy.epsilon(1.0, 100, 2_000, 60, 1e-5, sampling, count_trials=3) == pytest.approx(
        privacy.epsilon(1.0, 100, 2_000, 180, 1e-5, sampling), abs=1e-9
    )


def test_truncation_is_paid_for_in_delta():
    run = (1.0, 100, 2_000, 60)
    base = privacy.epsilon(*run, 1e-5)
    assert privacy.epsilon(*run, 1e-5, truncation=1e-18) == pytest.approx(base, abs=1e-5)
    for truncation in (1e-6, 1e-4):
        spent = privacy.epsilon(*run, 1e-5, truncation=truncation)
        rows = privacy.sampling.rows(100, 2_000, 60, truncation)
        full = 60 * stats.binom.sf(rows - 1, 2_000, 0.05)  # a batch that the others fill already
        left = 1e-5 - full * privacy.delta_for(spent, 0.5, 100, 2_000, 60)
        assert spent > base and spent == pytest.approx(privacy.epsilon(*run, left), abs=1e-4)
        assert privacy.epsilon(*run, 1e-5, truncation=truncation, neighbors="replace") == privacy.epsilon(
            *run, 1e-5, neighbors="replace"
        )


def test_truncation_against_what_full_batches_do():
    """One step, others that fill the batch with a chance of `full`; the example then puts an opposite one out of it."""
    noise, batch, n, rows = 1.0, 4, 8, 6
    truncation = float(stats.binom.sf(rows, n, batch / n))
    full = stats.binom.sf(rows - 1, n - 1, batch / n)  # a full batch of the n - 1 others
    x = np.linspace(-12, 14, 200_001)
    without, one, two = (stats.norm.pdf(x, moved, noise) for moved in (0, 1, 2))
    # Who sees whether the others fill the batch sees no less than who sees the sum alone.
    for epsilon in (0.1, 0.5, 1.0, 2.0, 4.0):
        factor = math.exp(epsilon)
        lost = [
            np.clip((without + moved) / 2 - factor * without, 0, None).sum() * (x[1] - x[0]) for moved in (one, two)
        ]
        truth = (1 - full) * lost[0] + full * lost[1]
        assert privacy.sampling.rows(batch, n, 1, truncation) == rows
        bound = privacy.delta_for(epsilon, noise, batch, n, 1, truncation=truncation)
        assert truth <= bound < 10 * truth + 1e-6


@pytest.mark.parametrize("sampling", ["poisson", "balls_in_bins"])
def test_padding_decides_nothing_and_only_no_noise_is_infinite(sampling):
    for noise in (0.02, 0.1, 0.25):
        bare = privacy.epsilon(noise, 100, 2_000, 60, 1e-5, sampling)
        padded = privacy.epsilon(noise, 100, 2_000, 60, 1e-5, sampling, truncation=privacy.sampling.TRUNCATION)
        assert bare <= padded < bare * (1 + 1e-6) + 1e-3
    assert math.isfinite(privacy.epsilon(1.0, 100, 2_000, 60, 1e-30, sampling, truncation=1e-18))
    assert math.isfinite(privacy.epsilon(1e-6, 100, 2_000, 60, 1e-5, sampling))
    assert privacy.epsilon(0.0, 100, 2_000, 60, 1e-5, sampling, truncation=1e-18) == math.inf


@pytest.mark.parametrize("sampling", most_slow(privacy.SAMPLING, "shuffle"))
def test_noise_and_steps_for_a_target(sampling):
    noise = privacy.noise_for(3.0, 100, 2_000, 60, 1e-5, sampling)
    assert 2.98 < privacy.epsilon(noise, 100, 2_000, 60, 1e-5, sampling) <= 3.0
    steps = privacy.steps_for(3.0, noise, 100, 2_000, 1e-5, sampling)
    assert 60 <= steps < 70 and privacy.epsilon(noise, 100, 2_000, steps, 1e-5, sampling) <= 3.0
    assert privacy.epsilon(noise, 100, 2_000, steps + 1, 1e-5, sampling) > 3.0
    assert privacy.steps_for(0.001, 0.5, 100, 2_000, 1e-9, sampling) == 0
    with pytest.raises(ValueError, match=r"epsilon must be one that a noise multiplier up to 1e6 reaches, got 1e-09"):
        privacy.noise_for(1e-9, 100, 2_000, 60, 1e-9, sampling)


def test_the_count_of_an_adaptive_clip_is_joined():
    import tfshape as ts

    chain = ts.shaping.parse("adaptive_clip(count_stddev=5.0)|noise(1.0)")
    assert privacy.joint_noise(1.0, 5.0) == pytest.approx(chain.noise_multiplier)
    assert privacy.joint_noise(1.0, 0.0) == 0.0 and privacy.joint_noise(1.0, 1e9) == pytest.approx(1.0)


def test_edges():
    assert privacy.epsilon(0.0, 100, 6_000, 10, 1e-5) == math.inf
    assert privacy.epsilon(1.0, 100, 6_000, 0, 1e-5) == 0.0
    assert privacy.delta_for(1.0, 0.0, 100, 6_000, 10) == 1.0 and privacy.delta_for(1.0, 1.0, 100, 6_000, 0) == 0.0
    assert privacy.epsilon(1e6, 100, 6_000, 60, 1e-5, "shuffle") == 0.0
    assert privacy.epsilon(0.1, 100, 6_000, 60, 1e-5) > 100
    assert privacy.epsilon(1.0, 6_000, 6_000, 4, 1e-5) == pytest.approx(
        privacy.epsilon(1.0, 6_000, 6_000, 4, 1e-5, "shuffle"), abs=2e-3
    )


@pytest.mark.slow
def test_hardly_any_noise():
    assert privacy.epsilon(0.01, 100, 6_000, 60, 1e-5) > privacy.epsilon(0.1, 100, 6_000, 60, 1e-5)
    assert privacy.epsilon(0.1, 100, 6_000, 60, 1e-5, neighbors="replace", group_size=5) > 100


def test_numpy_scalars_are_numbers():
    plain = (1.0, 64, 6_000, 930, 1e-5)
    as_numpy = (np.float64(1.0), np.int64(64), np.array(6_000), np.uint16(930), np.float64(1e-5))
    assert privacy.statement(*as_numpy) == privacy.statement(*plain)
    for sampling in privacy.SAMPLING:
        assert privacy.epsilon(*as_numpy, sampling) == privacy.epsilon(*plain, sampling)
    found = privacy.Training(np.float32(1.0), np.int32(64), np.int64(6_000), np.int64(930), count_trials=np.int64(1))
    assert found == privacy.Training(*plain[:4]) and {type(v) for v in (found.steps, found.batch_size)} == {int}
    assert type(privacy.delta_for(np.float64(2.0), *as_numpy[:4], "shuffle")) is float
    steps = privacy.steps_for(np.float64(50.0), 1.0, np.int64(64), np.int64(6_000), np.float64(1e-5), "shuffle")
    assert type(steps) is int and steps == privacy.steps_for(50.0, 1.0, 64, 6_000, 1e-5, "shuffle")
    assert privacy.noise_for(np.float32(3.0), *as_numpy[1:], "shuffle") == privacy.noise_for(3.0, *plain[1:], "shuffle")
    assert privacy.joint_noise(np.float64(1.0), np.int64(5)) == privacy.joint_noise(1.0, 5)
    assert certificates.poisoning_bound(np.float64(0.1), np.float64(0), np.int64(3), np.float64(0.2)) == pytest.approx(
        0.2 * math.exp(0.3)
    )
    for value in (True, np.bool_(True), "1", None, np.array([1.0])):
        with pytest.raises(ValueError, match=r"^noise_multiplier must be a number >= 0, got "):
            privacy.epsilon(value, *plain[1:])


def test_sampling_has_one_default():
    import inspect

    functions = [privacy.epsilon, privacy.delta_for, privacy.noise_for, privacy.steps_for, privacy.statement]
    functions += [certificates.poisoning_ceiling, privacy.Training, privacy.Budget]
    assert {inspect.signature(function).parameters["sampling"].default for function in functions} == {"poisson"}


def test_statement_counts_what_was_trained():
    run = (1.0, 100, 6_000, 240, 1e-5)
    words = privacy.statement(*run, trainings=20)
    assert "20 such trainings were made on these data, and epsilon counts 1" in words and "only run" not in words
    assert f"released, it is {privacy.epsilon(*run, count_trials=20):.3f}" in words
    assert "All of 20 runs" in privacy.statement(*run, count_trials=20, trainings=20)


def test_epochs_begun_count_as_participations():
    for sampling in ("shuffle", "balls_in_bins"):
        one, two = (privacy.epsilon(2.0, 100, 1_050, steps, 1e-5, sampling) for steps in (10, 11))
        assert one == privacy.epsilon(2.0, 100, 1_050, 1, 1e-5, sampling) < two


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.nan},
        {"batch_size": 0},
        {"batch_size": 7_000},
        {"num_examples": 0},
        {"steps": -1},
        {"steps": 1.5},
        {"delta": 0.0},
        {"delta": 1.0},
        {"sampling": "balls"},
        {"neighbors": "swap"},
        {"group_size": 0},
        {"count_trials": 0},
        {"truncation": 1.0},
    ],
)
def test_bad_values_are_named(change):
    good = {"noise_multiplier": 1.0, "batch_size": 100, "num_examples": 6_000, "steps": 10, "delta": 1e-5}
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name} must be .*, got"):
        privacy.epsilon(**{**good, **change})


def test_statement_says_what_was_run_and_what_was_not():
    run = (1.0, 100, 6_000, 240, 1e-5)
    words = privacy.statement(*run, sampling="shuffle")
    shuffled, poisson = (float(found) for found in re.findall(r"epsilon = ([0-9.]+)", words))
    assert shuffled == pytest.approx(privacy.epsilon(*run, "shuffle"), abs=1e-3) and "for the run as it was" in words
    assert poisson == pytest.approx(privacy.epsilon(*run), abs=1e-3) and "which this run did not do" in words
    assert "(tuning and restarts are not counted)" in words and "leave its place" in words
    words = privacy.statement(*run, sampling="poisson", truncation=1e-18, count_trials=4, group_size=3)
    assert "if batches had been shuffled" in words and "All of 4 runs" in words and "up to 3 of the examples" in words
    assert f"{privacy.epsilon(*run, count_trials=4, group_size=3, truncation=1e-18):.3f}" in words
    assert "probability 1e-18" in words
    assert "epsilon is inf" in privacy.statement(0.0, 100, 6_000, 240, 1e-5)
    assert "too large" in privacy.statement(1.0, 100, 6_000, 240, 1e-2)


def test_statement_calls_out_what_does_not_hold():
    run = (1.0, 100, 6_000, 240, 1e-5)
    seeded = privacy.statement(*run, seeded=True)
    assert (
        seeded.startswith(
            "Seeded, for science: not private against anyone who knows the seed, who can subtract the noise"
        )
        and "for them epsilon is inf" in seeded
    )
    plain, secure = privacy.statement(*run), privacy.statement(*run, secure_noise=True)
    assert "subtract the noise" not in plain and "Does not hold to the letter" in plain
    assert "Does not hold" not in secure and "cryptographic" in secure
