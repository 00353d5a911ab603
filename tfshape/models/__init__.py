"""Keras classifiers by name, and what they make of examples.

    model = ts.models.build("cnn", ds.input_shape, ds.num_classes, seed=0)
    ts.models.accuracy(model, ds.test)
    ts.models.features(model)(x)

TensorFlow is imported when a model is built, not when this package is.
"""

from typing import TYPE_CHECKING

from tfshape import lazy
from tfshape.models.outputs import accuracy, features, predict
from tfshape.models.registry import build, get, names, register

__all__ = ["accuracy", "build", "features", "get", "names", "predict", "register"]

if not TYPE_CHECKING:
    __getattr__ = lazy.getter(__name__, {}, dict.fromkeys(("Recipe", "fit"), "tfshape.training"))
