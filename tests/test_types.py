"""Every public name says its types: what is in the `__all__` of a room, the methods of its classes among it.

mypy, which `bin/test` runs, checks that what they say is so.
"""

import importlib
import inspect
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "tfshape"
ROOMS = sorted(
    ".".join(["tfshape", *path.parent.relative_to(PACKAGE).parts])
    for path in PACKAGE.rglob("__init__.py")
    if "__all__" in path.read_text("utf-8")
)


def ours(thing):
    return getattr(thing, "__module__", "").startswith("tfshape")


def functions(thing):
    """The functions that a public name stands for: itself, or a class's own and inherited methods and properties."""
    if inspect.isfunction(thing):
        yield thing.__qualname__, thing
    for owner in filter(ours, inspect.getmro(thing) if inspect.isclass(thing) else ()):
        for name, found in vars(owner).items():
            found = getattr(found, "__func__", getattr(found, "fget", getattr(found, "func", found)))
            public = not name.startswith("_") or name in ("__init__", "__call__")
            written = inspect.isfunction(found) and found.__code__.co_filename != "<string>"  # not by dataclasses
            if public and written:
                yield f"{owner.__qualname__}.{name}", found


def untyped(function):
    signature = inspect.signature(inspect.unwrap(function))
    names = [name for name, one in signature.parameters.items() if one.annotation is one.empty]
    result = signature.return_annotation is signature.empty
    return [name for name in names if name not in ("self", "cls")] + ["its result"] * result


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_typed(room):
    module = importlib.import_module(room)
    things = [thing for thing in (getattr(module, name) for name in module.__all__) if ours(thing)]
    found = {f"{name}: {', '.join(untyped(f))}" for thing in things for name, f in functions(thing) if untyped(f)}
    assert not found
