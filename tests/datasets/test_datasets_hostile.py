"""Files of a stranger: bombs, lies, pipes and damage end in one line, in bounded memory, and nothing is executed."""

import gzip
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import zipfile

import numpy as np
import pytest

import tfshape as ts
from tfshape import files
from tfshape.poison import Poisons

ROOT = pathlib.Path(ts.__file__).parents[1]
HUGE = 1 << 33


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def pack(members, compression=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


def good(**changes):
    arrays = {"x_train": np.tile(np.arange(4, dtype=np.uint8), (20, 3, 1)), "y_train": np.arange(20) % 2}
    return {**{name: npy(array) for name, array in arrays.items()}, **changes}


def lying(declared, size):
    """An npz whose directory says that x_train takes `size` bytes, and whose array that it has shape `declared`."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {declared}}}".encode()
    data = bytearray(pack(good(x_train=b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(99))))
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    return bytes(data)


def encrypted():
    data = bytearray(pack(good()))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def crowded():
    """A zip of 30,000 members with two bytes each."""
    return pack({**good(), **{f"{number}": b"ab" for number in range(30_000)}}, zipfile.ZIP_STORED)


def flipped():
    data = bytearray(pack(good(x_train=npy(np.random.default_rng(0).random((20, 50, 50))))))
    data[2000:2100] = bytes(100)
    return bytes(data)


NPZ = {
    "more than the bound": (pack(good(x_train=npy(np.zeros((20, 1000, 1000), np.uint8)))), files.VARIABLE),
    "more than compression can give": (lying((20, 10_000, 10_000), 2_000_000_000), "more than it can hold"),
    "another shape than its bytes": (lying((20, 10, 10), 1000), "declares shape"),
    "encrypted": (encrypted(), "encrypted"),
    "another compression": (pack(good(), zipfile.ZIP_LZMA), "plain storage or DEFLATE"),
    "a header of megabytes": (pack(good(x_train=b"\x93NUMPY\x02\x00" + b"\0\0\x90\0" + b" " * (9 << 20))), "header of"),
    "many members": (crowded(), "too many members"),
    "damaged data": (flipped(), ""),
    "Python objects": (pack(good(y_train=npy(np.array([{}] * 20, object)))), "not a plain array of numbers"),
    "text": (pack(good(y_train=npy(np.array(["cat"] * 20)))), "not a plain array of numbers"),
    "no header": (pack(good(x_train=b"")), ""),
    "two of a name": (None, "two members of one name"),
}


@pytest.mark.parametrize("kind", NPZ)
def test_npz(kind, tmp_path, monkeypatch):
    monkeypatch.setenv(files.VARIABLE, str(16 << 20))
    path, (content, words) = tmp_path / "odd.npz", NPZ[kind]
    if content is None:
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
            for name, data in [*good().items(), *good().items()]:
                archive.writestr(f"{name}.npy", data)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.npz must be a readable npz file without Python objects: ") as error:
        ts.datasets.load(f"npz:{path}")
    assert words in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600


def test_npz_that_is_merely_unusual(tmp_path):
    """Column-major, big-endian, and with arrays that are not numbers beside those that are read."""
    x = np.asfortranarray(np.random.default_rng(0).random((20, 4, 3)))
    np.savez(tmp_path / "odd.npz", x_train=x, y_train=(np.arange(20) % 2).astype(">i2"), names=np.array(["a"]))
    found = ts.datasets.load(f"npz:{tmp_path}/odd.npz").train
    rows = {row.tobytes(): int(label) for row, label in zip(x.astype(np.float32), np.arange(20) % 2)}
    assert [rows[row.tobytes()] for row in found.x] == found.y.tolist()


def write_idx(folder, content):
    (folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (folder / name).write_bytes(b"\0\0\x08\x01\0\0\0\x02ab")


def idx_header(*shape):
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()


def broken_deflate():
    data = bytearray(gzip.compress(np.random.default_rng(0).bytes(5000)))
    data[10:20] = b"\xff" * 10
    return bytes(data)


IDX = {
    "declares more than the bound": (gzip.compress(idx_header(60_000, 2**31, 28)), files.VARIABLE),
    "declares more than it has": (gzip.compress(idx_header(1000, 100, 100)), "not a whole idx file"),
    "has more than it declares": (gzip.compress(idx_header(2, 3, 3) + bytes(10_000)), "not a whole idx file"),
    "255 axes, more than NumPy has": (gzip.compress(idx_header(*[1] * 255) + b"\0"), "not a whole idx file"),
    "a header alone": (gzip.compress(idx_header(2, 3, 3)[:9]), "not a whole idx file"),
    "damaged": (broken_deflate(), "not a whole gzip file"),
}


@pytest.mark.parametrize("kind", IDX)
def test_idx(kind, tmp_path, monkeypatch):
    monkeypatch.setenv(files.VARIABLE, str(64 << 20))
    content, words = IDX[kind]
    write_idx(tmp_path, content)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz") as error:
        ts.datasets.load("mnist", tmp_path)
    assert words in str(error.value) and "\n" not in str(error.value)


PICKLES = {
    "8 GiB of bytes": b"\x80\x04\x8e" + HUGE.to_bytes(8, "little") + b"....",
    "8 GiB of text": b"\x80\x04\x8d" + HUGE.to_bytes(8, "little") + b"....",
    "a frame of 8 GiB": b"\x80\x04\x95" + HUGE.to_bytes(8, "little") + b"....",
    "2 GiB of digits": b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"....",
    "opcodes without end": b"\x80\x02" + b"N" * 1_100_000,
    "a label below 0": b"\x80\x02U\x0bfine_labelsJ\xff\xff\xff\xffT\x00\x0c\x00\x00" + bytes(3072) + b".",
    "an unknown opcode": b"\x80\x02\xff",
}


@pytest.mark.parametrize("kind", PICKLES)
def test_pickles(kind, tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(PICKLES[kind])
    with pytest.raises(ValueError, match="train is not a whole file of the python version of cifar100") as error:
        ts.datasets.load("cifar100", tmp_path)
    assert "\n" not in str(error.value)


BOMBS = """
    import resource, sys
    import tfshape as ts
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
    folder = sys.argv[1]
    for load in (
        lambda: ts.datasets.load("mnist", folder),
        lambda: ts.datasets.load("cifar100", folder),
        lambda: ts.datasets.load(f"npz:{folder}/odd.npz"),
        lambda: ts.datasets.load(f"npz:{folder}/many.npz"),
    ):
        try:
            load()
        except ValueError as error:
            print("refused")
"""


def test_bombs_in_a_process_without_memory(tmp_path):
    """A gigabyte of zeros in a .gz, a pickle that asks for eight, lies of an npz, and two million members."""
    write_idx(tmp_path, gzip.compress(idx_header(60_000, 28, 28)) + gzip.compress(bytes(16 << 20)) * 64)
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(PICKLES["8 GiB of bytes"])
    (tmp_path / "odd.npz").write_bytes(lying((20, 10_000, 10_000), 2_000_000_000))
    entry = pack({"a": b""}, zipfile.ZIP_STORED)
    entry = entry[entry.index(b"PK\x01\x02") : entry.index(b"PK\x05\x06")]
    count, size = 1 << 20, len(entry) << 20
    large = b"PK\x06\x06" + (44).to_bytes(8, "little") + bytes(12)
    large += b"".join(number.to_bytes(8, "little") for number in (count, count, size, 0))
    with open(tmp_path / "many.npz", "wb") as file:
        for _ in range(1 << 8):
            file.write(entry * (1 << 12))
        file.write(large + b"PK\x06\x07" + bytes(4) + size.to_bytes(8, "little") + b"\1\0\0\0")
        file.write(b"PK\x05\x06" + b"\xff" * 16 + bytes(2))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BOMBS), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["refused"] * 4, done.stderr[-1000:]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_not_read(kind, tmp_path):
    path = tmp_path / "odd.npz"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    for load in (lambda: ts.datasets.load(f"npz:{path}"), lambda: Poisons.load(path)):
        with pytest.raises(ValueError, match="must be a regular file, got a pipe, a socket or a device"):
            load()


def test_a_file_of_proc_that_says_it_is_empty_is_bounded_too(monkeypatch):
    assert len(files.read_bytes("/proc/self/maps")) > 100
    with pytest.raises(ValueError, match="'/proc/self/maps' must hold at most 100 bytes"):
        files.read_bytes("/proc/self/maps", 100)


def test_the_bound_can_be_set(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x_train=np.random.default_rng(0).random((60, 9, 9)), y_train=np.arange(60) % 3)
    assert len(ts.datasets.load(f"npz:{tmp_path}/a.npz").train) == 48
    monkeypatch.setenv(files.VARIABLE, "10000")
    with pytest.raises(ValueError, match=f"must hold at most 10000 bytes, got .*{files.VARIABLE} sets another bound"):
        ts.datasets.load(f"npz:{tmp_path}/a.npz")
    for text in ("1 GB", "-1", "9" * 30):
        monkeypatch.setenv(files.VARIABLE, text)
        with pytest.raises(ValueError, match=f"{files.VARIABLE} must be a number of bytes, got"):
            files.limit()
    monkeypatch.delenv(files.VARIABLE)
    assert 1 << 20 < files.limit() <= files.DEFAULT


@pytest.mark.parametrize("name", ["tfds:iris", "cifar10"])
def test_nothing_is_asked_for_over_the_network_if_so_told(name, tmp_path, monkeypatch):
    """Which takes neither tensorflow-datasets nor a second."""
    from tfshape.datasets import tfds

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(tfds, "download", None)
    with pytest.raises(ValueError, match=f"dataset {name} was not found; tried .*; no download. To get it:"):
        ts.datasets.load(name, download=False)


def test_a_file_that_may_not_be_read_is_named():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        _check_that_a_file_may_not_be_read(pathlib.Path(folder))


def _check_that_a_file_may_not_be_read(tmp_path):
    write_idx(tmp_path, gzip.compress(idx_header(2, 3, 3) + bytes(18)))
    path = tmp_path / "train-images-idx3-ubyte.gz"
    user = os.geteuid()
    path.chmod(0)
    try:
        if user == 0:
            tmp_path.chmod(0o755)
            os.seteuid(65534)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz cannot be read: Permission denied"):
            ts.datasets.load("mnist", tmp_path)
    finally:
        os.seteuid(user)
