"""The artifacts equal what materialised gradients give."""

import numpy as np
import pytest
from analysis_helpers import LOSS, batch, by_definition, conv_model, dense_model

import tfshape as ts

MODELS = {"dense": (dense_model, (6,)), "conv": (conv_model, (6, 6, 2))}


def materialised(found):
    """Layer to [B, P] in float64, "all" first."""
    parts = [np.asarray(g, np.float64).reshape(len(found.losses), -1) for g in found.materialize()]
    layers = {name: np.concatenate([parts[i] for i in indices], 1) for name, indices in found.layers}
    return {"all": np.concatenate(parts, 1), **layers}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shaping", [None, "example", "layer", "dropped"])
def test_every_number_equals_that_of_materialised_gradients(rng, name, shaping):
    build, shape = MODELS[name]
    model = build()
    x, y = batch(rng, 24, shape)
    marks = rng.permutation(np.arange(24) < 5)
    found = ts.gradients.per_example(model, LOSS, x, y, training=False)
    weights = {
        None: None,
        "example": rng.uniform(0.1, 1, 24),
        "layer": rng.uniform(0.1, 1, (len(found.layers), 24)),
        "dropped": rng.permutation(np.arange(24) % 4 > 0).astype(float),
    }[shaping]
    rows = ts.analysis.artifacts(found, marks, weights)
    layers = materialised(found)
    assert [(row["view"], row["layer"]) for row in rows] == [
        (view, layer) for view in ("raw", "shaped")[: 1 + (shaping is not None)] for layer in layers
    ]
    scale = np.ones((len(found.layers), 24)) if weights is None else np.zeros((len(found.layers), 24)) + weights
    shaped = {key: scale[i][:, None] * layers[key] for i, (key, _) in enumerate(found.layers)}
    shaped["all"] = np.concatenate([shaped[key] for key, _ in found.layers], 1)
    for row in rows:
        expected = by_definition((layers if row["view"] == "raw" else shaped)[row["layer"]], marks)
        assert set(row) - {"view", "layer"} == set(expected)
        for key, value in expected.items():
            assert row[key] == pytest.approx(value, rel=1e-5, abs=1e-6 if "cosine" in key or key == "share" else 0), key


def test_on_the_mlp_of_the_paper_with_few_poisons(rng):
    model = ts.models.build("mlp", (28, 28, 1), 10)
    data = ts.datasets.load("fashion_mnist_mini").train
    x, y = data.x[:100], data.y[:100].copy()
    marks = np.arange(100) < 3
    y[marks] = (y[marks] + 1) % 10
    model.compile("adam", LOSS)
    model.fit(data.x[:1000], data.y[:1000], epochs=2, verbose=0)
    found = ts.gradients.per_example(model, LOSS, x, y)
    expected = by_definition(materialised(found)["all"], marks)
    row = ts.analysis.artifacts(found, marks)[0]
    for key, value in expected.items():
        assert row[key] == pytest.approx(value, rel=1e-5), key


def test_without_labels_of_poison_there_are_norms_and_cosines_of_all(rng):
    x, y = batch(rng, 12)
    found = ts.gradients.per_example(dense_model(), LOSS, x, y)
    gradients = materialised(found)["all"]
    row = ts.analysis.artifacts(found)[0]
    assert [*row] == ["view", "layer", "all_cosine", *(f"all_norm_{p:02}" for p in (5, 25, 50, 75, 95))]
    assert row["all_norm_75"] == pytest.approx(np.quantile(np.linalg.norm(gradients, axis=1), 0.75), rel=1e-5)


def test_a_gradient_that_is_not_finite_is_left_out(rng):
    model = dense_model()
    x, y = batch(rng, 12)
    marks = np.arange(12) < 4
    clean = ts.analysis.artifacts(ts.gradients.per_example(model, LOSS, x, y), marks)
    x, y, marks = np.append(x, np.full_like(x[:1], np.nan), 0), np.append(y, y[:1]), np.append(marks, True)
    for row, expected in zip(ts.analysis.artifacts(ts.gradients.per_example(model, LOSS, x, y), marks), clean):
        for key in set(row) - {"view", "layer"}:
            assert row[key] == pytest.approx(expected[key], rel=1e-6), key


def test_only_clean_examples_compare_with_nothing(rng):
    x, y = batch(rng, 8)
    row = ts.analysis.artifacts(ts.gradients.per_example(dense_model(), LOSS, x, y), np.zeros(8, bool))[0]
    assert np.isnan([row["magnitude_ratio"], row["cosine"], row["share"], row["poison_norm_50"]]).all()
    assert row["clean_norm_50"] > 0
