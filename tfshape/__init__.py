"""tfshape: measure and mitigate data poisoning of Keras models by gradient shaping.

    import tfshape as ts

Rooms load on first use, so `tfshape.poison` or `tfshape.gradients` alone brings nothing else along.
"""

import importlib

__version__ = "0.1.0"

_ROOMS = (
    "analysis",
    "attacks",
    "callbacks",
    "datasets",
    "defenses",
    "evaluation",
    "gradients",
    "models",
    "poison",
    "privacy",
    "reporting",
    "shaping",
    "studies",
)
_NAMES = {"Experiment": "evaluation", "check": "shaping", "evaluate": "evaluation", "shape": "shaping"}

__all__ = ["__version__", *_ROOMS, *_NAMES]  # noqa: PLE0604 (they are strings)


def __getattr__(name):
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
