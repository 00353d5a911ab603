"""Bounds at their limits: balls in bins against draws and against themselves, and deltas too small for a grid."""

import math
import tracemalloc

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from scipy import stats

from tfshape import privacy
from tfshape.privacy import curves, losses


def rising(settings, epsilon=privacy.epsilon):
    """Whether epsilon of each (noise, bins, epochs, delta) falls with noise and delta, and rises with steps."""
    for noise, bins, epochs, delta in settings:

        def spent(noise=noise, epochs=epochs, delta=delta, bins=bins):
            return epsilon(noise, 10, 10 * bins, epochs * bins, delta, "balls_in_bins")

        found = spent()
        assert 0 < found < math.inf, (noise, bins, epochs, delta)
        for less in (spent(noise=1.1 * noise), spent(delta=min(2 * delta, 0.5))):
            assert less < found or found < 1e-6, (noise, bins, epochs, delta)
        assert found < spent(epochs=2 * epochs), (noise, bins, epochs, delta)
        assert found <= epsilon(noise, 10, 10 * bins, epochs * bins, delta, "shuffle") + 1e-9


def some(rng, count):
    for _ in range(count):
        bins, epochs = int(10 ** rng.uniform(0, 5)), int(10 ** rng.uniform(0, 4))
        yield 10 ** rng.uniform(-0.7, 1.5), bins, epochs, 10 ** rng.uniform(-12, -3)


def test_balls_in_bins_leak_less_with_more_noise_and_more_with_more_steps(rng):
    settings = [(3.5, 234, 10, 1e-5), (4.0, 234, 10, 1e-5), (6.0, 234, 10, 1e-5), (3.0, 937, 10, 1e-5)]
    rising([*settings, *some(rng, 1)])


@pytest.mark.slow
def test_balls_in_bins_are_monotone_on_300_random_settings(rng):
    rising(some(rng, 300))


def drawn(noise, bins, epochs, at, rng, draws):
    """(mean, its error) of draws of delta(at): from the likelihood ratios of epochs with an example and without."""
    ratio = {False: np.zeros(draws), True: np.zeros(draws)}
    for member in ratio:
        for _ in range(epochs):
            z = rng.normal(size=(draws, bins)) / noise
            z[:, 0] += member / noise**2
            ratio[member] += np.log(np.exp(z - 0.5 / noise**2).mean(axis=1))
    removed, added = (-np.expm1(np.minimum(0, at - side)) for side in (ratio[True], -ratio[False]))
    return max((float(side.mean()), float(side.std()) / math.sqrt(draws)) for side in (removed, added))


def agree(noise, bins, epochs, at, rng, draws):
    found = losses.random_allocation(noise, bins, epochs).delta(at)
    mean, error = drawn(noise, bins, epochs, at, rng, draws)
    assert found > mean - 4 * error and found < 1.05 * (mean + 4 * error), (noise, bins, epochs, at)


def test_balls_in_bins_agree_with_draws(rng):
    for setting in [(1.0, 8, 1, 0.5), (1.0, 7, 3, 1.0), (6.0, 234, 1, 0.005)]:
        agree(*setting, rng, 40_000)


