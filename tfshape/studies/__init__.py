"""Studies: grids of trials that survive a crash, on one machine or on a Ray cluster.

    grid = studies.points(ts.Experiment(), studies.parse(["noise=0,0.1,1", "clip=1,4"]))
    study = studies.experiments("folder", grid)
    studies.run(study, studies.Local(workers=2))

A study is a folder: study.sqlite has a row a trial, cache/ what trials share, the rest is made from these.
"""

from typing import TYPE_CHECKING

from tfshape import lazy

_LAZY = {
    "Failed": "single",
    "InProcess": "local",
    "Local": "local",
    "OnRay": "on_ray",
    "Point": "study",
    "Store": "store",
    "Study": "study",
    "cache": "",
    "check": "study",
    "commands": "",
    "craft": "crafting",
    "evaluate": "single",
    "exists": "store",
    "experiments": "study",
    "export": "files",
    "known": "store",
    "parse": "grid",
    "pictures": "",
    "points": "grid",
    "run": "driver",
    "status": "state",
    "study": "",
    "trial": "",
}

__all__ = [*_LAZY]  # noqa: PLE0604 (they are strings)

if TYPE_CHECKING:
    from tfshape.studies import cache as cache
    from tfshape.studies import commands as commands
    from tfshape.studies import pictures as pictures
    from tfshape.studies import study as study
    from tfshape.studies import trial as trial
    from tfshape.studies.crafting import craft as craft
    from tfshape.studies.driver import run as run
    from tfshape.studies.files import export as export
    from tfshape.studies.grid import parse as parse
    from tfshape.studies.grid import points as points
    from tfshape.studies.local import InProcess as InProcess
    from tfshape.studies.local import Local as Local
    from tfshape.studies.on_ray import OnRay as OnRay
    from tfshape.studies.single import Failed as Failed
    from tfshape.studies.single import evaluate as evaluate
    from tfshape.studies.state import status as status
    from tfshape.studies.store import Store as Store
    from tfshape.studies.store import exists as exists
    from tfshape.studies.store import known as known
    from tfshape.studies.study import Point as Point
    from tfshape.studies.study import Study as Study
    from tfshape.studies.study import check as check
    from tfshape.studies.study import experiments as experiments
else:
    __getattr__ = lazy.getter(__name__, _LAZY)
