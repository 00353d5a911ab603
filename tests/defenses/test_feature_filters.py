"""Spectral signatures, activation clustering and EPIC: what they find in features and gradients."""

import numpy as np
import pytest
import scipy.spatial
from selection import most_slow

import tfshape as ts
from tfshape import seeds
from tfshape.defenses import activation_clustering, base, epic, spectral_signatures

RECIPE = ts.training.Recipe("adam", 1e-3, batch_size=128, epochs=10)


def arrays(dataset, poisons):
    """-> (x, y) of the training set with the poison in it, and which are poison, bool [N]."""
    x, y, bad = dataset.train.x.copy(), dataset.train.y.copy(), np.zeros(len(dataset.train), bool)
    if poisons is not None:
        x[poisons.base], y[poisons.base], bad[poisons.base] = poisons.x, poisons.y, True
    return x, y, bad


def badnets(dataset, count, size, seed=0):
    attack = ts.attacks.get("badnets")(size=size, value=1.0)
    problem = ts.attacks.Problem(dataset, "mlp", RECIPE, count, seed)
    return attack, problem, attack.craft(problem)


def success_rate(trained, attack, problem):
    dataset = problem.dataset
    others = dataset.test.y != attack.target_class
    stamped = attack.stamp(dataset.test.x[others], problem)
    return np.mean(trained.predict(stamped).argmax(axis=1) == attack.target_class)


def build_for(dataset, model="mlp"):
    return lambda: ts.models.build(model, dataset.input_shape, dataset.num_classes, seed=3)


def shifted_cluster(rng, clean=300, poisoned=30, features=20, shift=6.0):
    found = rng.normal(size=(clean + poisoned, features))
    direction = rng.normal(size=features)
    found[clean:] += shift * direction / np.linalg.norm(direction)
    return found, np.arange(clean + poisoned) >= clean


def test_the_outlier_score_is_the_squared_projection_on_the_first_singular_vector(rng):
    found, bad = shifted_cluster(rng)
    centred = found - found.mean(axis=0)
    _, _, vectors = np.linalg.svd(centred, full_matrices=False)
    scores = spectral_signatures.outlier_scores(found)
    np.testing.assert_allclose(scores, (centred @ vectors[0]) ** 2, rtol=1e-8)
    top = np.argsort(scores)[-45:]
    assert bad[top].sum() == 30


