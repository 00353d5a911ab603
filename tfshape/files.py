"""Reading files that a stranger may have made: regular files only, with a bound on the bytes before any is read."""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from tfshape import checks

VARIABLE = "TFSHAPE_MAX_FILE_BYTES"
DEFAULT = 4 << 30
CHUNK = 1 << 20
_DEFLATE = 1032  # no byte of DEFLATE stands for more bytes than these
_DIRECTORY = 1 << 20  # bytes of a zip's list of members; zipfile takes ten times as much memory for it
_HEADER = 1 << 16  # bytes of an .npy header
_KINDS = "biuf"  # bool, int, uint, float: no objects, strings, dates or records


def limit() -> int:
    """How many bytes one file may take, decompressed: 4 GiB, or a quarter of this machine's memory if that is less.

    The environment variable TFSHAPE_MAX_FILE_BYTES sets another bound.
    """
    text = os.environ.get(VARIABLE)
    if text:
        checks.require(VARIABLE, re.fullmatch("[0-9]{1,18}", text), "a number of bytes", text)
        return int(text)
    try:
        return min(DEFAULT, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
    except (AttributeError, OSError, ValueError):  # a system that does not tell
        return DEFAULT


def reason(error: Any) -> str:
    """The first line of what an exception or value says, without control characters, at most `checks.LONGEST` long."""
    lines = str(error).strip().splitlines()
    text = " ".join(checks.escaped(lines[0]).split()) if lines else type(error).__name__
    return text if len(text) <= checks.LONGEST else f"{text[: checks.LONGEST]}…"


def check_size(path: Any, size: int, most: int | None = None) -> None:
    """Raises ValueError if `size` bytes, found or declared, are more than `most`; None: `limit()`."""
    most = limit() if most is None else most
    if size > most:
        raise ValueError(
            f"{checks.shown(os.fspath(path))} must hold at most {most} bytes, got {size}; {VARIABLE} sets another bound"
        )


@contextlib.contextmanager
def open_regular(path: Any, most: int | None = None) -> Iterator[BinaryIO]:
    """Opens a regular file of at most `most` bytes (None: `limit()`) for reading.

    Raises:
        ValueError: it is a pipe, a socket or a device, which could block or never end, or it is larger.
        OSError: it cannot be opened.
    """
    path = os.fspath(path)  # not a number, which would be an open file of the process
    _check_kind(path, os.stat(path))
    nonblocking = getattr(os, "O_NONBLOCK", 0)  # if a pipe has taken the file's place meanwhile
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | nonblocking)) as file:
        status = os.fstat(file.fileno())
        _check_kind(path, status)
        check_size(path, status.st_size, most)
        yield file


def _check_kind(path, status):
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # a folder has an OSError of its own
        raise ValueError(f"{checks.shown(path)} must be a regular file, got a pipe, a socket or a device")


@contextlib.contextmanager
def open_gzip(path: Any, most: int | None = None) -> Iterator[Any]:
    """As `open_regular`, and what is read from the result is decompressed. A damaged file is a ValueError."""
    with open_regular(path, most) as file, gzip.GzipFile(fileobj=file) as stream:
        try:
            yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is not a whole gzip file: {reason(error)}") from None


def read_up_to(stream: Any, size: int) -> bytes:
    """The next `size` bytes of a stream, or those that are left: no more memory than there are bytes."""
    parts, left = [], size
    while left > 0:
        part = stream.read(min(left, CHUNK))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def read_bytes(path: Any, most: int | None = None) -> bytes:
    """The bytes of a file, as `open_regular` opens it."""
    most = limit() if most is None else most
    with open_regular(path, most) as file:
        data = read_up_to(file, most + 1)
    check_size(path, len(data), most)  # a file of /proc says that it has none
    return data


