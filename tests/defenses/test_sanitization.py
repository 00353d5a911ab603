"""Sanitisers that look at inputs, losses and neighbours: what each catches and what it costs where nothing is wrong."""

import numpy as np
import pytest

import tfshape as ts
from tfshape.defenses import base, sanitization

RECIPE = ts.training.Recipe("adam", 2e-3, batch_size=32, epochs=8)


def blobs(rng, size=300, features=10, classes=3, spread=0.08):
    """Separate clouds, `size` examples in all: x float32 [size, features] in [0, 1], y int32 [size]."""
    centers = rng.choice([0.3, 0.7], (classes, features))
    centers[:, 0] = np.linspace(0.2, 0.8, classes)
    y = np.arange(size, dtype=np.int32) % classes
    x = np.clip(centers[y] + spread * rng.normal(size=(size, features)), 0, 1)
    return x.astype(np.float32), y


def build_for(x, classes=3, model="mlp"):
    return lambda: ts.models.build(model, x.shape[1:], classes, seed=3)


def flip(y, count, rng, classes=3):
    """-> (labels of which `count` are wrong, which are, bool [N])."""
    bad = np.zeros(len(y), bool)
    bad[rng.choice(len(y), count, replace=False)] = True
    return np.where(bad, (y + rng.integers(1, classes, len(y))) % classes, y).astype(np.int32), bad


def test_none_is_plain_training(rng):
    x, y = blobs(rng)
    model = build_for(x)()
    data = ts.datasets.Split(x, y).as_dataset()
    ts.training.fit(model, data, RECIPE, 5)
    trained = ts.defenses.parse("none").train(build_for(x), x, y, 3, RECIPE, 5)
    np.testing.assert_array_equal(trained.predict(x), ts.models.predict(model, x))
    assert trained.kept is None and trained.certificate is None


@pytest.mark.parametrize("name", ["sphere", "slab", "loss"])
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3])
def test_filters_with_a_rate_drop_that_share_and_no_more(rng, name, rate):
    x, y = blobs(rng)
    trained = ts.defenses.get(name)(rate=rate).train(build_for(x), x, y, 3, RECIPE, 5)
    assert trained.kept.dtype == bool and trained.kept.shape == (300,)
    assert np.count_nonzero(~trained.kept) == round(rate * 300)
    if name != "loss":
        assert {int(np.count_nonzero(~trained.kept & (y == label))) for label in range(3)} == {round(rate * 100)}
    assert np.mean(trained.predict(x).argmax(axis=1) == y) > 0.95


def test_a_filter_trains_on_what_it_keeps_and_on_nothing_else(rng):
    x, y = blobs(rng)
    trained = ts.defenses.parse("sphere(rate=0.2)").train(build_for(x), x, y, 3, RECIPE, 5)
    kept = trained.kept
    again = ts.defenses.parse("none").train(build_for(x), x[kept], y[kept], 3, RECIPE, 5)
    np.testing.assert_array_equal(trained.predict(x), again.predict(x))


def test_sphere_catches_far_outliers_of_any_direction(rng):
    x, y = blobs(rng)
    bad = np.zeros(300, bool)
    bad[rng.choice(300, 9, replace=False)] = True
    x[bad] = rng.choice([0.0, 1.0], (9, x.shape[1]))
    kept = sanitization.Sphere(rate=0.05).keep(build_for(x), x, y, 3, RECIPE, 0)
    assert not kept[bad].any()
    assert kept[~bad].mean() >= 0.95


def test_slab_catches_outliers_towards_another_class_and_not_across(rng):
    x = rng.normal(scale=0.02, size=(200, 6)).astype(np.float32) + 0.5
    y = (np.arange(200) % 2).astype(np.int32)
    x[:, 0] += np.where(y == 1, 0.2, -0.2)
    x[0], x[2] = x[1], x[2] + np.float32([0, 0.45, 0, 0, 0, 0])
    kept = {d.name: d.keep(None, x, y, 2, RECIPE, 0) for d in (sanitization.Slab(0.01), sanitization.Sphere(0.01))}
    assert not kept["slab"][0] and kept["slab"][2]
    assert kept["sphere"][0] and not kept["sphere"][2]


