"""Experiment in, results out: an attack against undefended and shaped training on the same poison.

results = ts.evaluate(ts.Experiment(attack="gradient_matching", noise=1.0))
results.table()
"""

from typing import TYPE_CHECKING

from tfshape import lazy
from tfshape.evaluation.experiment import Experiment

__all__ = ["Column", "DefenseRecord", "Experiment", "Results", "VictimRecord", "evaluate", "plan"]

_LAZY = {
    "Column": "columns",
    "DefenseRecord": "records",
    "Results": "results",
    "VictimRecord": "records",
    "evaluate": "run",
    "plan": "run",
}  # they load TensorFlow, which flags are checked without

if TYPE_CHECKING:
    from tfshape.evaluation.columns import Column
    from tfshape.evaluation.records import DefenseRecord, VictimRecord
    from tfshape.evaluation.results import Results
    from tfshape.evaluation.run import evaluate, plan
else:
    __getattr__ = lazy.getter(__name__, _LAZY)
