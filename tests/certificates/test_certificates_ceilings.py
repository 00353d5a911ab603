"""Ceilings on attack success: against exact mechanisms, against each other, and at their edges."""

import math

import pytest
from scipy import stats

from tfshape import certificates, privacy

RUN = (4.0, 1_000, 1_000, 1)  # one step with everybody in the batch: the Gaussian mechanism itself


def test_bound_is_that_of_the_papers():
    assert certificates.poisoning_bound(0.1, 0.0, 3, 0.2) == pytest.approx(0.2 * math.exp(0.3))
    assert certificates.poisoning_bound(0.5, 1e-3, 2, 0.01) == pytest.approx(
        0.01 * math.exp(1.0) + 1e-3 * (math.exp(1.0) - 1) / (math.exp(0.5) - 1)
    )
    assert certificates.poisoning_bound(0.5, 0.0, 2, 0.9) == pytest.approx(1 - 0.1 * math.exp(-1))
    assert certificates.poisoning_bound(0.0, 1e-3, 5, 0.1) == pytest.approx(0.105)


@pytest.mark.parametrize("poisons", [1, 2, 5])
@pytest.mark.parametrize("neighbors", ["add_remove", "replace"])
def test_ceiling_of_a_gaussian_mechanism_is_its_best_attack(poisons, neighbors):
    """The Neyman-Pearson attack on N(0, noise) against N(pull, noise) reaches Phi(Phi^-1(p) + pull / noise)."""
    pull = poisons * (2 if neighbors == "replace" else 1)
    for clean in (0.001, 0.05, 0.5):
        best = stats.norm.cdf(stats.norm.ppf(clean) + pull / 4.0)
        ceiling = certificates.poisoning_ceiling(*RUN, poisons, clean, neighbors=neighbors, sampling="shuffle")
        assert best <= ceiling + 1e-12
        assert ceiling <= best + 0.05 * (1 - best)


def test_ceiling_is_tighter_than_one_epsilon_and_holds_for_a_simulated_attack(rng):
    run, poisons, clean = (2.0, 100, 2_000, 20), 4, 0.02
    ceiling = certificates.poisoning_ceiling(*run, poisons, clean, neighbors="add_remove")
    by_epsilon = min(
        certificates.poisoning_bound(privacy.epsilon(*run, delta), delta, poisons, clean)
        for delta in (1e-6, 1e-5, 1e-4)
    )
    assert clean < ceiling < by_epsilon
    # The attacker pulls one way; success is the summed updates beyond their 98% point on clean data.
    drawn = rng.binomial(poisons, 0.05, size=(40_000, 20)).sum(axis=1)
    sums = drawn + rng.normal(size=len(drawn)) * 2.0 * math.sqrt(20)
    assert clean < (sums > stats.norm.ppf(1 - clean) * 2.0 * math.sqrt(20)).mean() < ceiling


@pytest.mark.slow
def test_certified_poisons_inverts_the_ceiling():
    for sampling in ("shuffle", "poisson"):
        plan = dict(clean_success=0.05, neighbors="add_remove", sampling=sampling)
        certified = certificates.certified_poisons(0.3, 4.0, 100, 1_000, 10, **plan)
        assert certified >= 1
        assert certificates.poisoning_ceiling(4.0, 100, 1_000, 10, certified, **plan) <= 0.3
        assert certificates.poisoning_ceiling(4.0, 100, 1_000, 10, certified + 1, **plan) > 0.3
    assert certificates.certified_poisons(1.0, 1.0, 10, 50, 5, 0.5, sampling="shuffle") == 50
    assert certificates.certified_poisons(0.3, 0.0, 100, 1_000, 10, 0.05) == 0


def test_edges():
    assert certificates.poisoning_bound(1.0, 1e-5, 0, 0.3) == pytest.approx(0.3)
    assert certificates.poisoning_bound(math.inf, 0.0, 1, 0.0) == 1.0
    assert certificates.poisoning_bound(50.0, 1e-5, 1_000, 0.0) == 1.0
    assert certificates.poisoning_ceiling(1.0, 100, 1_000, 10, 0, 0.3) == 0.3
    assert certificates.poisoning_ceiling(0.0, 100, 1_000, 10, 1, 0.3) == 1.0
    assert certificates.poisoning_ceiling(0.3, 1_000, 1_000, 1, 50, 0.0) == 1.0  # no finite loss at all


@pytest.mark.slow
def test_half_a_batch_under_hardly_any_noise():
    assert certificates.poisoning_ceiling(0.1, 100, 1_000, 100, 50, 0.0) > 0.99


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: certificates.poisoning_bound(-1.0, 0.0, 1, 0.1), "epsilon"),
        (lambda: certificates.poisoning_bound(1.0, 2.0, 1, 0.1), "delta"),
        (lambda: certificates.poisoning_bound(1.0, 0.0, -1, 0.1), "num_poisons"),
        (lambda: certificates.poisoning_bound(1.0, 0.0, 1, 1.1), "clean_success"),
        (lambda: certificates.poisoning_ceiling(1.0, 10, 100, 1, 1, -0.1), "clean_success"),
        (lambda: certificates.poisoning_ceiling(1.0, 10, 100, 1, 1.5, 0.1), "num_poisons"),
        (lambda: certificates.certified_poisons(0.1, 1.0, 10, 100, 1, 0.2), "clean_success"),
        (lambda: certificates.certified_poisons(1.1, 1.0, 10, 100, 1, 0.2), "max_success"),
    ],
)
def test_bad_values_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        call()
