"""Datasets by name."""

import numpy as np

from tfshape.datasets import embedded
from tfshape.datasets.base import Dataset, Split


def names():
    """The names that `load` knows, as a tuple."""
    return ("fashion_mnist_mini",)


def load(name, data_dir=None, classes=None):
    """Loads a dataset."""
    if name not in names():
        raise ValueError(f"dataset must be one of {', '.join(names())}, got {name!r}")
    arrays = embedded.fashion_mnist_mini()
    train, test = (
        Split(arrays[f"x_{part}"][..., None].astype(np.float32) / 255, arrays[f"y_{part}"].astype(np.int32))
        for part in ("train", "test")
    )
    return Dataset(name, train, test, 10, train.x.shape[1:])
