"""Studies: grids of trials that survive a crash, on one machine or on a Ray cluster, and published tables.

    grid = studies.points(ts.Experiment(), studies.parse(["noise=0,0.1,1", "clip=1,4"]))
    study = studies.experiments("folder", grid)
    studies.run(study, studies.Local(workers=2))

A study is a folder: study.sqlite has a row a trial, cache/ what trials share, the rest is made from these.
"""

import importlib

_LAZY = {
    "Local": "local",
    "OnRay": "on_ray",
    "Point": "study",
    "Store": "store",
    "Study": "study",
    "check": "study",
    "exists": "store",
    "experiments": "study",
    "export": "files",
    "known": "store",
    "parse": "grid",
    "points": "grid",
    "run": "driver",
    "status": "state",
}

__all__ = [*_LAZY]  # noqa: PLE0604 (they are strings)


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
