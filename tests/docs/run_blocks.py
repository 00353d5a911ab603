"""Runs the blocks of each page, read as JSON from stdin, in a namespace of its own that has a model and data."""

import json
import os
import sys
import traceback

import keras
import numpy as np
import tensorflow as tf

import tfshape as ts


def namespace():
    """What a reader has before the first line: a model of 3 classes, its data, and the library."""
    rng = np.random.default_rng(0)
    x, y = rng.random((512, 20)).astype("float32"), rng.integers(0, 3, 512)
    model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3, activation="softmax")])
    model.build((None, 20))
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    is_poison = np.arange(512) < 32
    train = tf.data.Dataset.from_tensor_slices((x, y))
    return {"__name__": "page", "ts": ts, "x": x, "y": y, "is_poison": is_poison, "model": model, "train": train}


failed, start = False, os.getcwd()
for page, blocks in json.load(sys.stdin).items():
    os.chdir(start)
    os.makedirs(page)
    os.chdir(page)  # so that no page finds what another wrote
    names = namespace()
    for number, block in enumerate(blocks, 1):
        try:
            exec(compile(block, f"{page}, block {number}", "exec"), names)
        except Exception:
            failed = True
            print(f"{page}, block {number}:\n{block}\n{traceback.format_exc()}")
            break
sys.exit(failed)