@pytest.mark.slow
def test_balls_in_bins_agree_with_many_draws_on_random_settings(rng):
    for _ in range(40):
        noise, bins, epochs = 10 ** rng.uniform(-0.5, 0.9), int(10 ** rng.uniform(0, 2.5)), int(rng.integers(1, 6))
        curve = losses.random_allocation(noise, bins, epochs)
        for delta in (0.1, 0.01):
            agree(noise, bins, epochs, curve.epsilon(delta), rng, 4_000_000 // bins)


def test_balls_in_bins_of_two_bins_equal_an_integral():
    """The mean of two ratios, integrated in two dimensions, at deltas down to 1e-12."""
    noise = 1.0
    grid, step = np.linspace(-12, 12, 1_501, retstep=True)
    density = stats.norm.pdf(grid) * step
    ratio = np.exp(grid / noise - 0.5 / noise**2)
    mean = (ratio[:, None] + ratio) / 2
    for at in (0.5, 2.0, 4.0, 6.0):
        removed = density @ np.clip(mean - math.exp(at), 0, None) @ density
        assert losses.random_allocation(noise, 2, 1).delta(at) == pytest.approx(removed, rel=2e-3)


def test_what_the_issue_of_balls_in_bins_names():
    run = (256, 60_000, 2_340, 1e-5, "balls_in_bins")
    assert privacy.epsilon(4.0, *run) == pytest.approx(0.169, abs=2e-3)
    assert privacy.epsilon(6.0, *run) == pytest.approx(0.107, abs=2e-3)
    assert privacy.noise_for(0.1, *run) == pytest.approx(6.4, abs=0.05)
    assert privacy.steps_for(1.0, 6.0, 256, 60_000, 1e-5, sampling="balls_in_bins") > 100_000


def test_many_bins_and_epochs_fit_in_memory():
    tracemalloc.start()
    assert 0 < privacy.epsilon(2.0, 10, 1_000_000, 10**5 * 10**6, 1e-5, "balls_in_bins") < math.inf
    assert tracemalloc.get_traced_memory()[1] < 2e8
    tracemalloc.stop()


@pytest.mark.parametrize("noise", [1e-3, 0.1, 1.0, 30.0])
def test_gaussian_curve_is_its_integral_to_the_smallest_deltas(noise):
    for delta in (1e-3, 1e-12, 1e-100, 1e-300):
        epsilon = curves.Gaussian(noise).epsilon(delta)
        assert curves.Gaussian(noise).delta(epsilon) == pytest.approx(delta, rel=1e-3)
        # the mean over P of 1 - exp(epsilon - loss), in deviations from where that is 0
        start = epsilon * noise - 0.5 / noise
        z = np.linspace(0, 30, 3_000_001)
        shown = (np.exp(-z * (start + z / 2)) * -np.expm1(-z / noise)).sum() * z[1]
        assert math.log(shown) - start**2 / 2 - math.log(2 * math.pi) / 2 == pytest.approx(math.log(delta), abs=1e-3)


def test_tiny_deltas_take_the_least_valid_bound():
    event = dp_accounting.PoissonSampledDpEvent(256 / 60_000, dp_accounting.GaussianDpEvent(1.0))
    renyi = rdp.RdpAccountant().compose(dp_accounting.SelfComposedDpEvent(event, 2_000))
    found = []
    for power in (5, 8, 11, 12, 13, 14, 15, 18, 30, 100, 300):
        delta = 10.0**-power
        found.append(privacy.epsilon(1.0, 256, 60_000, 2_000, delta))
        assert found[-1] <= renyi.get_epsilon(delta) + 1e-9
    assert found == sorted(found)
    # No amplification can be less than none, and one step is at least one in a hundred of the Gaussian mechanism.
    for delta in (1e-14, 1e-50, 1e-300):
        plain = privacy.epsilon(3.0, 10, 1_000, 1, delta, "shuffle")
        for sampling in ("poisson", "balls_in_bins"):
            assert 0 < privacy.epsilon(3.0, 10, 1_000, 1, delta, sampling) <= plain
        least = curves.Gaussian(3.0).epsilon(min(100 * delta, 0.5))
        assert privacy.delta_for(math.log1p(0.01 * math.expm1(least)), 3.0, 10, 1_000, 1) >= delta * (1 - 1e-6)


@pytest.mark.parametrize(
    "options",
    [{"neighbors": "replace"}, {"group_size": 3}, {"sampling": "balls_in_bins"}, {"truncation": 1e-18}],
    ids=str,
)
def test_no_cliff_where_a_grid_ends(options):
    found = [privacy.epsilon(4.0, 250, 75_000, 3_000, 10.0**-power, **options) for power in range(11, 20)]
    assert found == sorted(found) and all(b < 1.5 * a for a, b in zip(found, found[1:])), found
    if "neighbors" in options:  # twice the pull of adding one
        assert privacy.epsilon(4.0, 250, 750_000, 10_000, 1e-16, **options) < 0.53


def test_renyi_divergences_of_own_grids_are_those_of_dp_accounting():
    for noise, q in [(1.0, 0.01), (4.0, 0.1), (0.7, 0.5)]:
        for delta in (1e-8, 1e-30, 1e-300):
            event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(noise))
            theirs = rdp.RdpAccountant([*range(2, 64), 128, 256, 512, 1024]).compose(event, 50).get_epsilon(delta)
            ours = losses.mixture(noise, q, 1, 50).curves[1].epsilon(delta)
            assert ours == pytest.approx(theirs, rel=0.1)


def test_losses_beyond_what_an_exponential_holds():
    table = np.zeros(2_001)
    table[-1] = 1.0  # a loss of 2,000
    curve = curves.Losses([(0, table, 1.0, 0.0)])
    assert curve.delta(1_900) == pytest.approx(1.0) and curve.delta(2_000) == 0.0
    assert curve.epsilon(0.5) == pytest.approx(2_000 - math.log(2), abs=1e-5)
