"""Small datasets for the poison tests."""

import numpy as np
import tensorflow as tf


def images(n, shape=(6, 5, 2), num_classes=4, dtype=np.float32, seed=0):
    """x [n, *shape] and int32 labels [n] in no particular order."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, *shape), np.uint8)
    x = x if dtype == np.uint8 else (x / 255).astype(dtype)
    return x, rng.integers(0, num_classes, n).astype(np.int32)


def dataset(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y))


def unknown(data):
    """The same elements, but nobody knows how many."""
    return data.filter(lambda *_: True)


def arrays(data):
    """The parts of all elements of a dataset of tuples, stacked."""
    return [np.array(part) for part in zip(*data.as_numpy_iterator())]


def same(left, right):
    """Whether two lists of arrays have the same bits."""
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(left, right)
    )


def same_elements(left, right):
    """Whether two datasets hold the same elements in the same order, bit by bit."""
    left, right = (
        [[np.asarray(p) for p in tf.nest.flatten(e)] for e in data.as_numpy_iterator()] for data in (left, right)
    )
    return len(left) == len(right) and all(map(same, left, right))
