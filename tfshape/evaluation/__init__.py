"""Experiment in, results out: an attack against undefended and shaped training on the same poison.

results = ts.evaluate(ts.Experiment(attack="gradient_matching", noise=1.0))
results.table()
"""

from typing import TYPE_CHECKING

from tfshape import lazy
from tfshape.evaluation.experiment import Experiment

__all__ = ["Experiment", "Results", "plan"]

_LAZY = {
    "Results": "results",
    "plan": "run",
}  # they load TensorFlow, which flags are checked without

if TYPE_CHECKING:
    from tfshape.evaluation.results import Results
    from tfshape.evaluation.run import plan
else:
    __getattr__ = lazy.getter(__name__, _LAZY)
