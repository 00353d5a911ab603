"""Epsilon against dp_accounting and tensorflow-privacy, at its edges, and its words."""

import math
import re

import dp_accounting
import pytest
from dp_accounting import pld, rdp

from tfshape import privacy


def composed(noise, probability, steps):
    event = dp_accounting.GaussianDpEvent(noise)
    if probability < 1:
        event = dp_accounting.PoissonSampledDpEvent(probability, event)
    return dp_accounting.SelfComposedDpEvent(event, steps)


def test_poisson_equals_dp_accounting_on_random_runs(rng):
    for _ in range(15):
        noise, n = rng.uniform(0.8, 6), int(rng.integers(1_000, 60_000))
        batch, steps, delta = int(rng.integers(16, 400)), int(rng.integers(1, 800)), 10 ** rng.uniform(-7, -3)
        ours = privacy.epsilon(noise, batch, n, steps, delta)
        event = composed(noise, batch / n, steps)
        assert ours == pytest.approx(pld.PLDAccountant().compose(event).get_epsilon(delta), rel=1e-6)
        assert ours <= rdp.RdpAccountant().compose(event).get_epsilon(delta) + 1e-6


def test_shuffle_equals_composed_gaussians(rng):
    for _ in range(5):
        noise, batch, n, epochs = rng.uniform(1, 5), int(rng.integers(16, 400)), 6_000, int(rng.integers(1, 20))
        ours = privacy.epsilon(noise, batch, n, epochs * (n // batch), 1e-5, sampling="shuffle")
        grid = pld.PLDAccountant().compose(composed(noise, 1.0, epochs)).get_epsilon(1e-5)
        assert ours == pytest.approx(grid, abs=2e-3)
        assert ours <= grid + 1e-9  # the grid is rounded up


@pytest.mark.parametrize("noise", [0.7, 1.0, 2.5])
def test_agrees_with_the_statement_of_tensorflow_privacy(noise):
    lib = pytest.importorskip("tensorflow_privacy.privacy.analysis.compute_dp_sgd_privacy_lib")
    theirs = lib.compute_dp_sgd_privacy_statement(6_000, 100, 4.0, noise, 1e-5, used_microbatching=False)
    shuffled, poisson = (float(found) for found in re.findall(r"Epsilon [^:]*: +([0-9.]+)", theirs))
    # Theirs are Rényi bounds, so never below ours, and not far above.
    assert privacy.epsilon(noise, 100, 6_000, 240, 1e-5, "shuffle") == pytest.approx(shuffled, rel=0.15)
    assert privacy.epsilon(noise, 100, 6_000, 240, 1e-5, "shuffle") <= shuffled + 1e-3
    assert privacy.epsilon(noise, 100, 6_000, 240, 1e-5) == pytest.approx(poisson, rel=0.25)
    assert privacy.epsilon(noise, 100, 6_000, 240, 1e-5) <= poisson + 1e-3


def test_edges():
    assert privacy.epsilon(0.0, 100, 6_000, 10, 1e-5) == math.inf
    assert privacy.epsilon(1.0, 100, 6_000, 0, 1e-5) == 0.0
    assert privacy.epsilon(1e6, 100, 6_000, 60, 1e-5, "shuffle") == 0.0
    assert privacy.epsilon(0.01, 100, 6_000, 60, 1e-5) > privacy.epsilon(0.1, 100, 6_000, 60, 1e-5) > 100
    assert privacy.epsilon(1.0, 6_000, 6_000, 4, 1e-5) == pytest.approx(
        privacy.epsilon(1.0, 6_000, 6_000, 4, 1e-5, "shuffle"), abs=2e-3
    )


def test_epochs_begun_count_as_participations():
    one, two = (privacy.epsilon(2.0, 100, 1_050, steps, 1e-5, "shuffle") for steps in (10, 11))
    assert one == privacy.epsilon(2.0, 100, 1_050, 1, 1e-5, "shuffle") < two


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.nan},
        {"batch_size": 0},
        {"batch_size": 7_000},
        {"num_examples": 0},
        {"steps": -1},
        {"delta": 0.0},
        {"delta": 1.0},
        {"sampling": "balls"},
    ],
)
def test_bad_values_are_named(change):
    good = {"noise_multiplier": 1.0, "batch_size": 100, "num_examples": 6_000, "steps": 10, "delta": 1e-5}
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name}=.*allowed"):
        privacy.epsilon(**{**good, **change})


def test_statement_says_what_was_run_and_what_was_not():
    words = privacy.statement(1.0, 100, 6_000, 240, 1e-5)
    assert f"epsilon = {privacy.epsilon(1.0, 100, 6_000, 240, 1e-5, 'shuffle'):.3f} for the run as it was" in words
    assert f"epsilon = {privacy.epsilon(1.0, 100, 6_000, 240, 1e-5):.3f} if each batch had been drawn" in words
    assert "did not do" not in privacy.statement(1.0, 100, 6_000, 240, 1e-5, sampling="poisson")
    assert "epsilon is inf" in privacy.statement(0.0, 100, 6_000, 240, 1e-5)
    assert "too large" in privacy.statement(1.0, 100, 6_000, 240, 1e-2)
