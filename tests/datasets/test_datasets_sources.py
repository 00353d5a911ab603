"""Where the published sets are looked for, in which order, and what is said when they are nowhere."""

import gzip
import os
import socket
import time

import numpy as np
import pytest

import tfshape as ts
from tfshape.datasets import cifar, idx, npz, registry

load = ts.datasets.load


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Empty stand-ins for every place of this machine that `load` looks in, and no network."""
    folders = {name: tmp_path / name for name in ("data_dir", "tfds", "debian", "keras")}
    for folder in folders.values():
        folder.mkdir()
    (folders["keras"] / "datasets").mkdir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(folders["tfds"]))
    monkeypatch.setenv("KERAS_HOME", str(folders["keras"]))
    monkeypatch.setitem(registry._DEBIAN, "fashion_mnist", ("dataset-fashion-mnist", folders["debian"]))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", closed)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folders


def fake(rng, marker, sizes=(40, 20), shape=(28, 28)):
    """Arrays in which the first pixel of every image says where they came from."""
    arrays = {}
    for part, size in zip(("train", "test"), sizes):
        arrays[f"x_{part}"] = rng.integers(0, 256, (size, *shape)).astype(np.uint8)
        arrays[f"x_{part}"].reshape(size, -1)[:, 0] = marker
        arrays[f"y_{part}"] = (np.arange(size) % 10).astype(np.uint8)
    return arrays


def write_idx(folder, arrays, compress=True):
    folder.mkdir(exist_ok=True)
    for key, name in idx._FILES.items():
        array = arrays[key]
        data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        (folder / (name + ".gz" * compress)).write_bytes(gzip.compress(data) if compress else data)


def marker(dataset):
    return {
        round(255 * float(value))
        for split in (dataset.train, dataset.test)
        for value in split.x.reshape(len(split), -1)[:, 0]
    }


def test_order_of_the_places(places, rng, store):
    """Filled from the last to the first, each place takes over from the one behind it."""
    import tensorflow_datasets as tfds

    write_idx(places["keras"] / "datasets" / "fashion-mnist", fake(rng, 1))
    assert marker(load("fashion_mnist", places["data_dir"])) == {1}
    write_idx(places["debian"], fake(rng, 2))
    assert marker(load("fashion_mnist", places["data_dir"])) == {2}
    arrays = fake(rng, 3, shape=(28, 28, 1))
    store(
        places["tfds"],
        {"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=10)},
        {
            part: {"image": list(arrays[f"x_{part}"]), "label": arrays[f"y_{part}"].tolist()}
            for part in ("train", "test")
        },
        name="fashion_mnist",
        keys=("image", "label"),
    )
    assert marker(load("fashion_mnist", places["data_dir"])) == {3}
    np.savez(places["data_dir"] / "fashion_mnist.npz", **fake(rng, 4))
    assert marker(load("fashion_mnist", places["data_dir"])) == {4}
    assert marker(load("fashion_mnist")) == {3}
    write_idx(places["data_dir"], fake(rng, 5))
    assert marker(load("fashion_mnist", places["data_dir"])) == {5}


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("folder", [".", "mnist"])
def test_idx_files(compress, folder, places, rng):
    arrays = fake(rng, 7)
    write_idx(places["data_dir"] / folder, arrays, compress)
    ds = load("mnist", str(places["data_dir"]))
    np.testing.assert_array_equal(ds.train.x[..., 0], arrays["x_train"].astype(np.float32) / 255)
    np.testing.assert_array_equal(ds.test.x[..., 0], arrays["x_test"].astype(np.float32) / 255)
    np.testing.assert_array_equal(ds.train.y, arrays["y_train"])
    np.testing.assert_array_equal(ds.test.y, arrays["y_test"])
    assert ds.num_classes == 10 and ds.input_shape == (28, 28, 1)


def test_three_of_the_four_idx_files_are_not_the_set(places, rng):
    write_idx(places["data_dir"], fake(rng, 7))
    (places["data_dir"] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="mnist was not found"):
        load("mnist", places["data_dir"])


@pytest.mark.parametrize("damage", ["cut gzip", "cut idx", "floats", "not gzip", "empty"])
def test_damaged_idx_files(damage, places, rng):
    write_idx(places["data_dir"], fake(rng, 7))
    path = places["data_dir"] / "train-images-idx3-ubyte.gz"
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(
        {
            "cut gzip": path.read_bytes()[:1000],
            "cut idx": gzip.compress(whole[:-1]),
            "floats": gzip.compress(whole[:2] + b"\x0d" + whole[3:]),
            "not gzip": whole,
            "empty": gzip.compress(b""),
        }[damage]
    )
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is not a whole"):
        load("mnist", places["data_dir"])


def test_keras_cache_of_mnist(places, rng):
    np.savez(places["keras"] / "datasets" / "mnist.npz", **fake(rng, 9))
    assert marker(load("mnist")) == {9}


def test_the_wrong_images_under_a_known_name(places, rng):
    np.savez(places["data_dir"] / "mnist.npz", **fake(rng, 9, shape=(32, 32)))
    with pytest.raises(ValueError, match=r"mnist must have examples of one shape, \(28, 28, 1\), got \(32, 32, 1\)"):
        load("mnist", places["data_dir"])


def cifar_arrays(rng, sizes, top):
    return [(rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), rng.integers(0, top, n)) for n in sizes]


def pickled(images, labels, key):
    """A file as Python 2's cPickle writes it at protocol 2, opcode by opcode: string constants, one list, an array."""

    def string(text):
        return b"U" + bytes([len(text)]) + text

    pixels = images.transpose(0, 3, 1, 2).tobytes()
    integers = b"".join(b"K" + bytes([label]) for label in labels)
    return b"".join(
        [
            b"\x80\x02}q\x01(" + string(b"batch_label") + b"q\x02" + string(b"training batch 1 of 5") + b"q\x03",
            string(b"coarse_labels") + b"q\x04]q\x05(" + b"K\x13" * len(labels) + b"e",
            string(key) + b"q\x06]q\x07(" + integers[:20] + b"e(" + integers[20:] + b"e",
            string(b"data") + b"q\x08cnumpy.core.multiarray\n_reconstruct\nq\x09cnumpy\nndarray\nq\x0aK\x00\x85q\x0b",
            string(b"b") + b"\x87Rq\x0c(K\x01K" + bytes([len(labels)]) + b"M\x00\x0c\x86cnumpy\ndtype\nq\x0d",
            string(b"u1")
            + b"K\x00K\x01\x87R(K\x03"
            + string(b"|")
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + len(pixels).to_bytes(4, "little") + pixels + b"tb",
            string(b"filenames") + b"]q\x0e(" + string(b"a_s_000001.png") * len(labels) + b"eu.",
        ]
    )


