"""Every rule against a loop over single examples: 1e-10 in float64, 1e-5 in float32, eagerly and in graphs."""

import keras
import numpy as np
import pytest
from per_example_reference import check

L = keras.layers
KERAS2 = keras.__version__.startswith("2.")


def image(*shape):
    return lambda rng, batch: rng.normal(size=(batch, *shape))


def tokens(size, length):
    return lambda rng, batch: rng.integers(0, size, (batch, length)).astype("int32")


def ending():
    return L.Flatten(), L.Dense(3)


# name -> (layers, inputs)
CASES = {
    "dense": (lambda: [L.Dense(5, activation="tanh"), L.Dense(3)], image(4)),
    "dense_without_bias": (lambda: [L.Dense(5, use_bias=False, activation="relu"), L.Dense(3)], image(4)),
    "dense_on_sequences": (lambda: [L.Dense(5, activation="tanh"), L.Dense(3)], image(7, 4)),
    "dense_on_grids": (lambda: [L.Dense(5, activation="tanh"), L.Dense(3)], image(2, 3, 4)),
    "dense_ghost": (lambda: [L.Dense(30, activation="tanh"), L.Dense(30)], image(2, 40)),
    "dense_activation_layer": (lambda: [L.Dense(5, activation=L.PReLU()), L.Dense(3)], image(4)),
    "einsum_heads": (
        lambda: [
            L.EinsumDense("abc,cde->abde", (None, 3, 5), bias_axes="de", activation="tanh"),
            L.EinsumDense("abde,dec->abc", (None, 4), bias_axes="c"),
        ],
        image(6, 4),
    ),
    "einsum_left_ellipsis": (lambda: [L.EinsumDense("...x,xy->...y", 5, bias_axes="y")], image(6, 4)),
    "einsum_right_ellipsis": (lambda: [L.EinsumDense("ab...,bc->ac...", 5, bias_axes="c")], image(6, 4)),
    "einsum_groups": (lambda: [L.EinsumDense("abc,bcd->abd", (6, 5), bias_axes="bd")], image(6, 4)),
    "einsum_flat": (lambda: [L.EinsumDense("ab,bc->ac", 5, bias_axes="c", activation="tanh")], image(4)),
    "conv1d_causal": (
        lambda: [L.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"), L.Conv1D(5, 2, 2), *ending()],
        image(9, 3),
    ),
    "conv2d": (
        lambda: [L.Conv2D(4, 3, activation="relu"), L.Conv2D(5, 2, strides=2, padding="same"), *ending()],
        image(8, 7, 2),
    ),
    "conv2d_one_channel": (lambda: [L.Conv2D(8, 3, padding="same", activation="relu"), *ending()], image(6, 5, 1)),
    "conv2d_dilated": (
        lambda: [L.Conv2D(4, 3, dilation_rate=2, padding="same"), L.Conv2D(5, (2, 3), dilation_rate=(1, 2)), *ending()],
        image(8, 7, 2),
    ),
    "conv2d_pointwise": (lambda: [L.Conv2D(20, 1, strides=2, padding="same"), *ending()], image(5, 5, 10)),
    "conv2d_deep": (
        lambda: [L.Conv2D(20, 3, padding="same", activation="relu"), L.Conv2D(30, 3, padding="same"), *ending()],
        image(2, 2, 10),
    ),
    "conv2d_groups": (lambda: [L.Conv2D(6, 3, groups=2, padding="same"), *ending()], image(5, 4, 4)),
    "conv3d": (
        lambda: [L.Conv3D(4, 2, strides=2, padding="same", activation="relu"), L.Conv3D(5, 2), *ending()],
        image(5, 6, 5, 3),
    ),
    "depthwise1d": (
        lambda: [L.DepthwiseConv1D(3, padding="same", depth_multiplier=2), L.DepthwiseConv1D(2, 2), *ending()],
        image(6, 3),
    ),
    "depthwise2d": (
        lambda: [L.DepthwiseConv2D(3, padding="same", depth_multiplier=2), L.DepthwiseConv2D(2, 2), *ending()],
        image(6, 6, 3),
    ),
    "depthwise2d_dilated": (lambda: [L.DepthwiseConv2D(3, dilation_rate=2), *ending()], image(8, 8, 3)),
    "separable1d": (
        lambda: [L.SeparableConv1D(4, 3, depth_multiplier=2), L.SeparableConv1D(3, 2, 2, padding="same"), *ending()],
        image(8, 3),
    ),
    "separable2d": (
        lambda: [
            L.SeparableConv2D(4, 3, activation="relu", depth_multiplier=2),
            L.SeparableConv2D(3, 2, strides=2, padding="same", use_bias=False),
            *ending(),
        ],
        image(6, 6, 3),
    ),
    "transpose1d": (lambda: [L.Conv1DTranspose(4, 3, strides=2, padding="same"), *ending()], image(4, 3)),
    "transpose2d": (
        lambda: [L.Conv2DTranspose(4, 3, strides=2, padding="same"), L.Conv2DTranspose(3, 2, strides=3), *ending()],
        image(3, 4, 3),
    ),
    "transpose2d_output_padding": (
        lambda: [L.Conv2DTranspose(4, 3, strides=2, padding="same", output_padding=1), *ending()],
        image(3, 4, 3),
    ),
    "transpose3d": (lambda: [L.Conv3DTranspose(4, 3, strides=2, padding="same"), *ending()], image(2, 3, 2, 3)),
    "embedding": (lambda: [L.Embedding(7, 4), L.Dense(3)], tokens(7, 6)),
    "embedding_one_token": (lambda: [L.Embedding(7, 4), L.Dense(3)], tokens(7, 1)),
    "embedding_long": (lambda: [L.Embedding(7, 2), L.Dense(3)], tokens(7, 70)),
    "layer_norm": (lambda: [L.Dense(6), L.LayerNormalization(), L.Dense(3)], image(4)),
    "layer_norm_axes": (lambda: [L.Dense(6), L.LayerNormalization(axis=[1, 2]), L.Dense(3)], image(5, 4)),
    "layer_norm_without_beta": (lambda: [L.Dense(6), L.LayerNormalization(center=False), L.Dense(3)], image(5, 4)),
    "group_norm": (lambda: [L.Conv2D(6, 3), L.GroupNormalization(groups=3), *ending()], image(6, 6, 2)),
    "group_norm_axis": (lambda: [L.Dense(6), L.GroupNormalization(groups=2, axis=1), L.Dense(3)], image(4, 5)),
    "group_norm_without_gamma": (
        lambda: [L.Conv2D(6, 3), L.GroupNormalization(groups=-1, scale=False), *ending()],
        image(6, 6, 2),
    ),
}
if KERAS2:  # Keras 3 cannot run it on a CPU itself
    CASES["transpose2d_dilated"] = (lambda: [L.Conv2DTranspose(3, 3, dilation_rate=2), *ending()], image(3, 4, 3))


@pytest.fixture(params=["float64", "float32"])
def floatx(request):
    previous = keras.backend.floatx()
    keras.backend.set_floatx(request.param)
    keras.mixed_precision.set_global_policy(request.param)  # Keras 3 remembers one apart from floatx
    yield request.param
    keras.backend.set_floatx(previous)
    keras.mixed_precision.set_global_policy(previous)


def build(layers, x):
    dtype = "int32" if x.dtype == "int32" else keras.backend.floatx()
    return keras.Sequential([keras.Input(x.shape[1:], dtype=dtype), *layers])


@pytest.mark.parametrize("name", CASES)
def test_rule_matches_loop(name, floatx, rng):
    layers, inputs = CASES[name]
    x = inputs(rng, 5)
    x = x if x.dtype == "int32" else x.astype(floatx)
    model = build(layers(), x)
    y = rng.normal(size=model(x).shape).astype(floatx)  # the call also builds what Keras 3 has put off
    rows = check(model, x, y, mode="eager" if floatx == "float64" else "dynamic")
    assert sorted(i for _, indices in rows for i in indices) == list(range(len(model.trainable_variables)))


def test_batch_norm_with_moving_statistics(floatx, rng):
    model = build([L.Conv2D(6, 3), L.BatchNormalization(), *ending()], np.zeros((1, 6, 6, 2)))
    norm = model.layers[1]
    norm.set_weights([rng.uniform(0.5, 2, 6) for _ in range(4)])
    x, y = rng.normal(size=(4, 6, 6, 2)).astype(floatx), rng.normal(size=(4, 3)).astype(floatx)
    check(model, x, y, training=False)


def test_only_the_wanted_variables(rng):
    """A subset of the variables, in another order, of layers whose other variables are left alone."""
    from per_example_reference import close, loop

    from tfshape.gradients import per_example

    model = build([L.Conv2D(4, 3, activation="relu"), *ending()], np.zeros((1, 5, 5, 2)))
    x, y = rng.normal(size=(4, 5, 5, 2)).astype("float32"), rng.normal(size=(4, 3)).astype("float32")
    variables = [model.layers[-1].bias, model.layers[0].kernel]
    _, expected = loop(model, keras.losses.mean_squared_error, x, y, variables=variables)
    g = per_example(model, "mse", x, y, variables=variables)
    for actual, wanted in zip(g.materialize(), expected):
        close(actual, wanted, np.abs(wanted).max(), "materialize", 1e-5)
    assert [indices for _, indices in g.layers] == [[0], [1]]
    assert [tuple(s.shape) for s in g.weighted_sum(np.ones(4))] == [(3,), (3, 3, 2, 4)]
