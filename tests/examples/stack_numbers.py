"""What the public names give where nothing is drawn at random but by NumPy, as JSON: the same on every stack."""

import json

import keras
import numpy as np
import tensorflow as tf

import tfshape as ts


def problem():
    """A small image classifier with given weights, and a batch."""
    rng = np.random.default_rng(0)
    x, y = rng.random((12, 8, 8, 1)).astype("float32"), rng.integers(0, 4, 12)
    model = keras.Sequential(
        [
            keras.layers.Conv2D(3, 3, activation="tanh"),
            keras.layers.GroupNormalization(1),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(4),
        ]
    )
    model.build((None, 8, 8, 1))
    model.set_weights([rng.normal(0, 0.3, weight.shape) for weight in model.get_weights()])
    return model, x, y


def flat(tensors):
    return np.concatenate([np.ravel(tensor) for tensor in tensors])


def gradients():
    """Of every example, and what shapers are made of."""
    model, x, y = problem()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    g = ts.gradients.per_example(model, loss, x, y)
    return {"norms": g.norms, "gram": g.gram()[0], "weighted_sum": flat(g.weighted_sum(1 / (1 + g.norms)))[:20]}


def training(shaping, optimizer):
    """Weights and losses after two epochs without noise and without shuffling."""
    model, x, y = problem()
    shaped = ts.shape(model, ts.shaping.parse(shaping))
    shaped.compile(optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = shaped.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]
    return {"losses": losses, "weights": flat(model.get_weights())[::7]}


def poison():
    """Which examples the transforms pick, and what they make of them."""
    x, y = np.random.default_rng(1).random((60, 6, 6, 1)).astype("float32"), np.arange(60) % 5
    found = {}
    for name, transform in {
        "flip_labels": ts.poison.flip_labels(rate=0.2, num_classes=5, seed=3, mark=True),
        "stamp": ts.poison.stamp(ts.poison.patch(size=2), rate=0.1, target_class=2, seed=3, mark=True),
    }.items():
        data = tf.data.Dataset.from_tensor_slices((x, y)).apply(transform).batch(60).get_single_element()
        found[name] = [*np.asarray(data[1]), *np.flatnonzero(data[2]), float(np.sum(data[0]))]
    return found


def privacy():
    """Epsilon under each way of drawing batches, and its inverse."""
    run = (1.0, 128, 6_000, 94)
    found = {sampling: ts.privacy.epsilon(*run, 1e-5, sampling) for sampling in ("poisson", "shuffle")}
    return {**found, "delta": ts.privacy.delta_for(2.0, *run)}


def numbers():
    """All of them, as nested dicts of floats and lists."""
    momentum = "normalize(0.3)|orient(0.1, reference='momentum')"
    shapings = ["clip(0.5)", momentum, "geometric_median", "per_layer_clip(0.5)"]
    found = {"gradients": gradients(), "poison": poison(), "privacy": privacy()}
    for text in shapings:
        found[f"{text}, sgd"] = training(text, keras.optimizers.SGD(0.1))
    found["clip(0.5), adam"] = training("clip(0.5)", keras.optimizers.Adam(0.01))
    return json.loads(json.dumps(found, default=lambda value: np.asarray(value, np.float64).tolist()))


if __name__ == "__main__":
    print(json.dumps(numbers(), indent=1))
