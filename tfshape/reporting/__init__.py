"""Tables, plots and pages made from saved results (reads result files only)."""

from typing import TYPE_CHECKING

from tfshape import lazy
from tfshape.reporting.figure import draw

__all__ = ["Material", "draw", "read", "write"]

_LAZY = {"Material": "material", "read": "material", "write": "files"}

if TYPE_CHECKING:
    from tfshape.reporting.files import write
    from tfshape.reporting.material import Material, read
else:
    __getattr__ = lazy.getter(__name__, _LAZY)
