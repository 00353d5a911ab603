"""Reading an .npz of plain arrays that somebody else wrote: nothing is unpickled, nothing allocated on its word.

The file is an ordinary uncompressed .npz whose zip comment is the SHA-256 (64 hex digits) of all bytes before it.
"""

import contextlib
import hashlib
import os
import secrets
import zipfile

import numpy as np

from tfshape import files

_KINDS = "biuf"  # bool, int, uint, float: no objects, strings, dates or records
_DIGITS = 64


def write(path, arrays):
    """Writes `arrays` (a dict of plain NumPy arrays) whole or not at all: to a temporary file that is then renamed."""
    path = os.fspath(path)
    for name, array in arrays.items():
        if array.dtype.kind not in _KINDS:
            raise ValueError(f"array {name!r} must be of bool, integers or floats, got {array.dtype}")
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "x+b") as file:
            np.savez(file, **arrays)
            with zipfile.ZipFile(file, "a") as archive:
                archive.comment = b"0" * _DIGITS
            digest = _digest(file)
            file.seek(-_DIGITS, os.SEEK_END)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _digest(file):
    """Of all but the file's last bytes, where it stands."""
    left = file.seek(0, os.SEEK_END) - _DIGITS
    digest = hashlib.sha256()
    file.seek(0)
    while left > 0:
        block = file.read(min(left, 1 << 20))
        left -= len(block)
        digest.update(block)
    return digest.hexdigest().encode()


def read(path, names, plain):
    """Returns the arrays of the .npz at `path`: exactly `names`, and then the file must have its checksum; or what
    another program saved: all names of `plain` that are True there, perhaps others of it, and nothing else.

    Members must be stored uncompressed, so that the memory used is bounded by the file's own size, and that by
    `files.limit`.

    Raises:
      ValueError: the file is anything else. OSError: it cannot be opened.
    """
    with files.open_regular(path) as file:
        try:
            digest = _digest(file)
            sealed = file.read() == digest
            arrays = files.read_arrays(file, lambda found: _pick(found, names, plain), plain=True)
            if not sealed and not arrays.keys() <= plain.keys():
                raise ValueError("its checksum does not match: it is damaged, or was not written by Poisons.save")
            return arrays
        except Exception as error:  # zipfile and NumPy raise a dozen kinds on hostile bytes
            raise ValueError(f"{os.fspath(path)!r} is not a readable poisons file: {files.reason(error)}") from None


def _pick(found, names, plain):
    needed = {f"{name}.npy" for name, required in plain.items() if required}
    known = len(set(found)) == len(found) and needed <= set(found) <= {f"{name}.npy" for name in plain}
    if not known and found != sorted(f"{name}.npy" for name in names):
        raise ValueError(
            f"it holds {files.reason(found)}, expected the arrays {sorted(names)}, or some: {sorted(plain)}"
        )
    return found
