"""The idx files in which MNIST and its relatives are published."""

import math
import pathlib

import numpy as np

from tfshape import files

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
    """Reads one idx file of bytes. Returns uint8 [N, ...].

    Raises ValueError if it is damaged, of another type, or larger than `files.limit`, compressed or not.
    """
    with (files.open_gzip if path.suffix == ".gz" else files.open_regular)(path) as file:
        start = file.read(4)
        rank = start[3] if len(start) == 4 else 0
        sizes = file.read(4 * rank)
        if start[:3] != b"\0\0\x08" or not 1 <= rank <= 4 or len(sizes) != 4 * rank:
            raise ValueError(f"{path} is not a whole idx file of unsigned bytes")
        shape = tuple(map(int, np.frombuffer(sizes, ">u4")))
        size = math.prod(shape)
        files.check_size(path, size)
        data = files.read_up_to(file, size + 1)
    if len(data) != size:
        raise ValueError(f"{path} is not a whole idx file of unsigned bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)


def load(folder):
    """The arrays x_train, y_train, x_test, y_test of a folder with all four files, as uint8, or None."""
    paths = find(folder)
    return paths and {key: read(path) for key, path in paths.items()}
