"""Run by test_shaping_replicas.py in a process of its own, which has two logical CPUs; prints one JSON line."""

import json
import sys

import keras
import numpy as np
import tensorflow as tf
from shaping_helpers import CROSS_ENTROPY, AfterBatch, BatchMean, dense_model, flat

import tfshape as ts

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# One of each for all runs: a second strategy would repeat the keys of the first one's collective operations.
STRATEGIES = {n: tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(n)]) for n in (1, 2)}


def train(text, replicas, steps=1, padding=False, rows=8, uneven=False, collect=False):
    """The change of the weights by `steps` steps of SGD(1.0), or of each step if `collect`."""
    strategy = STRATEGIES[replicas]
    rng = np.random.default_rng(0)
    count = rows * steps - (3 if uneven else 0)
    x, y = rng.normal(size=[count, 4]).astype("float32"), rng.integers(0, 3, count)
    weights = np.zeros(count, "float32") if padding else np.ones(count, "float32")
    with strategy.scope():
        model = dense_model(kernel_regularizer=None if padding else "l2")
        shaped = ts.shape(model, ts.shaping.parse(text), seed=3)
        shaped.compile(keras.optimizers.SGD(1.0), loss=CROSS_ENTROPY, metrics=["accuracy"])
    trail = [flat(model.get_weights())]
    callback = AfterBatch(lambda: trail.append(flat(model.get_weights())))
    data = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(rows)
    history = shaped.fit(data, verbose=0, callbacks=[callback])
    changes = np.diff(np.stack(trail), axis=0).astype("float64")
    state = [np.asarray(w).tolist() for w in shaped.non_trainable_weights]
    logs = {key: float(value[-1]) for key, value in history.history.items()}
    return {"changes": changes.tolist() if collect else changes.sum(0).tolist(), "state": state, "logs": logs}


def refusal(replicas):
    """What is said of a layer that mixes rows."""
    with STRATEGIES[replicas].scope():
        shaped = ts.shape(
            keras.Sequential([keras.Input([4]), BatchMean(name="it"), keras.layers.Dense(3)]), ts.shaping.Clip(1.0)
        )
        shaped.compile("sgd", loss=CROSS_ENTROPY)
    rng = np.random.default_rng(0)
    try:
        shaped.fit(rng.normal(size=[8, 4]), rng.integers(0, 3, 8), verbose=0)
    except ValueError as error:
        return str(error)


def main():
    adaptive = "adaptive_clip(0.5, initial=0.2, count_stddev=0.0)"
    momentum = "orient(0.5, reference='momentum', decay=0.5)|clip(0.5)"
    found = {}
    for replicas in (1, 2):
        found[replicas] = {
            "uneven": train("clip(0.3)", replicas, steps=2, uneven=True),
            "adaptive": train(adaptive, replicas, steps=4),
            "momentum": train(momentum, replicas, steps=4),
            "refusal": refusal(replicas),
            "noise": train("dp_sgd(0.5, 2.0)", replicas, steps=150, padding=True, collect=True),
        }
    json.dump(found, sys.stdout)


main()
