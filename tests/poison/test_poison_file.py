"""The Poisons file: what goes in comes out, and whatever else is read gives one ValueError and does nothing."""

import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfshape.poison import Poisons

ARRAYS = ("x", "y", "base", "target_x", "target_y", "intended_y")


def example(dtype=np.float32, k=5, t=2, shape=(4, 3, 1), **kw):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (k + t, *shape), np.uint8)
    x = x if dtype == np.uint8 else (x / 255).astype(np.float32)
    fields = {
        "x": x[:k],
        "y": rng.integers(0, 10, k),
        "base": rng.permutation(100)[:k],
        "num_examples": 100,
        "target_x": x[k:],
        "target_y": rng.integers(0, 10, t),
        "intended_y": rng.integers(0, 10, t),
        "attack": "feature_collision",
        "config": {"eps": 0.1, "steps": 3, "nested": {"list": [1, None, True, "é"]}},
        "seed": 7,
    }
    return Poisons(**{**fields, **kw})


def equal(a, b):
    arrays = all(
        getattr(a, n).dtype == getattr(b, n).dtype and np.array_equal(getattr(a, n), getattr(b, n)) for n in ARRAYS
    )
    return arrays and all(
        getattr(a, n) == getattr(b, n) for n in ("attack", "config", "seed", "num_examples", "schema")
    )


def seal(content):
    """Gives changed bytes a right checksum, as somebody with a bad intention would."""
    return content[:-64] + hashlib.sha256(content[:-64]).hexdigest().encode()


