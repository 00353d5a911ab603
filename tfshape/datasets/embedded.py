"""The data set that comes with the package."""

import pathlib

import numpy as np


def fashion_mnist_mini():
    """6,000 training and 2,000 test images of Fashion-MNIST; see make_fashion_mnist_mini.py."""
    with np.load(pathlib.Path(__file__).with_name("fashion_mnist_mini.npz"), allow_pickle=False) as file:
        return {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}
