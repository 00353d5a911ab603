"""Folders of results: no link inside one is followed, and two runs do not write to one at the same time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import stat
import time
from collections.abc import Iterator
from typing import Any

from tfshape import checks, strict_json


def inside(folder: str | os.PathLike, *names: str | os.PathLike) -> pathlib.Path:
    """The path of a file or folder in a folder of results, which a stranger may have made.

    Args:
        folder: the folder of results; may itself be a symbolic link.
        names: what follows it; need not exist.

    Returns:
        `folder / names`.

    Raises:
        ValueError: the names lead out of the folder, one of them is a symbolic link, or the file is neither a regular
            file nor a folder (reading a fifo would never end).
    """
    path = pathlib.Path(folder)
    for name in pathlib.PurePath(*names).parts:
        if name == os.pardir or os.path.isabs(name):
            raise ValueError(f"{checks.escaped(str(pathlib.PurePath(*names)))} leads out of {path}; use another folder")
        path /= name
        try:
            mode = os.lstat(path).st_mode
        except OSError:  # what does not exist is no link
            continue
        shown = checks.escaped(str(path))
        if stat.S_ISLNK(mode):
            raise ValueError(f"{shown} is a symbolic link, and none is followed inside a folder of results; remove it")
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ValueError(f"{shown} is neither a file nor a folder; remove it")
    return path


def append(path: str | os.PathLike, text: str) -> None:
    """Adds text at the end of a file: it is on the disk when this returns, and not in the file if this raises."""
    data = text.encode("utf-8")
    descriptor = opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, size)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lock(path: str | os.PathLike, wait: bool = True, remove: bool = False) -> Iterator[None]:
    """Holds an exclusive lock on a file, which the system frees whatever becomes of this process.

    Args:
        path: the file; made if need be. It then says who holds the lock, see `holder`.
        wait: whether to wait for a process that holds it; if not, BlockingIOError.
        remove: whether the file is deleted at the end.
    """
    descriptor = _acquire(path, wait)
    about = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, strict_json.dumps(about).encode(), 0)
        yield
    finally:
        if remove:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        os.close(descriptor)


@contextlib.contextmanager
def alone(path: str | os.PathLike, name: str, value: Any) -> Iterator[None]:
    """Holds the lock at `path` for a run that writes to `value`, the value of its argument `name`.

    Raises:
        ValueError: another run does so now.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(path, wait=False, remove=True))
        except BlockingIOError:
            run = holder(path) or {}
            words = f" (pid {run['pid']} on {run['host']})" if run else ""
            raise ValueError(f"{name}={checks.shown(str(value))} is in use by another run{words}") from None
        yield


def holder(path: str | os.PathLike) -> dict[str, Any] | None:
    """Who holds the lock at `path`: pid, host and started (a `time.time()`), {} before it says so; None: nobody does.

    Writes nothing.
    """
    try:
        descriptor = opened(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        try:
            found = strict_json.loads(os.pread(descriptor, 4096, 0))
            return {"pid": int(found["pid"]), "host": str(found["host"]), "started": float(found["started"])}
        except (ValueError, TypeError, KeyError, OverflowError):
            return {}
    finally:
        os.close(descriptor)


def _acquire(path, wait):
    while True:
        descriptor = opened(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # of a file that its last holder has deleted meanwhile


def opened(path: str | os.PathLike, flags: int) -> int:
    """The descriptor of a file that is no link, as `os.open` gives it. Raises ValueError for a link."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            inside(os.path.dirname(path) or ".", os.path.basename(path))  # says it in words
        raise
