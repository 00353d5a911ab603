"""Classes by name: tfshape's own, those registered in this process, and those that installed packages bring along.

A package brings attacks, shapers or defenses along by entry points of its own, in setup.py:

    entry_points={"tfshape.attacks": ["my_attack = my_package.my_attack:MyAttack"]}

Nothing is imported before its name is asked for: flags are checked without TensorFlow.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import Any


class Registry(Mapping):
    """Names to classes.

    what: the word for messages, such as "attack". group: of entry points. own: dict of name to "module:Class".
    needs: attributes that a class must have; the first is its name.
    """

    def __init__(self, what: str, group: str, needs: tuple[str, ...], own: Mapping[str, str] | None = None) -> None:
        self._what, self._group, self._needs, self._own = what, group, needs, dict(own or {})
        self._classes: dict[str, Any] = {}

    def register(self, cls: Any) -> Any:
        """Adds a class under its own name and returns it, so that it serves as a decorator.

        Raises ValueError for a class without what it needs, or whose name is another's.
        """
        missing = [name for name in self._needs if not getattr(cls, name, None)]
        if missing:
            raise ValueError(f"{self._what} {cls!r} must have {', '.join(self._needs)}; it has no {', '.join(missing)}")
        name = getattr(cls, self._needs[0])
        old = self._classes.get(name) or self._own.get(name)
        if old is not None and _address(old) != _address(cls):
            raise ValueError(f"{self._what} {name!r} is taken by {_address(old)}; got {_address(cls)}")
        self._classes[name] = cls
        return cls

    def __getitem__(self, name: str) -> Any:
        if name not in self._classes:
            if name in self._own:
                module, attribute = self._own[name].split(":")
                self._classes[name] = getattr(importlib.import_module(module), attribute)
            elif name in _entry_points(self._group):
                self._load(name)
        return self._classes[name]

    def _load(self, name: str) -> None:
        point = _entry_points(self._group)[name]
        try:
            cls = self.register(point.load())
        except Exception as error:  # whatever a foreign module raises
            raise ValueError(f"{self._what} {name!r} of {point.value} cannot be loaded: {error}") from error
        if getattr(cls, self._needs[0]) != name:
            raise ValueError(f"{self._what} {name!r} of {point.value} calls itself {getattr(cls, self._needs[0])!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._own, *self._classes, *_entry_points(self._group)]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._classes or name in self._own or name in _entry_points(self._group)


def _address(found: Any) -> str:
    return found if isinstance(found, str) else f"{found.__module__}:{found.__qualname__}"


@functools.cache
def _entry_points(group: str) -> dict[str, Any]:
    """The entry points of a group, by name."""
    found: Any = importlib.metadata.entry_points()
    points = found.select(group=group) if hasattr(found, "select") else found.get(group, ())  # Python 3.9
    return {point.name: point for point in points}
