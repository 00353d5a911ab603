"""Experiment in, results out: an attack against undefended and shaped training on the same poison.

results = ts.evaluate(ts.Experiment(attack="gradient_matching", noise=1.0))
results.table()
"""

import importlib
from typing import TYPE_CHECKING

from tfshape.evaluation.experiment import Experiment

__all__ = ["Experiment", "Results", "evaluate", "plan"]

_LAZY = {
    "Results": "results",
    "evaluate": "run",
    "plan": "run",
}  # they load TensorFlow, which flags are checked without

if TYPE_CHECKING:
    from tfshape.evaluation.results import Results
    from tfshape.evaluation.run import evaluate, plan
else:

    def __getattr__(name):
        if name in _LAZY:
            return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