def pack(members, compress=zipfile.ZIP_STORED):
    """A sealed zip of {name: bytes}."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compress) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.comment = b"0" * 64
    return seal(stream.getvalue())


def npy(array, **kw):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **kw)
    return stream.getvalue()


def header(text, version=b"\x01\x00", data=b""):
    """An .npy member with this header, whatever it says."""
    text = text.encode("latin1")
    size = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + text + data


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("poisons") / "good.npz"
    example().save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def members(good):
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refused(path, content):
    """Loading must raise one ValueError of one line that names the file, and nothing else."""
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        Poisons.load(path)
    message = str(caught.value)
    assert type(caught.value) is ValueError and "\n" not in message and len(message) < 600
    assert str(path) in message and "poisons file: " in message and message.split("poisons file: ")[1]
    return message


@settings(max_examples=30)
@given(
    dtype=st.sampled_from([np.float32, np.uint8]),
    k=st.integers(0, 4),
    t=st.integers(0, 3),
    shape=st.sampled_from([(3,), (2, 3), (2, 2, 3)]),
    seed=st.integers(-(2**80), 2**80),
    attack=st.text(max_size=5),
    config=st.dictionaries(
        st.text(max_size=3),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=3,
    ),
)
def test_what_is_saved_is_loaded(tmp_path_factory, dtype, k, t, shape, seed, attack, config):
    path = tmp_path_factory.mktemp("file") / "p.npz"
    poisons = example(dtype, k, t, shape, seed=seed, attack=attack, config=config)
    poisons.save(path)
    loaded = Poisons.load(path)
    assert equal(loaded, poisons) and len(loaded) == k and not loaded.x.flags.writeable
    assert os.listdir(path.parent) == ["p.npz"]
    again = path.parent / "again.npz"
    loaded.save(str(again))
    assert again.read_bytes() == path.read_bytes()


def test_any_numpy_reads_the_file(good, tmp_path):
    path = tmp_path / "p.npz"
    path.write_bytes(good)
    with np.load(path, allow_pickle=False) as file:
        assert np.array_equal(file["x"], example().x)
        meta = json.loads(file["meta"].tobytes())
    assert meta["schema"] == 1 and meta["attack"] == "feature_collision" and meta["config"]["nested"]["list"][3] == "é"
    assert hashlib.sha256(good[:-64]).hexdigest().encode() == good[-64:]


def test_targets_may_be_left_out():
    poisons = Poisons(x=np.zeros((2, 3), np.float32), y=[0, 1], base=[-1, 4], num_examples=5)
    assert poisons.target_x.shape == (0, 3) and poisons.target_y.shape == poisons.intended_y.shape == (0,)
    assert poisons.y.dtype == np.int32 and poisons.base.dtype == np.int64


def test_astype_rounds_to_the_nearest_and_back():
    bytes_ = Poisons(x=np.arange(256, dtype=np.uint8).reshape(1, -1), y=[0], base=[-1], num_examples=0)
    floats = bytes_.astype("float32")
    assert floats.x.dtype == np.float32 and floats.x[0, 255] == 1 and floats.target_x.dtype == np.float32
    assert np.array_equal(floats.astype("uint8").x, bytes_.x) and floats.astype("float32") is floats
    with pytest.raises(ValueError, match=r"x must lie within \[0, 1\] to become uint8, got 0.0 to 2.0"):
        Poisons(x=np.array([[0, 2]], np.float32), y=[0], base=[-1], num_examples=0).astype("uint8")
    with pytest.raises(ValueError, match="dtype must be one of float32, uint8, got 'int64'"):
        floats.astype("int64")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"x": np.zeros((5, 4, 3, 1))}, r"x must be float32 or uint8 .*, got float64 \[5, 4, 3, 1\]"),
        ({"x": np.zeros(5, np.float32)}, r"x must be .*, got float32 \[5\]"),
        ({"x": np.full((5, 4, 3, 1), np.nan, np.float32)}, "x must hold finite values"),
        ({"x": np.zeros((4, 4, 3, 1), np.float32)}, "y must be 4 integers, got"),
        ({"target_x": np.zeros((2, 4, 3, 1), np.uint8)}, "target_x must be float32 .*like x, got uint8"),
        (
            {"target_x": np.zeros((2, 4, 3, 2), np.float32)},
            r"target_x must be float32 .*like x, got float32 \[2, 4, 3, 2\]",
        ),
        ({"y": [0.5] * 5}, "y must be 5 integers, got float64"),
        ({"y": [-1] * 5}, r"y must lie within \[0, 2147483647\], got -1 to -1"),
        ({"y": [2**31] * 5}, "y must lie within"),
        ({"base": [100] * 5}, r"base must lie within \[-1, 99\], got 100 to 100"),
        ({"base": [-2] * 5}, r"base must .*, got -2 to -2"),
        ({"target_y": [1]}, "target_y must be 2 integers, got"),
        ({"intended_y": [1, -1]}, "intended_y must lie within"),
        ({"num_examples": -1}, "num_examples must be an integer from 0 to .*, got -1"),
        ({"num_examples": 10.0}, "num_examples must be an integer, got 10.0"),
        ({"seed": "1"}, "seed must be an integer, got '1'"),
        ({"seed": True}, "seed must be an integer, got True"),
        ({"schema": 2}, "schema must be 1, which this version knows, got 2"),
        ({"attack": None}, "attack must be a string, got None"),
        ({"config": {"a": float("nan")}}, "config must hold finite JSON values only"),
        ({"config": {"a": np.zeros(2)}}, "config must hold finite JSON values only"),
        ({"config": 3}, "config must hold finite JSON values only"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        example(**fields)


def test_a_config_too_large_to_load_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"config takes .* bytes of JSON, at most"):
        example(config={"a": "b" * (1 << 22)}).save(tmp_path / "p.npz")
    assert os.listdir(tmp_path) == []


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p.npz"
    example().save(path)
    before = path.read_bytes()

    def fill_the_disk(file, **_):
        file.write(b"half")
        raise OSError("full")

    monkeypatch.setattr(np, "savez", fill_the_disk)
    with pytest.raises(OSError, match="full"):
        example(seed=8).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["p.npz"]


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError):
        Poisons.load(tmp_path / "none.npz")
    with pytest.raises(IsADirectoryError):
        Poisons.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        example().save(tmp_path / "none" / "p.npz")


def test_damaged_files(good, tmp_path, rng):
    """Cut off, lengthened, bits flipped, blocks zeroed, moved or doubled: 260 files."""
    path = tmp_path / "bad.npz"
    for at in [0, 1, 63, 64, 65, *rng.integers(0, len(good), 75)]:
        refused(path, good[:at])
    for at in rng.integers(0, len(good), 100):
        flipped = bytearray(good)
        flipped[at] ^= 1 << int(rng.integers(8))
        refused(path, bytes(flipped))
    for at in rng.integers(0, len(good) - 40, 40):
        assert any(good[at : at + 40])
        refused(path, good[:at] + bytes(40) + good[at + 40 :])
        refused(path, good[:at] + good[at + 7 :])
    refused(path, good + b"\0")
    refused(path, good + good)


def test_damage_that_comes_with_a_right_checksum(good, tmp_path, rng):
    """The same, resealed, so that the checks behind the checksum must stand: 300 files, loaded whole or refused."""
    path, refusals = tmp_path / "bad.npz", 0
    want = example()
    for number in range(300):
        changed = bytearray(good[:-64])
        for at in rng.integers(0, len(changed), 1 + number % 3):
            changed[at] ^= 1 << int(rng.integers(8))
        if number % 5 == 0:
            del changed[rng.integers(len(changed)) :]
        path.write_bytes(seal(bytes(changed) + bytes(64)))
        try:
            loaded = Poisons.load(path)
        except ValueError:
            refused(path, path.read_bytes())
            refusals += 1
        else:  # the flip was in a date or another field of the zip that says nothing about the contents
            assert equal(loaded, want)
    assert refusals > 200


def test_foreign_files(tmp_path, members):
    path = tmp_path / "foreign.npz"
    rng = np.random.default_rng(0)
    plain, pickled = io.BytesIO(), io.BytesIO()
    np.savez(plain, x=np.zeros(3))
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    foreign = [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x80\x04.", b"GIF89a" * 50, b"{}" * 100, rng.bytes(5000)]
    for content in (*foreign, plain.getvalue(), pickled.getvalue(), pickle.dumps(example().x)):
        words = "expected the arrays" if content == plain.getvalue() else "not a zip file"
        assert words in refused(path, content)
        refused(path, seal(content + bytes(64)))
    assert "checksum does not match" in refused(path, pack(members)[:-64] + bytes(64))
    for content in (pack({}), pack({"x.npy": members["x.npy"]}), pack({**members, "more.npy": b""})):
        assert "expected the arrays" in refused(path, content)
    doubled = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(doubled, "w") as archive:
        for name, data in [*members.items(), ("x.npy", members["x.npy"])]:
            archive.writestr(name, data)
        archive.comment = b"0" * 64
    assert "expected the arrays" in refused(path, seal(doubled.getvalue()))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_what_another_program_saved_is_taken_as_it_is_described(tmp_path, dtype):
    path, ours = tmp_path / "plain.npz", example(np.uint8 if dtype == np.uint8 else np.float32)
    arrays = {
        name: np.asarray(getattr(ours, name)) for name in ("x", "y", "base", "target_x", "target_y", "intended_y")
    }
    arrays = {name: array.astype(dtype) if array.dtype == ours.x.dtype else array for name, array in arrays.items()}
    np.savez(path, **arrays)
    found = Poisons.load(path, ours.num_examples)
    assert all(np.array_equal(getattr(found, name), getattr(ours, name)) for name in arrays)
    assert found.x.dtype == ours.x.dtype and found.num_examples == ours.num_examples
    assert found.attack == "" and found.config == {}
    np.savez(path, x=arrays["x"], y=arrays["y"].astype(np.int16))
    inserted = Poisons.load(path)
    assert (inserted.base == -1).all() and len(inserted.target_x) == 0 and inserted.num_examples == 0


def test_what_another_program_saved_wrong_is_named(tmp_path):
    path, x, y = tmp_path / "plain.npz", np.zeros((3, 4, 4, 1)), np.zeros(3, int)
    for words, arrays in {
        "expected the arrays": {"x": x},
        "'labels.npy'": {"x": x, "y": y, "labels": y},
        "x must be uint8 or lie within [0, 1], got 2.0 to 2.0": {"x": x + 2, "y": y},
        "y must be 3 integers, got float64": {"x": x, "y": y + 0.5},
        "base must lie within": {"x": x, "y": y, "base": y - 2},
        "target_y must be 1 integers": {"x": x, "y": y, "target_x": x[:1]},
    }.items():
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        assert words in refused(path, stream.getvalue())
    np.savez_compressed(path, x=x, y=y)
    assert "compressed" in refused(path, path.read_bytes())


class Bomb:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_object_arrays_execute_nothing(tmp_path, members):
    path, mark = tmp_path / "p.npz", tmp_path / "executed"
    bombs = np.array([Bomb(mark)] * 5, object)
    for name in members:
        for data in (npy(bombs, allow_pickle=True), pickle.dumps(Bomb(mark)), npy(bombs, allow_pickle=True)[:-3]):
            refused(path, pack({**members, name: data}))
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark))).close()
    assert mark.exists()


HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 4000000, 3000000, 1)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4, 3, 1)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551616, 1)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-5, -4, 3, 1)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (%s)}" % ("1," * 60),
    "{'descr': '<f4', 'fortran_order': False, 'shape': 60}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (5.0, 12)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': '60'}",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (5, 4, 3, 1)}",
    "{'descr': '<f4', 'fortran_order': 2, 'shape': (5, 4, 3, 1)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (5, 2, 3, 1)}",
    "{'descr': '<c8', 'fortran_order': False, 'shape': (5, 2, 3, 1)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (30,)}",
    "{'descr': '|V4', 'fortran_order': False, 'shape': (60,)}",
    "{'descr': '<U1', 'fortran_order': False, 'shape': (60,)}",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (30,)}",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (60,)}",
    "{'descr': ('<f4', (5,)), 'fortran_order': False, 'shape': (12,)}",
    "{'descr': '<f9999999999', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '<f4', 'shape': (60,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (60,), 'more': 1}",
    "__import__('os').system('touch executed')",
    "{'descr': __import__('os').system('touch executed'), 'fortran_order': False, 'shape': (60,)}",
    "(" * 3000,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (60,)",
    "",
    "\0" * 50,
]


@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00"])
@pytest.mark.parametrize("text", HEADERS, ids=range(len(HEADERS)))
def test_headers_that_lie(text, version, tmp_path, members, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = members["x.npy"][-240:]
    content = pack({**members, "x.npy": header(text, version, data)})
    tracemalloc.start()
    try:
        refused(tmp_path / "p.npz", content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6, "something was allocated on the word of a header"
    assert os.listdir(tmp_path) == ["p.npz"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x03\x00\x10\x00\x00\x00" + b" " * 16,
        b"\x93NUMPY\x09\x00",
        b"\x93NUMPY\x01\x00\xff\xff{}",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
        b"NOTNUMPY" * 20,
    ],
)
def test_members_that_are_no_arrays(data, tmp_path, members):
    for name in members:
        refused(tmp_path / "p.npz", pack({**members, name: data}))


def test_zip_bombs_are_not_inflated(tmp_path, members):
    huge = npy(np.zeros((5, 4, 3, 100_000), np.float32))
    content = pack({**members, "x.npy": huge}, zipfile.ZIP_DEFLATED)
    assert len(content) < 100_000 < len(huge)
    tracemalloc.start()
    try:
        assert "is compressed, expected plain storage" in refused(tmp_path / "p.npz", content)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_members_that_overlap_or_declare_more_than_there_is(tmp_path, good):
    """The central directory is edited: sizes of terabytes, and two names for the same bytes."""
    path = tmp_path / "p.npz"
    entry = good.index(b"PK\x01\x02")
    for size in (1 << 31, 0xFFFFFFFE):
        lying = bytearray(good)
        lying[entry + 20 : entry + 28] = size.to_bytes(4, "little") * 2
        assert "more bytes than the file has" in refused(path, seal(bytes(lying)))
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        sizes = {info.filename: info.header_offset for info in archive.infolist()}
    second = good.index(b"PK\x01\x02", entry + 4)
    shared = bytearray(good)
    shared[second + 42 : second + 46] = sizes["x.npy"].to_bytes(4, "little")
    refused(path, seal(bytes(shared)))


def replaced(members, **fields):
    changed = dict(members)
    meta = json.loads(members["meta.npy"][members["meta.npy"].index(b"\n") + 1 :])
    for name, value in fields.items():
        if name in ARRAYS:
            changed[f"{name}.npy"] = npy(np.asarray(value))
        else:
            meta[name] = value
    meta = {name: value for name, value in meta.items() if value is not Ellipsis}
    changed["meta.npy"] = npy(np.frombuffer(json.dumps(meta).encode(), np.uint8))
    return pack(changed)


def test_a_repacked_file_is_as_good(tmp_path, members):
    path = tmp_path / "p.npz"
    path.write_bytes(replaced(members))
    assert equal(Poisons.load(path), example())
    big = example().x.astype(">f4")
    path.write_bytes(replaced(members, x=big))
    assert equal(Poisons.load(path), example())


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"base": [0, 1, 2, 3, 100]}, r"base must lie within \[-1, 99\], got 0 to 100"),
        ({"base": [0, 1, 2, 3, -2]}, "base must .*, got -2 to 3"),
        ({"base": np.array([0, 1, 2, 3, 2**64 - 1], np.uint64)}, "base must lie within"),
        ({"num_examples": 3}, "base must lie within"),
        ({"num_examples": 2**70}, "num_examples must be .*, got 1180591620717411303424"),
        ({"num_examples": 1e3}, "num_examples must be an integer, got 1000.0"),
        ({"num_examples": True}, "num_examples must be an integer, got True"),
        ({"y": [-1, 0, 0, 0, 0]}, "y must lie within"),
        ({"y": [0, 0, 0, 0]}, "y must be 5 integers, got int64 .4."),
        ({"y": np.zeros(5)}, "y must be 5 integers, got float64"),
        ({"x": np.zeros((5, 4, 3, 1))}, "x must be .*, got float64"),
        ({"x": np.float32(1)}, "x must be .*, got float32 .."),
        ({"x": np.full((5, 4, 3, 1), np.inf, np.float32)}, "x must hold finite values"),
        ({"target_x": np.zeros((2, 9), np.float32)}, "target_x must be .*, got float32 .2, 9."),
        ({"target_y": [[0, 1]]}, "target_y must be 2 integers, got int64 .1, 2."),
        ({"intended_y": [0, 2**40]}, "intended_y must lie within"),
        ({"schema": 2}, "schema must be 1, .*, got 2"),
        ({"schema": "1"}, "schema must be an integer, got '1'"),
        ({"schema": ...}, "must have exactly the keys"),
        ({"__class__": "os.system"}, "must have exactly the keys"),
        ({"attack": 3}, "attack must be a string, got 3"),
        ({"config": [1, 2]}, "config must hold"),
        ({"config": {"a": float("inf")}}, "config must hold finite"),
        ({"seed": None}, "seed must be an integer, got None"),
        ({"seed": "__import__('os')"}, "seed must be an integer"),
    ],
)
def test_contents_out_of_range(fields, message, tmp_path, members):
    assert re.search(message, refused(tmp_path / "p.npz", replaced(members, **fields)))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 5000,
        b'{"attack": 1, "attack": 2}',
    ],
)
def test_meta_that_is_no_meta(text, tmp_path, members):
    refused(tmp_path / "p.npz", pack({**members, "meta.npy": npy(np.frombuffer(text, np.uint8))}))


def test_meta_of_another_kind_or_size(tmp_path, members):
    for wrong in (np.zeros((2, 2), np.uint8), np.zeros(9, np.int8), np.zeros((1 << 22) + 1, np.uint8)):
        assert "bytes of JSON" in refused(tmp_path / "p.npz", pack({**members, "meta.npy": npy(wrong)}))


def test_refusals_stay_small_in_a_process_without_memory(tmp_path, members):
    """Headers that claim terabytes, read by a process that may not grow beyond what importing took plus 64 MB."""
    paths = []
    for number, text in enumerate(HEADERS[:4]):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(pack({**members, "x.npy": header(text, data=members["x.npy"][-240:])}))
        paths.append(str(path))
    program = """
        import resource, sys
        from tfshape.poison import Poisons
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
        for path in sys.argv[1:]:
            try:
                Poisons.load(path)
            except ValueError as error:
                assert "declares shape" in str(error), error
                print("refused")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *paths], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["refused"] * 4, done.stderr[-1000:]
