"""Builders: architectures as published, seeds, features, and what is refused."""

import keras
import numpy as np
import pytest

import tfshape as ts

IMAGE = (28, 28, 1)


def params(*layers):
    return sum(fan_in * units + bias for fan_in, units, bias in layers)


def resnet20_params(channels):
    """Counted by hand from the paper: 19 convolutions, two 1x1 shortcuts, a scale and a shift a channel, one dense."""
    convs = 9 * channels * 16 + 9 * (6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    shortcuts = 16 * 32 + 32 * 64
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    return convs + shortcuts + norms + 64 * 10 + 10


@pytest.mark.parametrize(
    ("name", "count", "width"),
    [
        ("lr", params((784, 10, 10)), 784),
        ("mlp", params((784, 256, 256), (256, 256, 256), (256, 10, 10)), 256),
        ("cnn", params((9, 16, 16), (9 * 16, 32, 32), (12 * 12 * 32, 256, 256), (256, 10, 10)), 256),
        ("small_cnn", params((9, 16, 16), (9 * 16, 32, 32), (5 * 5 * 32, 64, 64), (64, 10, 10)), 64),
        ("resnet20", resnet20_params(1), 64),
    ],
)
def test_architecture_and_features(name, count, width, rng):
    model = ts.models.build(name, IMAGE, 10, seed=3)
    assert model.count_params() == count
    x = rng.random((5, *IMAGE), np.float32)
    features = ts.models.features(model)(x)
    assert features.shape == (5, width)
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(np.asarray(features) @ kernel + bias, np.asarray(model(x)), rtol=1e-4, atol=1e-5)


def test_every_name_has_a_case_above():
    assert ts.models.names() == ("lr", "mlp", "cnn", "small_cnn", "resnet20")


def test_features_of_lr_are_the_flattened_input(rng):
    x = rng.random((4, *IMAGE), np.float32)
    features = ts.models.features(ts.models.build("lr", IMAGE, 10))(x)
    np.testing.assert_array_equal(np.asarray(features), x.reshape(4, -1))


def test_features_follow_the_weights_of_the_model(rng):
    model = ts.models.build("mlp", (6,), 3)
    features = ts.models.features(model)
    x = rng.random((4, 6), np.float32)
    before = np.asarray(features(x))
    model.set_weights([2 * weight for weight in model.get_weights()])
    np.testing.assert_allclose(np.asarray(features(x)), 4 * before, rtol=1e-5)


def test_features_of_a_wrapped_model(rng):
    class Wrapper(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x, training=None):
            return self.inner(x, training=training)

    model = ts.models.build("mlp", (6,), 3)
    x = rng.random((4, 6), np.float32)
    expected = np.asarray(ts.models.features(model)(x))
    np.testing.assert_array_equal(np.asarray(ts.models.features(Wrapper(Wrapper(model)))(x)), expected)


def test_features_need_the_layer():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="only")])
    with pytest.raises(ValueError, match=r"'features'.*\['only'\]"):
        ts.models.features(model)


@pytest.mark.parametrize("name", ["lr", "mlp", "cnn", "small_cnn", "resnet20"])
def test_the_seed_decides_the_weights(name):
    def weights(seed):
        return ts.models.build(name, IMAGE, 10, seed).get_weights()

    keras.utils.set_random_seed(1)
    first = weights(5)
    keras.utils.set_random_seed(2)
    for one, same, other in zip(first, weights(5), weights(6)):
        np.testing.assert_array_equal(one, same)
        if one.ndim > 1:
            assert not np.any(one == other)


def test_layers_of_one_shape_start_differently():
    kernels = [weight for weight in ts.models.build("resnet20", IMAGE, 10).get_weights() if weight.ndim == 4]
    alike = [kernel for kernel in kernels if kernel.shape == (3, 3, 64, 64)]
    assert len(alike) == 5
    assert len({kernel.tobytes() for kernel in alike}) == 5
    for kernel in alike[1:]:
        assert abs(np.corrcoef(alike[0].ravel(), kernel.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("name", ["cnn", "small_cnn", "resnet20"])
def test_one_example_does_not_see_another(name, rng):
    model = ts.models.build(name, (12, 12, 3), 4)
    x = rng.random((3, 12, 12, 3), np.float32)
    together = np.asarray(model(x, training=True))
    alone = np.concatenate([np.asarray(model(x[i : i + 1], training=True)) for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lr", "mlp"])
def test_tables(name, rng):
    model = ts.models.build(name, (600,), 100)
    assert model(rng.random((2, 600), np.float32)).shape == (2, 100)


@pytest.mark.parametrize("name", ["cnn", "small_cnn", "resnet20"])
@pytest.mark.parametrize("shape", [(600,), (8, 8), (3, 28, 1)])
def test_image_models_refuse_other_shapes(name, shape):
    with pytest.raises(ValueError) as error:
        ts.models.build(name, shape, 10)
    assert name in str(error.value) and str(shape) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cnm", IMAGE, 10), "model must be one of lr, mlp, cnn, small_cnn, resnet20, got 'cnm'"),
        (("lr", (), 10), "input_shape"),
        (("lr", (0, 3), 10), "input_shape"),
        (("lr", (None, 3), 10), "input_shape"),
        (("lr", IMAGE, 1), "num_classes"),
        (("lr", IMAGE, 2.0), "num_classes"),
        (("lr", IMAGE, 10, -1), "seed"),
        (("lr", IMAGE, 10, 0.5), "seed"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        ts.models.build(*arguments)


@pytest.mark.parametrize("name", ["lr", "mlp", "cnn", "small_cnn", "resnet20"])
def test_models_save_and_load(name, tmp_path, rng):
    model = ts.models.build(name, IMAGE, 10)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    x = rng.random((2, *IMAGE), np.float32)
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(model(x)))
