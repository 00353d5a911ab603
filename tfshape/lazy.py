"""Names of a package that are imported when they are asked for."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def getter(package: str, homes: Mapping[str, str], moved: Mapping[str, str] | None = None) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    Args:
        package: its `__name__`.
        homes: dict of each name to the module of the package that has it, "" for a module of that name.
        moved: dict of each name that another package has now to that package; such a name still works, with a warning.
    """

    def get(name: str) -> Any:
        home = (moved or {}).get(name)
        if home is not None:
            warnings.warn(f"{package}.{name} is deprecated; write {home}.{name}", DeprecationWarning, stacklevel=2)
            return getattr(importlib.import_module(home), name)
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{homes[name] or name}")
        return getattr(module, name) if homes[name] else module

    return get
