"""tfshape: measure and mitigate data poisoning of Keras models by gradient shaping.

    import tfshape as ts

Rooms load on first use, so `tfshape.poison` or `tfshape.gradients` alone brings nothing else along.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "Experiment",
    "__version__",
    "analysis",
    "attacks",
    "callbacks",
    "certificates",
    "check",
    "datasets",
    "defenses",
    "evaluate",
    "evaluation",
    "gradients",
    "models",
    "poison",
    "privacy",
    "reporting",
    "reproductions",
    "shape",
    "shaping",
    "studies",
    "training",
]
_NAMES = {"Experiment": "evaluation", "check": "shaping", "evaluate": "studies", "shape": "shaping"}  # else a room

if TYPE_CHECKING:  # what type checkers and editors see of what is loaded on first use
    from tfshape import (
        analysis,
        attacks,
        callbacks,
        certificates,
        datasets,
        defenses,
        evaluation,
        gradients,
        models,
        poison,
        privacy,
        reporting,
        reproductions,
        shaping,
        studies,
        training,
    )
    from tfshape.evaluation import Experiment
    from tfshape.shaping import check, shape
    from tfshape.studies import evaluate
else:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        room = importlib.import_module(f"{__name__}.{_NAMES.get(name, name)}")
        return getattr(room, name) if name in _NAMES else room


def __dir__():
    return sorted({*globals(), *__all__})
