"""Reading an .npz of plain arrays that somebody else wrote: nothing is unpickled, nothing allocated on its word.

The file is an ordinary uncompressed .npz whose zip comment is the SHA-256 (64 hex digits) of all bytes before it.
"""

import contextlib
import hashlib
import io
import math
import os
import secrets
import zipfile

import numpy as np

_KINDS = "biuf"  # bool, int, uint, float: no objects, strings, dates or records
_DIGITS = 64


def write(path, arrays):
    """Writes `arrays` (a dict of plain NumPy arrays) whole or not at all: to a temporary file that is then renamed."""
    path = os.fspath(path)
    for name, array in arrays.items():
        if array.dtype.kind not in _KINDS:
            raise ValueError(f"array {name!r} has dtype {array.dtype}, expected bool, integer or float")
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

    Members must be stored uncompressed and not overlap, so that the file's own size bounds the memory used; the shape
    and dtype that a member declares must account for its bytes exactly before any array is made.

    Raises:
      ValueError: the file is anything else. OSError: it cannot be opened.
    """
    path = os.fspath(path)  # not a number, which would be an open file of the process
    with open(path, "rb") as file:
        try:
            digest = _digest(file)
            sealed = file.read() == digest
            arrays = _members(file, names, plain)
            if not sealed and not arrays.keys() <= plain.keys():
                raise ValueError("its checksum does not match: it is damaged, or was not written by Poisons.save")
            return arrays
        except Exception as error:  # zipfile and NumPy raise a dozen kinds on hostile bytes
            reason = shorten(error) or type(error).__name__
            raise ValueError(f"{path!r} is not a readable poisons file: {reason}") from None


def _members(file, names, plain):
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        found = sorted(member.filename for member in members)
        needed = {f"{name}.npy" for name, required in plain.items() if required}
        known = len(set(found)) == len(found) and needed <= set(found) <= {f"{name}.npy" for name in plain}
        if not known and found != sorted(f"{name}.npy" for name in names):
            raise ValueError(
                f"it holds {shorten(found)}, expected the arrays {sorted(names)}, or some: {sorted(plain)}"
            )
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(f"member {member.filename!r} is compressed, expected plain storage")
        if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
            raise ValueError("its members declare more bytes than the file has")
        return {member.filename[: -len(".npy")]: _array(archive, member) for member in members}


def _array(archive, member):
    data = archive.read(member)
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"member {member.filename!r} has .npy version {version}, expected (1, 0) or (2, 0)")
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if dtype.kind not in _KINDS or dtype.names or dtype.subdtype or fortran:
        raise ValueError(f"member {member.filename!r} is not a plain row-major array: dtype {shorten(dtype)}")
    if min(shape, default=0) < 0 or len(shape) > 32:
        raise ValueError(f"member {member.filename!r} declares shape {shorten(shape)}")
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(
            f"member {member.filename!r} declares shape {shorten(shape)} of {dtype}, "
            f"which is not the {len(data) - stream.tell()} bytes it has"
        )
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape).astype(dtype.newbyteorder("="))


def shorten(value):
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:197] + "..."