def test_spectral_signatures_drops_its_known_rate_of_every_class(rng):
    dataset = ts.datasets.load("digits")
    x, y, _ = arrays(dataset, None)
    kept = spectral_signatures.SpectralSignatures(rate=0.01).keep(
        build_for(dataset), x, y, 10, ts.training.Recipe(epochs=1), 0
    )
    assert {int(np.count_nonzero(~kept & (y == label))) for label in range(10)} == {int(0.015 * len(y))}
    few = spectral_signatures.SpectralSignatures(rate=0.9).keep(
        build_for(dataset), x[:40], y[:40], 10, ts.training.Recipe(epochs=1), 0
    )
    for label in range(10):
        assert few[y[:40] == label].sum() == -(-np.count_nonzero(y[:40] == label) // 2)


def test_activation_clustering_suspects_a_small_clear_cluster_and_no_single_cloud(rng):
    defense = activation_clustering.ActivationClustering(components=5)
    found, bad = shifted_cluster(rng, shift=12.0)
    np.testing.assert_array_equal(defense._suspect(found, 0), bad)
    cloud, _ = shifted_cluster(rng, poisoned=0)
    assert not defense._suspect(cloud, 0).any()
    halves, _ = shifted_cluster(rng, clean=150, poisoned=150, shift=12.0)
    assert not defense._suspect(halves, 0).any()
    assert not defense._suspect(np.ones((50, 6)), 0).any()
    assert not defense._suspect(found[:3], 0).any()


def test_activation_clustering_finds_most_of_a_backdoor_and_little_else():
    dataset = ts.datasets.load("digits")
    _, _, poisons = badnets(dataset, 60, size=3, seed=2)
    x, y, bad = arrays(dataset, poisons)
    recipe = ts.training.Recipe("adam", 2e-3, batch_size=32, epochs=10)
    trained = ts.defenses.parse("activation_clustering").train(build_for(dataset), x, y, 10, recipe, 1)
    assert np.mean(~trained.kept[bad]) >= 0.6
    assert np.mean(trained.kept[~bad]) >= 0.95


def test_spectral_signatures_finds_most_of_a_backdoor_among_a_quarter_of_its_class():
    dataset = ts.datasets.load("digits")
    _, _, poisons = badnets(dataset, 30, size=3)
    x, y, bad = arrays(dataset, poisons)
    recipe = ts.training.Recipe("adam", 2e-3, batch_size=32, epochs=30)
    kept = spectral_signatures.SpectralSignatures(rate=30 / len(y)).keep(build_for(dataset), x, y, 10, recipe, 1)
    assert np.count_nonzero(~kept[y == 0]) == 45
    assert np.mean(~kept[bad]) >= 0.6


def test_medoids_are_the_greedy_choice(rng):
    points = rng.normal(size=(60, 3)).astype(np.float32)
    apart = scipy.spatial.distance.cdist(points, points)
    nearest, chosen = np.full(60, apart.max()), []
    for _ in range(12):
        gains = np.maximum(nearest - apart, 0).sum(axis=1)
        gains[chosen] = -1
        chosen.append(int(np.argmax(gains)))
        nearest = np.minimum(nearest, apart[chosen[-1]])
    np.testing.assert_array_equal(epic.medoids(points, 12), chosen)
    assert len(epic.medoids(points, 0)) == 0
    assert sorted(epic.medoids(points, 60)) == list(range(60))
    assert len(set(epic.medoids(np.ones((8, 2), np.float32), 5).tolist())) == 5


def test_distances_are_euclidean(rng):
    rows, others = rng.normal(size=(9, 4)), rng.normal(size=(5, 4))
    np.testing.assert_allclose(epic.distances(rows, others), scipy.spatial.distance.cdist(rows, others), atol=1e-9)


def test_epic_drops_the_medoid_that_stands_alone_and_no_member_of_a_cluster(rng):
    logits = np.zeros((103, 3), np.float32)
    logits[:, 0] = 6 + 0.01 * rng.normal(size=103)
    logits[100] = 0, 8, 0
    logits[101] = 0, 0, 8
    logits[102] = 0, 5, 5
    dropped = epic.Epic(subset=0.04)._isolated(logits, np.zeros(103, int))
    assert set(dropped) == {100, 101, 102}
    assert len(epic.Epic(subset=0.01)._isolated(logits, np.zeros(103, int))) == 0


def test_epic_drops_isolated_examples_while_training(rng):
    dataset = ts.datasets.load("digits")
    x, y, _ = arrays(dataset, None)
    bad = np.zeros(len(y), bool)
    bad[rng.choice(len(y), 14, replace=False)] = True
    y[bad] = (y[bad] + rng.integers(1, 10, 14)) % 10
    recipe = ts.training.Recipe("adam", 2e-3, batch_size=32, epochs=7)
    trained = epic.Epic(warmup=3, every=2).train(build_for(dataset), x, y, 10, recipe, 1)
    assert np.mean(~trained.kept[bad]) >= 0.5
    assert np.mean(~trained.kept[bad]) >= 3 * np.mean(~trained.kept[~bad])
    assert np.mean(trained.predict(dataset.test.x).argmax(axis=1) == dataset.test.y) >= 0.9


@pytest.mark.parametrize(
    "name", most_slow(["activation_clustering", "epic", "spectral_signatures", "loss", "knn"], "knn")
)
def test_the_same_seed_trains_the_same_classifier(name):
    dataset = ts.datasets.load("digits")
    x, y = dataset.train.x[:300], dataset.train.y[:300]
    recipe = ts.training.Recipe(batch_size=32, epochs=3)
    first, again = (ts.defenses.get(name)().train(build_for(dataset), x, y, 10, recipe, 4) for _ in range(2))
    np.testing.assert_array_equal(first.kept, again.kept)
    np.testing.assert_array_equal(first.predict(x), again.predict(x))


def test_features_are_the_penultimate_layers(rng):
    x, y, recipe = rng.random((5, 8, 8, 1), np.float32), np.arange(5), ts.training.Recipe(batch_size=5, epochs=1)

    def build():
        return ts.models.build("mlp", (8, 8, 1), 10, seed=0)

    found = base.learned_features(build, x, y, recipe, 3, "a purpose")
    model = base.fit(build, x, y, recipe, seeds.derive(3, "a purpose"))
    assert found.shape == (5, 256) and found.dtype == np.float64
    np.testing.assert_allclose(found, np.asarray(ts.models.features(model)(x)), rtol=1e-6)


@pytest.fixture(scope="module")
def mini():
    return ts.datasets.load("fashion_mnist_mini")


def measure(defense, dataset, poisons, seed):
    """-> the trained, shares of poison caught and of clean examples kept."""
    x, y, bad = arrays(dataset, poisons)
    trained = ts.defenses.parse(defense).train(build_for(dataset), x, y, 10, RECIPE, seed)
    caught = np.mean(~trained.kept[bad]) if bad.any() else np.nan
    return trained, caught, np.mean(trained.kept[~bad])


@pytest.mark.slow
def test_activation_clustering_removes_badnets_and_keeps_clean_images(mini):
    rows = []
    for seed in range(3):
        attack, problem, poisons = badnets(mini, 180, 5, seed)
        trained, caught, _ = measure("activation_clustering", mini, poisons, seed)
        _, _, kept = measure("activation_clustering", mini, None, seed)
        rows.append([caught, kept, success_rate(trained, attack, problem)])
    caught, kept, reached = np.mean(rows, axis=0)
    assert caught >= 0.9
    assert kept >= 0.95
    assert reached <= 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("defense", "kept_without"), [("knn", 0.94), ("loss(rate=0.1)", 0.9), ("epic", 0.85)])
def test_flips_are_caught_well_beyond_chance_and_clean_images_kept_at_the_known_rate(mini, defense, kept_without):
    flips = ts.attacks.get("label_flip")()
    poisons = flips.craft(ts.attacks.Problem(mini, "mlp", RECIPE, 600, 0))
    _, caught, kept = measure(defense, mini, poisons, 0)
    _, _, alone = measure(defense, mini, None, 0)
    assert alone >= kept_without
    assert caught >= 5 * (1 - kept)
    if defense != "epic":
        assert caught >= 0.65
