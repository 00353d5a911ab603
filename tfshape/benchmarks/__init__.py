"""Step time and peak memory of shaped training beside plain SGD and beside other libraries' DP-SGD.

Every (variant, model, batch size) trains in a process of its own, which stays alive and is asked for one timed block
at a time, so that plain SGD and all variants take turns and what slows the machine for a while slows all of them.
`shaping.measure` runs the grid, `workers/` holds what the processes do, `report` prints and draws the rows.
"""

from typing import TYPE_CHECKING

from tfshape import lazy

__all__ = ["analysis", "attacks", "poison", "report", "shaping"]

if TYPE_CHECKING:
    from tfshape.benchmarks import analysis, attacks, poison, report, shaping
else:
    __getattr__ = lazy.getter(__name__, dict.fromkeys(__all__, ""))
