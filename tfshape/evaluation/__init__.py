"""Experiment in, results out: an attack against undefended and shaped training on the same poison.

results = ts.evaluate(ts.Experiment(attack="gradient_matching", noise=1.0))
results.table()
"""

from typing import TYPE_CHECKING

from tfshape import lazy
from tfshape.evaluation import experiment
from tfshape.evaluation.experiment import Experiment

_LAZY = {
    "Column": "columns",
    "DefenseRecord": "records",
    "Results": "results",
    "VictimRecord": "records",
    "accounting": "",
    "columns": "",
    "frontier": "",
    "plan": "run",
    "results": "",
    "run": "",
    "statistics": "",
    "victims": "",
    "watching": "",
}  # they load TensorFlow or pandas, which flags are checked without

__all__ = ["Experiment", "experiment", *_LAZY]  # noqa: PLE0604 (they are strings)

if TYPE_CHECKING:
    from tfshape.evaluation import accounting as accounting
    from tfshape.evaluation import columns as columns
    from tfshape.evaluation import frontier as frontier
    from tfshape.evaluation import results as results
    from tfshape.evaluation import run as run
    from tfshape.evaluation import statistics as statistics
    from tfshape.evaluation import victims as victims
    from tfshape.evaluation import watching as watching
    from tfshape.evaluation.columns import Column as Column
    from tfshape.evaluation.records import DefenseRecord as DefenseRecord
    from tfshape.evaluation.records import VictimRecord as VictimRecord
    from tfshape.evaluation.results import Results as Results
    from tfshape.evaluation.run import plan as plan
else:
    __getattr__ = lazy.getter(__name__, _LAZY)