def write_cifar(folder, name, batches, version):
    """Writes (images, labels) pairs as the five-and-one or one-and-one files of the authors."""
    folder.mkdir(parents=True, exist_ok=True)
    stems = [stem for part in cifar._PARTS[name].values() for stem in part]
    for stem, (images, labels) in zip(stems, batches):
        if version == "python":
            key = {"cifar10": b"labels", "cifar100": b"fine_labels"}[name]
            (folder / stem).write_bytes(pickled(images, labels, key))
        else:
            before = {"cifar10": 1, "cifar100": 2}[name]
            rows = np.zeros((len(labels), before + 3072), np.uint8)
            rows[:, 0] = 19
            rows[:, before - 1] = labels
            rows[:, before:] = images.transpose(0, 3, 1, 2).reshape(len(labels), -1)
            (folder / f"{stem}.bin").write_bytes(rows.tobytes())


@pytest.mark.parametrize(
    ("name", "version", "place"),
    [
        ("cifar10", "binary", "data_dir"),
        ("cifar10", "binary", "data_dir/cifar-10-batches-bin"),
        ("cifar10", "python", "data_dir/cifar10"),
        ("cifar10", "python", "keras/datasets/cifar-10-batches-py"),
        ("cifar10", "python", "keras/datasets/cifar-10-batches-py-target/cifar-10-batches-py"),
        ("cifar100", "binary", "data_dir/cifar-100-binary"),
        ("cifar100", "python", "keras/datasets/cifar-100-python"),
        ("cifar100", "python", "keras/datasets/cifar-100-python-target/cifar-100-python"),
    ],
)
def test_cifar_files(name, version, place, places, rng):
    top = {"cifar10": 10, "cifar100": 100}[name]
    batches = cifar_arrays(rng, (30, 31, 32, 33, 34, 35) if name == "cifar10" else (60, 30), top)
    write_cifar(places["data_dir"].parent / place, name, batches, version)
    ds = load(name, places["data_dir"])
    assert ds.num_classes == top and ds.input_shape == (32, 32, 3)
    for split, pairs in ((ds.train, batches[:-1]), (ds.test, batches[-1:])):
        np.testing.assert_array_equal(split.x, np.concatenate([x for x, _ in pairs]).astype(np.float32) / 255)
        np.testing.assert_array_equal(split.y, np.concatenate([y for _, y in pairs]))


