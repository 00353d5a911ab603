"""`train_on_batch` and its like return what Keras returns: the same numbers, order, names and keys."""

import keras
import numpy as np
import pytest
from shaping_helpers import batch, dense_model, two_outputs

import tfshape as ts


def one(rng):
    x, y = batch(rng, 8)
    return dense_model, (x, y, rng.uniform(size=8).astype("float32")), {"loss": "sparse_categorical_crossentropy"}


def one_measured(rng):
    build, data, options = one(rng)
    return build, data, {**options, "metrics": ["accuracy"], "weighted_metrics": ["sparse_categorical_crossentropy"]}


def two(rng):
    x, _ = batch(rng, 8)
    y = [rng.normal(size=[8, 3]).astype("float32") for _ in range(2)]
    options = {"loss": {"left": "mse", "right": "mae"}, "metrics": {"left": ["mae", "mse"], "right": ["mse"]}}
    return (
        two_outputs,
        (x, dict(zip(("left", "right"), y)), None),
        {**options, "loss_weights": {"left": 1.0, "right": 3.0}},
    )


@pytest.mark.parametrize("make", [one, one_measured, two], ids=lambda make: make.__name__)
def test_the_same_as_keras(rng, make):
    build, data, options = make(rng)
    plain, shaped = build(), ts.shape(build(), ts.shaping.Clip(1e6))
    shaped.model.set_weights(plain.get_weights())
    for model in (plain, shaped):
        model.compile(keras.optimizers.SGD(0.0), **options)

    def values(method, **more):
        found = [getattr(model, method)(*data, **more) for model in (plain, shaped)]
        if "nonfinite" in (extra := found[1] if isinstance(found[1], dict) else {}):
            assert method == "train_on_batch" and extra.pop("nonfinite") == 0
        return found

    for method in ("train_on_batch", "test_on_batch"):
        expected, got = values(method)
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        assert np.shape(got) == np.shape(expected)
        assert shaped.metrics_names == plain.metrics_names
        expected, got = values(method, return_dict=True)
        assert set(got) == set(expected)
        np.testing.assert_allclose([got[key] for key in expected], list(expected.values()), rtol=1e-5)
    evaluated = [model.evaluate(data[0], data[1], sample_weight=data[2], verbose=0) for model in (plain, shaped)]
    np.testing.assert_allclose(evaluated[1], evaluated[0], rtol=1e-5)
    assert shaped.metrics_names == plain.metrics_names
    history = shaped.fit(data[0], data[1], sample_weight=data[2], validation_data=data, verbose=0).history
    expected = plain.fit(data[0], data[1], sample_weight=data[2], validation_data=data, verbose=0).history
    assert set(history) == {*expected, "nonfinite"}
    for key, value in expected.items():
        np.testing.assert_allclose(history[key], value, rtol=1e-5)
