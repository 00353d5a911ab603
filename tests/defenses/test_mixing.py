"""Mixup and CutMix: what batches they make of what, and that models learn from them."""

import numpy as np
import pytest
import tensorflow as tf

import tfshape as ts
from tfshape.defenses import mixing

RECIPE = ts.training.Recipe("adam", 2e-3, batch_size=32, epochs=15)


def build():
    return ts.models.build("mlp", (8, 8, 1), 10, seed=3)


def seen_batches(defense, x, y, seed=1, epochs=4):
    """The batches a model is trained on: lists of inputs and soft labels."""
    inputs, labels = [], []

    class Spy(mixing._mixer(build(), defense._mix, defense.alpha, 10, seed).__class__):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **other):
            def keep(one, two):
                inputs.append(one)
                labels.append(two)

            tf.numpy_function(keep, [x, y], [])
            return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **other)

    import keras

    recipe = ts.training.Recipe(batch_size=len(y), epochs=epochs)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    ts.training.fit(Spy(), ts.datasets.Split(x, y).as_dataset(), recipe, seed, loss=loss)
    return inputs, labels


def test_mixup_is_a_convex_combination_of_two_examples_and_of_their_labels(rng):
    x, y = np.eye(64, dtype=np.float32)[:10].reshape(10, 8, 8, 1), np.arange(10, dtype=np.int32)
    inputs, labels = seen_batches(mixing.Mixup(), x, y)
    assert len(inputs) == 4
    for mixed, soft in zip(inputs, labels):
        np.testing.assert_allclose(mixed.reshape(10, 64)[:, :10], soft, atol=1e-6)
        np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-6)
        assert ((soft > 0).sum(axis=1) <= 2).all()
    shares = np.concatenate([soft.max(axis=1) for soft in labels])
    assert shares.max() > 0.8 and shares.min() < 0.7 and len(set(shares.tolist())) > 30
    assert (inputs[0] != inputs[1]).any()


def test_cutmix_pastes_a_rectangle_and_mixes_labels_by_its_area(rng):
    y = np.arange(10, dtype=np.int32)
    x = np.broadcast_to((y / 10).astype(np.float32)[:, None, None, None], (10, 8, 8, 1))
    inputs, labels = seen_batches(mixing.CutMix(), x, y)
    partial = 0
    for mixed, soft in zip(inputs, labels):
        for image, label in zip(mixed[..., 0], soft):
            classes = np.flatnonzero(label)
            assert len(classes) <= 2
            for c in classes:
                assert np.isclose(image, c / 10).mean() == pytest.approx(label[c])
            if len(classes) == 2:
                cut = [np.isclose(image, c / 10) for c in classes]
                boxes = [np.outer(part.any(axis=1), part.any(axis=0)) for part in cut]
                assert any((part == box).all() for part, box in zip(cut, boxes))
                partial += 1
    assert partial > 10


@pytest.mark.parametrize("alpha", [0.1, 1.0, 8.0])
def test_shares_are_beta_distributed(rng, alpha):
    y = np.zeros(2000, np.int32)
    y[::2] = 1
    x = np.zeros((2000, 8, 8, 1), np.float32)
    x[::2] = 1
    inputs, _ = seen_batches(mixing.Mixup(alpha=alpha), x, y, epochs=2)
    mixed = np.concatenate([batch[:, 0, 0, 0] for batch in inputs])
    between = mixed[(mixed > 0) & (mixed < 1)]
    deviation = np.sqrt(1 / (4 * (2 * alpha + 1)))
    assert between.mean() == pytest.approx(0.5, abs=0.05)
    assert between.std() == pytest.approx(deviation, abs=0.1 * deviation)


@pytest.mark.parametrize("name", [pytest.param("mixup", marks=pytest.mark.slow), "cutmix"])
def test_models_learn_from_mixed_batches_and_the_same_seed_learns_the_same(name):
    dataset = ts.datasets.load("digits")
    defense = ts.defenses.parse(name)
    first, again = (defense.train(build, dataset.train.x, dataset.train.y, 10, RECIPE, seed=seed) for seed in (1, 1))
    scores = first.predict(dataset.test.x)
    np.testing.assert_array_equal(scores, again.predict(dataset.test.x))
    assert scores.shape == (len(dataset.test), 10)
    assert np.mean(scores.argmax(axis=1) == dataset.test.y) >= 0.9
    assert first.kept is None and first.certificate is None
    plain = ts.defenses.parse("none").train(build, dataset.train.x, dataset.train.y, 10, RECIPE, 1)
    assert (plain.predict(dataset.test.x) != scores).any()


def test_mixing_softens_what_a_model_is_sure_of():
    dataset = ts.datasets.load("digits")
    sure = {}
    for name in ("none", "mixup"):
        trained = ts.defenses.parse(name).train(build, dataset.train.x, dataset.train.y, 10, RECIPE, 1)
        sure[name] = float(tf.reduce_mean(tf.reduce_max(tf.nn.softmax(trained.predict(dataset.test.x)), 1)))
    assert sure["mixup"] < sure["none"] - 0.05


def test_cutmix_is_for_images(rng):
    x, y = rng.random((20, 6), np.float32), np.zeros(20, np.int32)
    with pytest.raises(ValueError, match=r"x must be images .* got \[20, 6\]"):
        ts.defenses.parse("cutmix").train(lambda: ts.models.build("lr", (6,), 2), x, y, 2, RECIPE, 0)
