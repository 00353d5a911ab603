"""The idx files in which MNIST and its relatives are published."""

import gzip
import math
import pathlib

import numpy as np

_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def find(folder):
    """The four files of a folder as {array name: path}, compressed (.gz) or not, or None unless all are there."""
    paths = {}
    for key, name in _FILES.items():
        found = [path for path in (pathlib.Path(folder, name + ".gz"), pathlib.Path(folder, name)) if path.is_file()]
        if not found:
            return None
        paths[key] = found[0]
    return paths


def read(path):
    """Reads one idx file of bytes. Returns uint8 [N, ...]; raises ValueError if it is damaged or of another type."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            data = file.read()
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error
    rank = data[3] if len(data) >= 4 else 0
    shape = tuple(int(size) for size in np.frombuffer(data[4 : 4 + 4 * rank], ">u4"))
    if data[:3] != b"\0\0\x08" or not rank or len(data) != 4 + 4 * rank + math.prod(shape):
        raise ValueError(f"{path} is not a whole idx file of unsigned bytes")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(folder):
    """The arrays x_train, y_train, x_test, y_test of a folder with all four files, as uint8, or None."""
    paths = find(folder)
    return paths and {key: read(path) for key, path in paths.items()}
