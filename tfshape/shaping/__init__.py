"""Gradient shaping: weights for per-example gradients, noise, and the Keras model that trains with them."""

from .base import Shaper
from .chain import Chain, GaussianNoise, dp_sgd
from .clipping import Clip

__all__ = ["Chain", "Clip", "GaussianNoise", "Shaper", "dp_sgd", "tensorflow_privacy"]


def __getattr__(name):
    if name == "tensorflow_privacy":
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