def test_a_pickle_is_listed_and_never_run(places, rng, tmp_path):
    (batch,) = cifar_arrays(rng, (30,), 10)
    bomb = b"cos\nmkdir\n" + b"U" + bytes([len(str(tmp_path)) + 5]) + f"{tmp_path}/bang".encode() + b"\x85R0"
    whole = pickled(*batch, b"labels")
    (tmp_path / "batch").write_bytes(whole[:2] + bomb + whole[2:])
    images, labels = cifar.read_python(tmp_path / "batch", "cifar10")
    np.testing.assert_array_equal(images, batch[0])
    np.testing.assert_array_equal(labels, batch[1])
    assert not (tmp_path / "bang").exists()


@pytest.mark.parametrize("version", ["python", "binary"])
def test_damaged_cifar_files(version, places, rng):
    write_cifar(places["data_dir"], "cifar100", cifar_arrays(rng, (30, 30), 100), version)
    path = places["data_dir"] / {"python": "train", "binary": "train.bin"}[version]
    whole = path.read_bytes()
    for part in (whole[:1000], whole[: len(whole) // 2 + 7], b""):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=f"{path.name} is not a whole file of the {version} version of cifar100"):
            load("cifar100", places["data_dir"])


@pytest.mark.parametrize("labels", ["from 0", "from 1", "one-hot"])
@pytest.mark.parametrize("place", ["data_dir", "data_dir/purchase100", "keras/datasets"])
def test_purchase100(labels, place, places, rng):
    y = np.repeat(np.arange(100), 10)
    x = rng.integers(0, 2, (1000, 600)).astype(np.uint8)
    folder = places["data_dir"].parent / place
    folder.mkdir(exist_ok=True)
    np.savez(
        folder / "purchase100.npz", features=x, labels={"from 0": y, "from 1": y + 1, "one-hot": np.eye(100)[y]}[labels]
    )
    ds = load("purchase100", places["data_dir"])
    assert ds.input_shape == (600,) and ds.num_classes == 100
    assert np.bincount(ds.train.y).tolist() == [8] * 100 and np.bincount(ds.test.y).tolist() == [2] * 100
    known = {row.tobytes(): label for row, label in zip(x.astype(np.float32), y)}
    for split in (ds.train, ds.test):
        assert [known[row.tobytes()] for row in split.x] == split.y.tolist()


def test_purchase100_of_another_width(places, rng):
    np.savez(places["data_dir"] / "purchase100.npz", features=np.eye(100), labels=np.arange(100))
    with pytest.raises(ValueError, match="5 examples of some class"):
        load("purchase100", places["data_dir"])
    np.savez(
        places["data_dir"] / "purchase100.npz", features=np.tile(np.eye(100), (5, 1)), labels=np.tile(np.arange(100), 5)
    )
    with pytest.raises(ValueError, match=r"one shape, \(600,\), got \(100,\)"):
        load("purchase100", places["data_dir"])


def test_npz_images_and_tables(tmp_path, rng):
    arrays = fake(rng, 5, shape=(9, 7))
    np.savez_compressed(tmp_path / "images.npz", **arrays)
    ds = load(f"npz:{tmp_path}/images.npz")
    assert ds.input_shape == (9, 7, 1) and ds.num_classes == 10
    np.testing.assert_array_equal(ds.test.x[..., 0], arrays["x_test"].astype(np.float32) / 255)
    np.savez(tmp_path / "table.npz", x_train=rng.normal(size=(50, 4)), y_train=np.arange(50) % 2)
    ds = load(f"npz:{tmp_path}/table.npz")
    assert ds.input_shape == (4,) and (len(ds.train), len(ds.test), ds.num_classes) == (40, 10, 2)
    assert all(split.x.min() >= 0 and split.x.max() <= 1 for split in (ds.train, ds.test))


def test_npz_in_the_home_folder(tmp_path, rng, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "mine.npz", **fake(rng, 5))
    assert load("npz:~/mine.npz").input_shape == (28, 28, 1)


def test_npz_that_cannot_be_used(tmp_path, rng):
    np.savez(tmp_path / "keys.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(
        ValueError, match=r"keys\.npz must hold x_train and y_train, or features and labels; it holds a, b"
    ):
        npz.read(tmp_path / "keys.npz")
    np.savez(tmp_path / "objects.npz", x_train=np.array([{}, {}]), y_train=np.arange(2))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez_compressed(tmp_path / "whole.npz", **fake(rng, 1))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.npz").write_bytes(whole[:5000] + bytes(100) + whole[5100:])
    for name in ("objects.npz", "array.npy", "text.npz", "empty.npz", "cut.npz", "flipped.npz", "absent.npz", "."):
        with pytest.raises(ValueError, match="must be a readable npz file without Python objects") as error:
            load(f"npz:{tmp_path / name}")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "purchase100", "tfds:iris"])
