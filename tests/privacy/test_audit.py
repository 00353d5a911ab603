"""Audits refute mechanisms with planted bugs and not the correct one, and their statistics are sound."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from selection import most_slow

import tfshape as ts
from tfshape.privacy import Training, audit
from tfshape.shaping import noise as noise_module

CLIP = 0.7


@dataclasses.dataclass(frozen=True)
class GroupClip(ts.shaping.Clip):
    """The bug: two neighbouring rows are clipped together. It claims the sensitivity of Clip."""

    whole_batch = True

    def weigh(self, examples, state):
        gram = tf.cast(examples.gram(), tf.float64)
        rows = tf.shape(gram)[0]
        padded = tf.pad(gram, [[0, rows % 2], [0, rows % 2]])
        blocks = tf.reshape(padded, [(rows + 1) // 2, 2, (rows + 1) // 2, 2])
        squared = tf.linalg.diag_part(tf.reduce_sum(blocks, axis=[1, 3]))
        norms = tf.cast(tf.repeat(tf.sqrt(tf.maximum(squared, 0.0)), 2)[:rows], examples.norms.dtype)
        return self.clip / tf.maximum(norms, self.clip)


@dataclasses.dataclass(frozen=True)
class ClipAllBut(ts.shaping.Clip):
    """The bug: one layer, by its number, is not clipped."""

    layer: int = 0

    def weigh(self, examples, state):
        weights = super().weigh(examples, state)
        layers = tf.shape(examples.layer_norms)[0]
        bare = tf.one_hot(self.layer, layers, dtype=weights.dtype)[:, None]
        return weights[None, :] * (1 - bare) + bare


def mechanism(clip, noise):
    shaper = ts.shaping.Chain([clip, ts.shaping.GaussianNoise(stddev=noise * CLIP)])
    return lambda model, batch_size: ts.shape(model, shaper, batch_size=batch_size, seed=3)


def gradient_audit(shape, noise, data, **options):
    model = ts.models.build("lr", (6, 6, 1), 3, seed=0)
    before = model.get_weights()
    options = {"canaries": 150, "trials": 500, **options}
    found = ts.privacy.gradient_audit(shape, model, *data, noise, CLIP, **options)
    for one, two in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, two)
    return {finding.game: finding for finding in found}


@pytest.fixture
def data(rng):
    return rng.random((50, 6, 6, 1), np.float32), rng.integers(0, 3, 50)


def check_correct(noise, data):
    found = gradient_audit(mechanism(ts.shaping.Clip(CLIP), noise), noise, data)
    assert set(found) == {"training", "sum", "layers", "reuse"}
    for finding in found.values():
        assert not finding.violated and finding.lower <= finding.claimed, finding
    if noise == 0.5:  # with more noise, more than 500 trials and 150 canaries are needed to see as much
        assert found["sum"].lower >= found["sum"].claimed / 3
        assert found["training"].lower > 0.2
    assert found["layers"].lower < 0.3 * found["layers"].claimed


def check_bug(bug, noise, data, monkeypatch):
    clip, real = ts.shaping.Clip(CLIP), noise
    if bug == "half":
        real, games = noise / 2, {"sum"}
    elif bug == "microbatch":
        clip, games = GroupClip(CLIP), {"sum"}
    elif bug == "unclipped":
        clip, games = ClipAllBut(CLIP, layer=0), {"layers"}
    elif bug == "unclipped branch":
        clip, games = ClipAllBut(CLIP, layer=1), {"sum"}
    else:
        like, games = noise_module.like, {"reuse"}
        monkeypatch.setattr(noise_module, "like", lambda t, s, k, stream, extra: like(t, s, k, 0 * stream, extra))
    found = gradient_audit(mechanism(clip, real), noise, data)
    refuted = {game for game, finding in found.items() if finding.violated}
    assert games <= refuted, found
    for game in games:
        assert found[game].lower > found[game].claimed


BUGS = ["half", "microbatch", "reused", "unclipped", "unclipped branch"]


def test_the_correct_mechanism_is_not_refuted(data):
    check_correct(0.5, data)


@pytest.mark.parametrize("bug", most_slow(BUGS, "unclipped"))
def test_planted_bugs_are_refuted(bug, data, monkeypatch):
    check_bug(bug, 1.0, data, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_the_correct_mechanism_is_not_refuted_at_other_noises(noise, data):
    check_correct(noise, data)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.5, 2.0])
@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_refuted_at_other_noises(bug, noise, data, monkeypatch):
    check_bug(bug, noise, data, monkeypatch)


def input_audit(shape, noise, data, **options):
    model = ts.models.build("lr", (6, 6, 1), 3, seed=0)
    (finding,) = ts.privacy.input_audit(shape, model, *data, noise, CLIP, **options)
    return finding


def test_clipbkd_finds_no_fault_in_the_correct_mechanism_and_some_in_one_without_noise(data):
    correct = input_audit(mechanism(ts.shaping.Clip(CLIP), 2.0), 2.0, data, runs=120)
    assert not correct.violated and correct.guesses in range(58, 63)
    broken = input_audit(mechanism(ts.shaping.Clip(CLIP), 0.01), 8.0, data, runs=120)
    assert broken.violated and broken.lower > broken.claimed and broken.correct == broken.guesses


def gaussian_scores(rng, mu, canaries):
    coins = rng.integers(0, 2, canaries).astype(bool)
    return coins, rng.normal(size=canaries) + mu * coins


def test_one_run_is_sound_and_sees_something(rng):
    claim, refuted = Training(1.0, 10, 10, 1, "shuffle"), 0
    for _ in range(20):
        coins, scores = gaussian_scores(rng, 1.0, 300)
        finding = audit.one_run("x", claim, {"s": scores}, coins, 1e-5)
        refuted += finding.violated
        assert finding.plain <= finding.lower + 1e-9 or finding.plain < 2
    assert refuted <= 2
    coins, scores = gaussian_scores(rng, 4.0, 1_000)
    assert audit.one_run("x", claim, {"s": scores}, coins, 1e-5).violated


def test_steinke_against_a_mechanism_that_is_as_bad_as_it_may_be(rng):
    """Randomised response at epsilon 1 makes every guess right with probability e / (1 + e), and no more."""
    coins = rng.integers(0, 2, 2_000).astype(bool)
    answers = coins ^ (rng.random(2_000) > math.e / (1 + math.e))
    claim = Training(0.5, 10, 10, 1, "shuffle")
    found = audit.one_run("x", claim, {"s": answers + rng.random(2_000) * 1e-3}, coins, 0.0 + 1e-12)
    assert 0.7 < found.plain <= 1.0
    # Without delta the p-value is a binomial tail.
    assert audit._steinke(80, 100, 100, 1.0, 0.0) == pytest.approx(stats.binom.sf(79, 100, math.e / (1 + math.e)))
    assert audit._steinke(80, 100, 100, 1.0, 1e-3) > audit._steinke(80, 100, 100, 1.0, 0.0)


def test_trials_are_sound_and_nearly_tight(rng):
    claim = Training(1.0, 10, 10, 1, "shuffle")
    best = stats.norm.cdf(0.5)  # of any test of N(0, 1) against N(1, 1), by a fair coin
    refuted = sum(audit.trials("x", claim, rng.random(400) < best, 1e-5).violated for _ in range(40))
    assert refuted <= 6
    finding = audit.trials("x", claim, np.arange(10_000) < best * 10_000, 1e-5)
    assert 0.9 * finding.claimed < finding.lower <= finding.claimed


def test_many_runs_uses_clopper_pearson_on_the_second_half():
    scores = np.r_[np.ones(100), np.ones(100)], np.r_[np.zeros(100), np.zeros(100)]
    finding = audit.many_runs("x", Training(1.0, 10, 10, 1, "shuffle"), *scores, 1e-5)
    least = 0.025 ** (1 / 100)  # nobody missed, of 100: the end of a 97.5% interval
    assert finding.lower == pytest.approx(math.log((least - 1e-5) / (1 - least)))
    assert (finding.correct, finding.guesses) == (200, 200)
    same = audit.many_runs("x", Training(1.0, 10, 10, 1, "shuffle"), np.arange(200), np.arange(200), 1e-5)
    assert same.lower == 0.0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"noise_multiplier": 0.0}, "noise_multiplier"),
        ({"clip": -1.0}, "clip"),
        ({"delta": 0.0}, "delta"),
        ({"confidence": 1.0}, "confidence"),
        ({"canaries": 5}, "canaries"),
        ({"trials": 5}, "trials"),
    ],
)
def test_bad_values_are_named(options, name, data):
    model = ts.models.build("lr", (6, 6, 1), 3, seed=0)
    values = {"noise_multiplier": 1.0, "clip": 1.0, **options}
    with pytest.raises(ValueError, match=f"^{name} must be"):
        ts.privacy.gradient_audit(mechanism(ts.shaping.Clip(1.0), 1.0), model, *data, **values)
