"""Tables, plots and pages made from saved results (reads result files only)."""

import importlib
from typing import TYPE_CHECKING

from tfshape.reporting.figure import draw

__all__ = ["Material", "draw", "read", "write"]

_LAZY = {"Material": "material", "read": "material", "write": "files"}

if TYPE_CHECKING:
    from tfshape.reporting.files import write
    from tfshape.reporting.material import Material, read
else:

    def __getattr__(name):
        if name in _LAZY:
            return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
