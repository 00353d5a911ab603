"""Names to what stands behind them: tfshape's own, what was registered in this process, what installed packages bring.

A package brings attacks, defenses, shapers, models, datasets or layer rules by entry points of its own, in setup.py:

    entry_points={"tfshape.attacks": ["my_attack = my_package.my_attack:MyAttack"]}

The groups are tfshape.attacks, tfshape.defenses, tfshape.shapers, tfshape.models, tfshape.datasets and tfshape.rules.
Nothing is imported before its name is asked for: flags are checked without TensorFlow. This module knows no room: each
room holds a `Registry`, whose methods are its `names`, `get` and `register`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from tfshape import checks

Item = TypeVar("Item")
FUNCTION = ("__name__", "__call__")  # what a function has that is registered under its name


class Registry:
    """Classes or functions by name.

    Args:
        kind: the word for messages, such as "attack"; the group of entry points is "tfshape.attacks".
        needs: attributes that an item must have; the first holds its name.
        own: dict of name to the item, or to "module:attribute", which is imported when it is asked for.
    """

    def __init__(self, kind: str, needs: tuple[str, ...] = FUNCTION, own: Mapping[str, Any] | None = None) -> None:
        self.kind, self._needs, self._own = kind, needs, dict(own or {})
        self._group, self._items = f"tfshape.{kind}s", {}  # type: str, dict[str, Any]

    def names(self) -> tuple[str, ...]:
        """The names that `get` knows, as a tuple: tfshape's own, of installed packages, registered."""
        return tuple(self)

    def get(self, name: str) -> Any:
        """The class or function of that name. Raises ValueError for one that is unknown or cannot be loaded."""
        return self[checks.choice(self.kind, name, self)]

    def register(self, item: Item, name: str | None = None) -> Item:
        """Adds a class or function and returns it, so that it serves as a decorator.

        Args:
            item: what to add.
            name: of a function, the name to add it under; None: its own.

        Raises:
            ValueError: an item that lacks what this kind needs, or whose name is no identifier or is taken.
        """
        missing = [need for need in self._needs if not getattr(item, need, None)]
        if name is not None:
            missing = [need for need in missing if need != "__name__"]
        if missing:
            given = f"{checks.shown(item)} without {', '.join(missing)}"
            raise ValueError(f"{self.kind} must have {', '.join(self._needs)}, got {given}")
        name = getattr(item, self._needs[0]) if name is None else name
        checks.require(f"name of a {self.kind}", isinstance(name, str) and name.isidentifier(), "an identifier", name)
        old = self._items.get(name) or self._own.get(name)
        if old is not None and _address(old) != _address(item):
            given = f"{name!r} of {_address(item)}, which {_address(old)} has"
            raise ValueError(f"name of a {self.kind} must be one that is not taken, got {given}")
        self._items[name] = item
        return item

    def __getitem__(self, name: str) -> Any:
        if name not in self._items:
            if name in self._own:
                self._items[name] = _imported(self._own[name])
            elif name in _entry_points(self._group):
                self._load(_entry_points(self._group)[name])
        return self._items[name]

    def _load(self, point: Any) -> None:
        try:
            item = self.register(point.load())
        except Exception as error:  # whatever a foreign module raises
            raise ValueError(f"{self.kind} {point.name!r} of {point.value} cannot be loaded: {error}") from error
        called = getattr(item, self._needs[0])
        if called != point.name:
            raise ValueError(f"{self.kind} {point.name!r} of {point.value} calls itself {called!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._own, *_entry_points(self._group), *self._items]))

    def __contains__(self, name: object) -> bool:
        return name in tuple(self)


def _imported(found: Any) -> Any:
    if not isinstance(found, str):
        return found
    module, _, attribute = found.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _address(found: Any) -> str:
    return found if isinstance(found, str) else f"{found.__module__}:{getattr(found, '__qualname__', found)}"


@functools.cache
def _entry_points(group: str) -> dict[str, Any]:
    """The entry points of a group, by name."""
    found: Any = importlib.metadata.entry_points()
    points = found.select(group=group) if hasattr(found, "select") else found.get(group, ())  # Python 3.9
    return {point.name: point for point in points}
