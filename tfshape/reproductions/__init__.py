"""Published tables as studies: what is missing is trained, and ours are put beside theirs.

study = reproductions.study("indiscriminate", "folder", trials=5)
report, counts = reproductions.run("indiscriminate", study, studies.Local(workers=2))
"""

from typing import TYPE_CHECKING

from tfshape import lazy

__all__ = ["TITLES", "run", "study"]

if TYPE_CHECKING:
    from tfshape.reproductions.tables import TITLES, run, study
else:
    __getattr__ = lazy.getter(__name__, dict.fromkeys(__all__, "tables"))
