"""What the engine is compared with: a loop of tapes over single examples, which shares no code with it."""

import keras
import numpy as np
import tensorflow as tf

from tfshape.gradients import per_example

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def raw(variables):
    return [v if isinstance(v, tf.Variable) else v.value for v in variables]


def loop(model, loss, x, y, sample_weight=None, training=True, variables=None):
    """(losses [B], list of [B, *shape]) by one tape an example; `loss` is a function (y_true, y_pred) -> [B]."""
    tensors = raw(model.trainable_variables if variables is None else variables)
    losses, rows = [], []
    for i in range(len(tf.nest.flatten(x)[0])):
        pick = lambda t, i=i: tf.convert_to_tensor(t)[i : i + 1]  # noqa: E731
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for tensor in tensors:
                tape.watch(tensor)
            y_pred = model(tf.nest.map_structure(pick, x), training=training)
            value = tf.reduce_mean(loss(tf.nest.map_structure(pick, y), y_pred))
            if sample_weight is not None:
                value *= tf.cast(sample_weight[i], value.dtype)
        found = tape.gradient(value, tensors, unconnected_gradients="zero")
        rows.append([tf.convert_to_tensor(g).numpy() for g in found])
        losses.append(value.numpy())
    return np.array(losses), [np.stack(column) for column in zip(*rows)]


def close(actual, expected, scale, what, tolerance):
    """Differences no larger than `tolerance` times `scale`, the size of the terms that were added up."""
    actual, expected = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    assert actual.shape == expected.shape, (what, actual.shape, expected.shape)
    worst = np.max(np.abs(actual - expected) / np.maximum(scale, 1e-30), initial=0.0)
    assert worst <= tolerance, f"{what}: off by {worst:.1e} relative"


def quantities(g, direction, weights):
    return {
        "losses": g.losses,
        "norms": g.norms,
        "layer_norms": g.layer_norms,
        "dot": g.dot(direction),
        "gram": g.gram(),
        "weighted_sum": g.weighted_sum(weights),
        "weighted_layers": g.weighted_sum(weights * tf.range(1, 1 + len(g.layers), dtype=weights.dtype)[:, None]),
        "materialize": g.materialize(),
    }


def check(
    model, x, y, loss=None, mode="eager", tolerance=None, sample_weight=None, training=True, reference=None, seed=0
):
    """Every quantity of the engine against the loop. mode: "eager", "graph", or "dynamic", a graph of unknown batch."""
    name = loss or "mean_squared_error"
    function = keras.losses.get(name)
    floatx = keras.backend.floatx()
    tolerance = TOLERANCE[floatx] if tolerance is None else tolerance
    losses, expected = reference or loop(model, function, x, y, sample_weight, training)
    rng = np.random.default_rng(seed)
    batch = len(losses)
    weights = rng.normal(size=batch).astype(floatx)
    direction = [rng.normal(size=v.shape).astype(floatx) for v in model.trainable_variables]
    layers = []

    def run(x, y, weights, direction):
        g = per_example(model, name, x, y, sample_weight=sample_weight, training=training)
        layers[:] = g.layers
        return quantities(g, direction, weights)

    arguments = tf.nest.map_structure(tf.convert_to_tensor, (x, y, weights, direction))
    if mode == "graph":
        run = tf.function(run)
    elif mode == "dynamic":
        signature = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), arguments[:3])
        run = tf.function(
            run, input_signature=[*signature, tf.nest.map_structure(tf.type_spec_from_value, arguments[3])]
        )
    found = tf.nest.map_structure(lambda t: t.numpy(), run(*arguments))

    flat = [g.reshape(batch, -1).astype("float64") for g in expected]
    whole = np.concatenate(flat, 1)
    norms = np.linalg.norm(whole, axis=1)
    long = np.concatenate([d.ravel() for d in direction])
    parts = np.stack([np.sqrt(sum((flat[i] ** 2).sum(1) for i in indices)) for _, indices in layers])
    close(found["losses"], losses, np.abs(losses).max(), "losses", tolerance)
    close(found["norms"], norms, norms + 1e-3 * norms.max(), "norms", tolerance)
    close(found["layer_norms"], parts, parts + 1e-2 * norms.max(), "layer_norms", tolerance)
    close(found["dot"], whole @ long, (norms * np.linalg.norm(long)).max(), "dot", tolerance)
    close(found["gram"], whole @ whole.T, norms.max() ** 2, "gram", tolerance)
    scale = np.abs(weights).sum() * norms.max()
    by_layer = np.zeros(len(flat))
    for row, (_, indices) in enumerate(layers):
        by_layer[indices] = row + 1
    for i, (e, v) in enumerate(zip(flat, model.trainable_variables)):
        total = (weights @ e).reshape(v.shape)
        close(found["materialize"][i], expected[i], norms.max(), f"materialize {v.name}", tolerance)
        close(found["weighted_sum"][i], total, scale, f"weighted_sum {v.name}", tolerance)
        close(found["weighted_layers"][i], by_layer[i] * total, scale * len(layers), f"by layer {v.name}", tolerance)
    return layers