def test_slab_with_several_classes_looks_along_every_line_between_means(rng):
    x, y = blobs(rng, spread=0.02)
    x[0] = x[y == 1].mean(axis=0)
    x[3] = x[y == 2].mean(axis=0)
    kept = sanitization.Slab(rate=0.02).keep(None, x, y, 3, RECIPE, 0)
    assert y[0] == y[3] == 0 and not kept[0] and not kept[3]


@pytest.mark.parametrize("name", ["loss(rate=0.1)", "knn(k=20)", "loss(rate=0.1, rounds=2)"])
def test_random_flips_are_found_by_their_loss_and_by_their_neighbours(rng, name):
    x, y = blobs(rng)
    flipped, bad = flip(y, 30, rng)
    trained = ts.defenses.parse(name).train(build_for(x), x, flipped, 3, RECIPE, 5)
    assert np.mean(~trained.kept[bad]) >= 0.9
    assert np.mean(trained.kept[~bad]) >= 0.95


def test_what_looks_at_inputs_alone_is_blind_to_flips_between_classes_that_overlap(rng):
    x = rng.random((600, 10), np.float32)
    flipped, bad = flip(np.arange(600) % 3, 60, rng)
    for defense in (sanitization.Sphere(rate=0.1), sanitization.Slab(rate=0.1)):
        assert np.mean(~defense.keep(None, x, flipped, 3, RECIPE, 0)[bad]) < 0.25


def test_nearest_neighbours_keep_clean_data_and_believe_only_those_that_agree(rng):
    x, y = blobs(rng)
    assert sanitization.Knn(k=20).keep(build_for(x), x, y, 3, RECIPE, 0).mean() >= 0.95
    flipped, _ = flip(y, 60, rng)
    shares = [
        sanitization.Knn(k=20, agreement=agreement).keep(build_for(x), x, flipped, 3, RECIPE, 0).mean()
        for agreement in (0.3, 0.6, 0.95)
    ]
    assert shares[0] <= shares[1] <= shares[2] and shares[0] < shares[2]


def test_more_neighbours_than_there_are_is_all_of_them(rng):
    x, y = blobs(rng, size=30)
    assert sanitization.Knn(k=500).keep(build_for(x), x, y, 3, RECIPE, 0).all()


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_losses_are_cross_entropies_whatever_the_size_of_the_logits(rng, scale):
    logits = (scale * rng.normal(size=(50, 4))).astype(np.float32)
    y = rng.integers(0, 4, 50)
    wide = logits.astype(np.longdouble)
    shares = np.exp(wide - wide.max(axis=1, keepdims=True))
    expected = np.log(shares.sum(axis=1)) - (wide - wide.max(axis=1, keepdims=True))[np.arange(50), y]
    np.testing.assert_allclose(sanitization.losses(logits, y), expected.astype(float), rtol=1e-9, atol=1e-12)


def test_lowest_leaves_out_the_largest_of_each_group_rounded_down():
    scores = np.array([5.0, 1, 4, 2, 3, 9, 8, 7])
    groups = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(base.lowest(scores, groups, base.share_of(0.4)), [0, 1, 0, 1, 1, 0, 1, 1])
    assert base.lowest(np.ones(7), np.zeros(7), base.share_of(0.1)).all()
    assert base.lowest(np.ones(10), np.zeros(10), base.share_of(0.1 * 3)).sum() == 7


def test_fewer_examples_than_a_batch_are_one_batch(rng):
    x, y = blobs(rng, size=30)
    trained = ts.defenses.parse("sphere(rate=0.5)").train(build_for(x), x, y, 3, RECIPE, 5)
    assert trained.kept.sum() == 15
    assert trained.predict(x).shape == (30, 3)