def read_arrays(
    file: BinaryIO, pick: Callable[[list[str]], Iterable[str]], plain: bool = False, most: int | None = None
) -> dict[str, np.ndarray]:
    """Arrays of an open .npz; nothing is unpickled, and nothing allocated on the file's word alone.

    Members do not overlap, none is encrypted, and none declares more bytes than its compressed ones can give; shape
    and dtype of an array account for its bytes exactly before it is made.

    Args:
        file: an open regular file.
        pick: gets the sorted names of the members (array x is x.npy) and returns those to read; may raise ValueError.
        plain: refuse compressed and column-major arrays, which `np.savez` does not make of ordinary ones.
        most: how many bytes all arrays that are read may take; None: `limit()`.

    Returns:
        Dict of bool, integer and float arrays by name.

    Raises:
        ValueError, zipfile.BadZipFile and others: the file is anything else. Wrap them: they do not name the file.
    """
    most, available = limit() if most is None else most, os.fstat(file.fileno()).st_size
    if _directory_bytes(file) > _DIRECTORY:
        raise ValueError("it has too many members")
    with zipfile.ZipFile(file) as archive:
        listed = archive.infolist()
        if sum(member.compress_size for member in listed) > available:
            raise ValueError("its members declare more bytes than the file has")
        members = {member.filename: member for member in listed}
        chosen = [members[name] for name in pick(sorted(member.filename for member in listed))]
        if len(members) < len(listed):
            raise ValueError("it holds two members of one name")
        for member in chosen:
            _check_member(reason(member.filename), member, plain)
        total = sum(member.file_size for member in chosen)
        if total > most:
            raise ValueError(f"its arrays take {total} bytes, at most {most} are read; {VARIABLE} sets another bound")
        return {
            re.sub(r"\.npy$", "", member.filename): _array(reason(member.filename), archive, member, plain)
            for member in chosen
        }


def _directory_bytes(file):
    """How large the list of members is at most, whichever of the records at a zip's end is the one that counts."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - (1 << 16) - 22 - 76))  # the longest comment, the record, and that of large files
    tail, size = file.read(), 0
    for found in re.finditer(b"PK\5\6", tail):
        at = found.start()
        if at + 16 <= len(tail):
            size = max(size, struct.unpack_from("<I", tail, at + 12)[0])
        if at >= 76 and tail[at - 20 : at - 16] == b"PK\6\7":
            size = max(size, struct.unpack_from("<Q", tail, at - 76 + 40)[0])
    return size


def _check_member(name, member, plain):
    allowed = (zipfile.ZIP_STORED,) if plain else (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if member.flag_bits & 1:
        raise ValueError(f"member {name!r} is encrypted")
    if member.compress_type not in allowed:
        kind = "plain storage" if plain else "plain storage or DEFLATE"
        raise ValueError(f"member {name!r} is compressed, expected {kind}")
    stored = member.compress_type == zipfile.ZIP_STORED
    possible = member.compress_size if stored else member.compress_size * _DEFLATE
    if member.file_size > possible:
        raise ValueError(f"member {name!r} declares {member.file_size} bytes, more than it can hold")


def _array(name, archive, member, plain):
    with archive.open(member) as stream:
        start = read_up_to(stream, 12)
        version = np.lib.format.read_magic(io.BytesIO(start))
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"member {name!r} has .npy version {version}, expected (1, 0) or (2, 0)")
        first = version == (1, 0)
        length = 10 + int.from_bytes(start[8:10], "little") if first else 12 + int.from_bytes(start[8:12], "little")
        if length > _HEADER:
            raise ValueError(f"member {name!r} has a header of {length} bytes")
        header = io.BytesIO(start + read_up_to(stream, length - len(start)))
        header.seek(8)
        reader = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(header)
        if dtype.kind not in _KINDS or dtype.names or dtype.subdtype or (plain and fortran):
            raise ValueError(f"member {name!r} is not a plain array of numbers: dtype {reason(dtype)}")
        if min(shape, default=0) < 0 or len(shape) > 32:
            raise ValueError(f"member {name!r} declares shape {reason(shape)}")
        if math.prod(shape) * dtype.itemsize != member.file_size - length:
            raise ValueError(
                f"member {name!r} declares shape {reason(shape)} of {dtype}, "
                f"which is not the {member.file_size - length} bytes it has"
            )
        data = bytearray(member.file_size - length)
        view, filled = memoryview(data), 0
        while filled < len(data):
            part = stream.read(min(len(data) - filled, CHUNK))
            if not part:
                raise ValueError(f"member {name!r} ends after {filled} of {len(data)} bytes")
            view[filled : filled + len(part)] = part
            filled += len(part)
        stream.read(1)  # so that the end is seen and the checksum compared
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)
