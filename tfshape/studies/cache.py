"""Shared work, done once: files named by a hash of everything that they depend on."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import zipfile

import numpy as np


def digest(value: object) -> str:
    """64 hex digits of a JSON value: SHA-256 of its canonical spelling (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextlib.contextmanager
def lock(path, wait=True, words=""):
    """Holds an exclusive lock on a file, which the system frees whatever becomes of this process.

    Args:
        path: the file, made if need be and left behind.
        wait: whether to wait for a process that holds it; if not, BlockingIOError.
        words: written into the file by the one who got it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if words:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, words.encode(), 0)
        yield
    finally:
        os.close(descriptor)


class Cache:
    """A folder of finished work, shared by all processes that see it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def path(self, kind, key):
        """Where work of this kind lies; `key` is a JSON value of everything that it depends on."""
        return self.folder / kind / digest(key)

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
        found = _read(path, load)
        if found is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting = path.with_suffix(".lock")
            with lock(waiting):
                found = _read(path, load)
                if found is None:
                    value = make()
                    save(path, value)
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(waiting)  # who waits on it still finds the file finished
                    return value, True
        return found[0], False


def read_arrays(path):
    """Dict of the arrays of an .npz file, in the order of their names. Raises ValueError for a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in sorted(file.files)}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from None


def _read(path, load):
    try:
        return (load(path),)
    except (FileNotFoundError, ValueError):
        return None
