"""Shared work, done once: files named by a hash of everything that they depend on."""

from __future__ import annotations

import pathlib

from tfshape import checks, files, folders, strict_json


def digest(value: object) -> str:
    """64 hex digits of a JSON value: SHA-256 of its canonical spelling (sorted keys, no spaces)."""
    return strict_json.checksum(value)


class Cache:
    """A folder of finished work, shared by all processes that see it; None: nothing is kept."""

    def __init__(self, folder):
        self.folder = None if folder is None else pathlib.Path(folder)

    def path(self, kind, key):
        """Where work of this kind lies, None for nowhere; `key` is a JSON value of everything that it depends on.
        Raises ValueError for a link."""
        if self.folder is None:
            return None
        return folders.inside(self.folder.parent, self.folder.name, kind, digest(key))

    def get(self, kind, key, make, save, load):
        """What `make()` gives, made by one process only.

        Args:
            kind, key: see `path`.
            make: function that does the work.
            save: function `(path, value)` that writes it whole or not at all.
            load: function of the path that reads it; ValueError for a damaged file, which is then made anew.

        Returns:
            (value, whether it was made here and now).
        """
        path = self.path(kind, key)
        if path is None:
            return make(), True
        found = _read(path, load)
        if found is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with folders.lock(path.with_suffix(".lock"), remove=True):  # who waits on it finds the file finished
                found = _read(path, load)
                if found is None:
                    value = make()
                    save(path, value)
                    return value, True
        return found[0], False


def read_arrays(path):
    """Dict of the arrays of an .npz file, in the order of their names. Raises ValueError for a damaged one."""
    try:
        with files.open_regular(path) as file:
            return files.read_arrays(file, sorted)
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and NumPy raise a dozen kinds on damaged bytes
        raise ValueError(f"{checks.shown(str(path))} is damaged: {files.reason(error)}") from None


def _read(path, load):
    try:
        return (load(path),)
    except (FileNotFoundError, ValueError):
        return None
