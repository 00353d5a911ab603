"""`--import`: files and modules of the user's own that register attacks, shapers, defenses, models and datasets.

    imports.load("my_code.py")  # does in Python what --import=my_code.py does

Only what is named is imported: not what lies in the working directory, and not what a folder of results names. What was
imported is recorded with the results, and given to the workers of a study, which run the text that was read here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import pathlib
import sys
import traceback
import types
from collections.abc import Iterable
from typing import Any

from tfshape import checks

_ALLOWED = "a Python file, such as my_code.py, or a module, such as my_package.attacks"
_loaded: dict[str, Import] = {}


@dataclasses.dataclass(frozen=True)
class Import:
    """What was imported.

    Attributes:
        name: the file or module, as it was named.
        path: of a file, absolute; None for a module.
        source: text of a file; None for a module.
        sha256: of the file, or of that of the module.
    """

    name: str
    path: str | None
    source: str | None
    sha256: str


def load(name: str) -> None:
    """Runs a Python file, or imports a module, once in this process.

    Args:
        name: the path of a file that ends in .py, or the dotted name of a module that can be imported.

    Raises:
        ValueError: there is no such file or module, or it raises an error.
    """
    if not name.endswith(".py"):
        checks.require("import", all(part.isidentifier() for part in name.split(".")), _ALLOWED, name)
        _run(Import(name, None, None, ""))
        return
    path = pathlib.Path(name).expanduser().absolute()
    try:
        checks.require("import", path.is_file(), "a Python file that exists", name)
        data = path.read_bytes()
        source = importlib.util.decode_source(data)
    except (OSError, RuntimeError, SyntaxError, UnicodeDecodeError) as error:
        _fail(name, error)
    _run(Import(name, str(path), source, hashlib.sha256(data).hexdigest()))


def loaded() -> tuple[Import, ...]:
    """What was imported in this process, in its order."""
    return tuple(_loaded.values())


def restore(found: Iterable[dict[str, Any]]) -> None:
    """Imports in a worker what its driver did.

    Args:
        found: the fields of each `Import`, as dicts.

    Raises:
        ValueError: one raises an error here, or is a module of other content.
    """
    for fields in found:
        _run(Import(**fields))


def record(found: Iterable[Import] | None = None) -> list[dict[str, str]]:
    """What files of results hold of imports, None for those of this process: a list of dicts, `import` and `sha256`."""
    return [{"import": one.name, "sha256": one.sha256} for one in (loaded() if found is None else found)]


def contents(found: Iterable[Import] | None = None) -> list[list[str]]:
    """What keys of results hold of imports, None for those of this process: a list of one list of checksums, or []."""
    checksums = [one.sha256 for one in (loaded() if found is None else found)]
    return [checksums] if checksums else []


def same(recorded: Any) -> bool:
    """Whether results with such a `record`, None for none, were made with what is imported in this process."""
    return [entry.get("sha256") for entry in _entries(recorded)] == [found.sha256 for found in loaded()]


def names(recorded: Any) -> list[str]:
    """The names in a `record`, None for none, that a file of results holds."""
    return [str(entry.get("import")) for entry in _entries(recorded)]


def _entries(recorded):
    """The entries of what passes for a `record` in a file, which a stranger may have written."""
    return [entry for entry in recorded if isinstance(entry, dict)] if isinstance(recorded, list) else []


def _run(found: Import) -> None:
    key = found.path or found.name
    if key in _loaded and found.sha256 in ("", _loaded[key].sha256):
        return
    try:
        if found.path is None:
            module = importlib.import_module(found.name)
            file = getattr(module, "__file__", None)
            sha256 = hashlib.sha256(pathlib.Path(file).read_bytes() if file else b"").hexdigest()
            checks.require(f"module {found.name}", found.sha256 in ("", sha256), "the one that the driver has", file)
            found = dataclasses.replace(found, sha256=sha256)
        else:
            # the module has the path for its name, so that it cannot pass for one that others import
            sys.modules[found.path] = module = types.ModuleType(found.path)
            module.__file__ = found.path
            exec(compile(found.source or "", found.path, "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        sys.modules.pop(key, None)
        _fail(found.name, error, found.path)
    _loaded[key] = found


def _fail(name, error, path=None):
    """Raises the ValueError that says in a line what is wrong with a file or module, and where in the file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    lines += [error.lineno] if isinstance(error, SyntaxError) and error.filename == path else []
    where = f" (line {lines[-1]})" if lines and path else ""
    words = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}{where}"
    raise ValueError(f"import must be a Python file or module that loads, got {checks.shown(name)}: {words}") from error
