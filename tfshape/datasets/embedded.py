"""Datasets that need nothing but the installed packages."""

import pathlib

import numpy as np


def fashion_mnist_mini():
    """6,000 training and 2,000 test images of Fashion-MNIST (arXiv 1708.07747); see bin/_make_fashion_mnist_mini.py."""
    with np.load(pathlib.Path(__file__).with_name("fashion_mnist_mini.npz"), allow_pickle=False) as file:
        return {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}


def digits():
    """The 1,797 8x8 digits of scikit-learn, in [0, 1] instead of 0 to 16, without a published test part."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return {"x_train": data.images / 16, "y_train": data.target}
