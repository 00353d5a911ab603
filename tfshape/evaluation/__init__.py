"""Experiment in, results out: an attack against undefended and shaped training on the same poison.

results = ts.evaluate(ts.Experiment(attack="gradient_matching", noise=1.0))
results.table()
"""

from typing import TYPE_CHECKING

from tfshape import lazy
from tfshape.evaluation.experiment import (
    DISTRIBUTE,
    ENGINES,
    KNOWLEDGE,
    SAMPLING,
    SCENARIOS,
    Experiment,
    require_engine,
)

_LAZY = {
    "POISONS": "results",
    "Plan": "run",
    "Results": "results",
    "VictimRecord": "records",
    "accounting": "",
    "columns": "",
    "costs": "results",
    "in_words": "results",
    "plan": "run",
    "statistics": "",
    "victims": "",
    "victims_of": "run",
    "watch": "watching",
}  # they load TensorFlow or pandas, which flags are checked without

__all__ = [  # noqa: PLE0604 (they are strings)
    "DISTRIBUTE",
    "ENGINES",
    "KNOWLEDGE",
    "SAMPLING",
    "SCENARIOS",
    "Experiment",
    "require_engine",
    *_LAZY,
]

if TYPE_CHECKING:
    from tfshape.evaluation import accounting as accounting
    from tfshape.evaluation import columns as columns
    from tfshape.evaluation import statistics as statistics
    from tfshape.evaluation import victims as victims
    from tfshape.evaluation.records import VictimRecord as VictimRecord
    from tfshape.evaluation.results import POISONS as POISONS
    from tfshape.evaluation.results import Results as Results
    from tfshape.evaluation.results import costs as costs
    from tfshape.evaluation.results import in_words as in_words
    from tfshape.evaluation.run import Plan as Plan
    from tfshape.evaluation.run import plan as plan
    from tfshape.evaluation.run import victims_of as victims_of
    from tfshape.evaluation.watching import watch as watch
else:
    __getattr__ = lazy.getter(__name__, _LAZY)
