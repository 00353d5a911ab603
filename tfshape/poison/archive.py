"""Reading an .npz of plain arrays that somebody else wrote: nothing is unpickled, nothing allocated on its word."""

import io
import math
import os
import tempfile
import zipfile

import numpy as np

_KINDS = "biuf"  # bool, int, uint, float: no objects, strings, dates or records


def write(path, arrays):
    """Writes `arrays` (a dict of plain NumPy arrays) as an uncompressed .npz, whole or not at all."""
    path = os.fspath(path)
    for name, array in arrays.items():
        if array.dtype.kind not in _KINDS:
            raise ValueError(f"array {name!r} has dtype {array.dtype}, expected bool, integer or float")
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(path, names):
    """Returns the arrays of the .npz at `path`, which must hold exactly `names`.

    Members must be stored uncompressed and not overlap, so that the file's own size bounds the memory used; the shape
    and dtype that a member declares must account for its bytes exactly before any array is made.

    Raises:
      ValueError: the file is anything else. OSError: it cannot be opened.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            found = sorted(member.filename for member in members)
            if found != sorted(f"{name}.npy" for name in names):
                raise ValueError(f"it holds {_shorten(found)}, expected exactly {sorted(names)}")
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                    raise ValueError(f"member {member.filename!r} is compressed, expected plain storage")
                if member.flag_bits & 1:
                    raise ValueError(f"member {member.filename!r} is encrypted")
            size = os.fstat(file.fileno()).st_size
            if sum(member.file_size for member in members) > size:
                raise ValueError("its members declare more bytes than the file has")
            return {member.filename[: -len(".npy")]: _array(archive, member) for member in members}
    except OSError:
        raise
    except Exception as error:  # zipfile and NumPy raise a dozen kinds on hostile bytes
        raise ValueError(f"{os.fspath(path)!r} is not a readable poisons file: {_shorten(error)}") from None


def _array(archive, member):
    data = archive.read(member)
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"member {member.filename!r} has .npy version {version}, expected (1, 0) or (2, 0)")
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if dtype.kind not in _KINDS or dtype.names or dtype.subdtype or fortran:
        raise ValueError(f"member {member.filename!r} is not a plain row-major array: dtype {_shorten(dtype)}")
    if min(shape, default=0) < 0 or len(shape) > 32:
        raise ValueError(f"member {member.filename!r} declares shape {_shorten(shape)}")
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(
            f"member {member.filename!r} declares shape {_shorten(shape)} of {dtype}, "
            f"which is not the {len(data) - stream.tell()} bytes it has"
        )
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape).astype(dtype.newbyteorder("="))


def _shorten(value):
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:197] + "..."