def test_nowhere_fails_in_seconds_with_words(name, places):
    start = time.monotonic()
    with pytest.raises(ValueError, match=f"dataset {name} was not found") as error:
        load(name, places["data_dir"])
    assert time.monotonic() - start < 10
    message = str(error.value)
    assert "\n" not in message and "To get it:" in message and "--data_dir" in message
    tried = {"data_dir"}
    tried |= {"keras"} if not name.startswith("tfds:") else set()
    tried |= {"tfds"} if name != "purchase100" else set()
    tried |= {"debian"} if name == "fashion_mnist" else set()
    assert {key for key, folder in places.items() if f" in {folder}" in message} == tried
    assert ("download by tfds (no download from http" in message) == (name != "purchase100")
    assert ("Debian's package dataset-fashion-mnist" in message) == (name == "fashion_mnist")


def test_a_host_that_never_answers_fails_in_seconds(places, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(ValueError, match="cifar10 was not found"):
            load("cifar10", places["data_dir"])
        assert time.monotonic() - start < 10


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist_mini", "npz:x.npz"])
def test_a_data_dir_that_is_none(name, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(ValueError, match="data_dir must be a folder that can be read") as error:
            load(name, str(path))
        assert repr(str(path)) in str(error.value)


def test_a_data_dir_that_cannot_be_read(places):
    places["data_dir"].chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(ValueError, match=r"data_dir must be a folder that can be read.*Permission denied"):
            load("mnist", places["data_dir"])
    finally:
        os.seteuid(user)
        places["data_dir"].chmod(0o755)


def test_classes_and_names(places, rng):
    np.savez(places["data_dir"] / "mnist.npz", **fake(rng, 1))
    ds = load("mnist", places["data_dir"], classes=[4, 3])
    assert ds.num_classes == 2 and ds.train.y.tolist() == [1, 0] * 4
    names = ("fashion_mnist_mini", "digits", "fashion_mnist", "mnist", "cifar10", "cifar100", "purchase100")
    assert ts.datasets.names() == names
    for unknown in ("cifar11", "tfds:", "npz:", "", None, "tfds"):
        with pytest.raises(
            ValueError, match=r"dataset must be one of fashion_mnist_mini, .*, tfds:NAME, npz:PATH, got"
        ):
            load(unknown)
