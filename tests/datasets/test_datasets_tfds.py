"""Sets of tensorflow-datasets: which features are taken, prepared data, and a download from a server of the test."""

import functools
import http.server
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

import tfshape as ts
from tfshape.datasets import tfds as source

F = tfds.features


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty tfds data directory, and a network in which nothing but this machine answers."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "home"))
    for scheme in ("http", "https"):
        for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path / "home"


def images(rng, count, shape=(6, 5, 3)):
    return {
        "image": list(rng.integers(0, 256, (count, *shape)).astype(np.uint8)),
        "label": [i % 3 for i in range(count)],
    }


IMAGE = {"image": F.Image(shape=(6, 5, 3)), "label": F.ClassLabel(num_classes=4)}


def rows(split):
    """The examples of a split, in an order of their own, for tfds shuffles."""
    return sorted((label, tuple(x.ravel().tolist())) for x, label in zip(split.x, split.y.tolist()))


def test_images(home, rng, store):
    splits = {"train": images(rng, 12), "test": images(rng, 7)}
    store(home, IMAGE, splits, keys=("image", "label"))
    ds = ts.datasets.load("tfds:tiny")
    assert ds.input_shape == (6, 5, 3) and ds.num_classes == 4 and ds.name == "tfds:tiny"
    for split, columns in ((ds.train, splits["train"]), (ds.test, splits["test"])):
        x = np.stack(columns["image"]).astype(np.float32) / 255
        assert rows(split) == rows(ts.datasets.Split(x, np.array(columns["label"])))


def test_the_same_order_every_time(home, rng, store):
    store(home, IMAGE, {"train": images(rng, 40)}, keys=("image", "label"))
    first, second = ts.datasets.load("tfds:tiny"), ts.datasets.load("tfds:tiny")
    np.testing.assert_array_equal(first.train.x, second.train.x)
    np.testing.assert_array_equal(first.test.x, second.test.x)


TABLE = {
    "b": F.Tensor(shape=(), dtype=np.float32),
    "a": F.Tensor(shape=(2,), dtype=np.int32),
    "kind": F.ClassLabel(names=["u", "v", "w"]),
    "note": F.Text(),
    "sold": F.Tensor(shape=(), dtype=np.bool_),
    "target": F.ClassLabel(num_classes=2),
}


def table(rng, count):
    return {
        "b": rng.normal(size=count).astype(np.float32).tolist(),
        "a": rng.integers(-9, 9, (count, 2)).astype(np.int32).tolist(),
        "kind": rng.integers(0, 3, count).tolist(),
        "note": ["words"] * count,
        "sold": (rng.random(count) < 0.5).tolist(),
        "target": [i % 2 for i in range(count)],
    }


@pytest.mark.parametrize("keys", ["flat", "nested"])
def test_tables(keys, home, rng, store):
    """Columns of numbers in alphabetical order, scaled by the training rows; text is left out."""
    splits = {"train": table(rng, 20), "validation": table(rng, 10)}
    inputs = {name: name for name in TABLE if name != "target"}
    store(home, TABLE, splits, keys=(inputs if keys == "nested" else tuple(inputs), "target"))
    ds = ts.datasets.load("tfds:tiny")
    assert ds.input_shape == (5,) and ds.num_classes == 2
    raw = {
        part: np.column_stack([np.asarray(columns[name], float) for name in ("a", "b", "kind", "sold")])
        for part, columns in splits.items()
    }
    low, high = raw["train"].min(axis=0), raw["train"].max(axis=0)
    for split, part in ((ds.train, "train"), (ds.test, "validation")):
        x = np.clip((raw[part] - low) / (high - low), 0, 1).astype(np.float32)
        assert rows(split) == rows(ts.datasets.Split(x, np.array(splits[part]["target"])))


def test_one_tensor_without_supervised_keys(home, rng, store):
    values = rng.random((30, 4)).astype(np.float32)
    features = {"features": F.Tensor(shape=(4,), dtype=np.float32), "species": F.ClassLabel(num_classes=3)}
    store(home, features, {"train": {"features": list(values), "species": [i % 3 for i in range(30)]}})
    ds = ts.datasets.load("tfds:tiny")
    assert ds.input_shape == (4,) and (len(ds.train), len(ds.test), ds.num_classes) == (24, 6, 3)
    both = ts.datasets.Split(np.concatenate([ds.train.x, ds.test.x]), np.concatenate([ds.train.y, ds.test.y]))
    assert rows(both) == rows(ts.datasets.Split(values, np.arange(30) % 3))


def test_one_scalar_and_a_plain_integer_label(home, rng, store):
    features = {"age": F.Tensor(shape=(), dtype=np.float64), "label": F.Tensor(shape=(), dtype=np.int64)}
    store(home, features, {"train": {"age": rng.random(10).tolist(), "label": [0, 1] * 5}}, keys=("age", "label"))
    ds = ts.datasets.load("tfds:tiny")
    assert ds.input_shape == (1,) and ds.num_classes == 2


NUMBER = F.Tensor(shape=(), dtype=np.float32)
CLASS = F.ClassLabel(num_classes=2)


@pytest.mark.parametrize(
    ("features", "keys", "words"),
    [
        ({"text": F.Text(), "label": CLASS}, ("text", "label"), "one image or columns of numbers"),
        ({"one": CLASS, "two": CLASS}, None, "one class label, and has 2"),
        ({"one": NUMBER}, None, "one class label, and has 0"),
        ({"x": NUMBER, "y": NUMBER}, ("x", "y"), "label 'y' is not one integer"),
        ({"x": NUMBER, "y": F.Tensor(shape=(2,), dtype=np.int32)}, ("x", "y"), "label 'y' is not one integer"),
        ({"x": F.Image(shape=(None, None, 3)), "y": CLASS}, ("x", "y"), "one fixed size"),
        ({"x": F.Image(shape=(2, 2, 3)), "z": F.Image(shape=(2, 2, 3)), "y": CLASS}, None, "one image or columns"),
    ],
)
def test_sets_of_another_kind(features, keys, words, home, store):
    values = {
        F.Text: "a",
        F.ClassLabel: 1,
        F.Image: np.zeros((2, 2, 3), np.uint8),
        F.Tensor: 0.5,
    }
    example = {
        name: [[1, 0] if feature.shape == (2,) else values[type(feature)]] * 6 for name, feature in features.items()
    }
    store(home, features, {"train": example}, keys=keys)
    with pytest.raises(ValueError, match=words) as error:
        ts.datasets.load("tfds:tiny")
    assert "\n" not in str(error.value)


def test_a_set_without_a_train_split(home, rng, store):
    store(home, IMAGE, {"full": images(rng, 6)}, keys=("image", "label"))
    with pytest.raises(ValueError, match="its splits are full, and train is needed"):
        ts.datasets.load("tfds:tiny")


def test_damaged_files(home, rng, store):
    store(home, IMAGE, {"train": images(rng, 6)}, keys=("image", "label"))
    (record,) = (home / "tiny" / "1.0.0").glob("*train*")
    record.write_bytes(record.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"tfds data in .*tiny/1\.0\.0 cannot be used"):
        ts.datasets.load("tfds:tiny")
    (home / "tiny" / "1.0.0" / "features.json").unlink()
    with pytest.raises(ValueError, match=r"tfds data in .*tiny/1\.0\.0 cannot be used"):
        ts.datasets.load("tfds:tiny")


def test_versions_and_configurations(home, tmp_path, rng, store):
    for version, count in (("1.9.0", 5), ("1.10.0", 10), ("1.2.0", 15)):
        store(home, IMAGE, {"train": images(rng, count), "test": images(rng, 3)}, version=version)
    assert len(ts.datasets.load("tfds:tiny").train) == 10
    assert len(ts.datasets.load("tfds:tiny:1.2.0").train) == 15
    (home / "tiny" / "2.0.0.incompleteABC").mkdir()
    (home / "tiny" / "2.0.0.incompleteABC" / "dataset_info.json").write_text("{}")
    assert len(ts.datasets.load("tfds:tiny").train) == 10
    other = tmp_path / "other"
    store(other, IMAGE, {"train": images(rng, 8), "test": images(rng, 3)}, config="grey")
    assert len(ts.datasets.load("tfds:tiny", data_dir=other).train) == 8
    store(other, IMAGE, {"train": images(rng, 9), "test": images(rng, 3)}, config="red")
    assert len(ts.datasets.load("tfds:tiny/red", data_dir=other).train) == 9
    assert len(ts.datasets.load("tfds:tiny/grey:1.0.0", data_dir=other).train) == 8
    with pytest.raises(ValueError, match=r"tfds:tiny must name one of its configurations in .*: grey, red"):
        ts.datasets.load("tfds:tiny", data_dir=other)


@pytest.mark.parametrize("reference", ["../tiny", "tiny/../x", "tiny:1", "a b", "tiny/", "/etc"])
def test_references(reference):
    with pytest.raises(ValueError, match=r"NAME\[/CONFIG\]\[:VERSION\]"):
        ts.datasets.load(f"tfds:{reference}")


@pytest.fixture
def server(tmp_path):
    """An HTTP server of this machine: {path: answer} files in a folder; a missing file answers 404."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    ) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}/table.csv"
        running.shutdown()
        thread.join()


class TfshapeTinyDownload(tfds.core.GeneratorBasedBuilder):
    """A set that tfds knows by name and downloads from `address`, which a test sets."""

    VERSION = tfds.core.Version("1.0.0")
    address = None
    url_infos = {}  # noqa: RUF012

    def _info(self):
        features = F.FeaturesDict({"x": F.Tensor(shape=(), dtype=np.float32), "label": F.ClassLabel(num_classes=2)})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("x", "label"))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(dl_manager.download(self.address))}

    def _generate_examples(self, path):
        for i, line in enumerate(path.read_text().splitlines()):
            x, label = line.split(",")
            yield i, {"x": float(x), "label": int(label)}


@pytest.mark.parametrize("given", [True, False])
def test_download(given, home, server, tmp_path, monkeypatch):
    folder, address = server
    (folder / "table.csv").write_text("".join(f"0.{i},{i % 2}\n" for i in range(10)))
    monkeypatch.setattr(TfshapeTinyDownload, "address", address)
    monkeypatch.setattr(TfshapeTinyDownload, "url_infos", {address: None})
    place = tmp_path / "mine" if given else home
    place.mkdir()
    data_dir = place if given else None
    start = time.monotonic()
    ds = ts.datasets.load("tfds:tfshape_tiny_download", data_dir)
    assert time.monotonic() - start < 60, "no waiting for hosts that the set does not need"
    assert (place / "tfshape_tiny_download" / "1.0.0" / "dataset_info.json").is_file()
    (folder / "table.csv").unlink()
    again = ts.datasets.load("tfds:tfshape_tiny_download", data_dir)
    assert rows(again.train) == rows(ds.train) and len(ds.train) + len(ds.test) == 10
    assert set(ds.train.x.ravel().tolist()) < {np.float32(i / 10).item() for i in range(10)}


@pytest.mark.parametrize("trouble", ["404", "unlike"])
def test_download_that_fails(trouble, server, tmp_path, monkeypatch):
    folder, address = server
    if trouble == "unlike":
        (folder / "table.csv").write_text("<html>")
    monkeypatch.setattr(TfshapeTinyDownload, "address", address)
    monkeypatch.setattr(TfshapeTinyDownload, "url_infos", {address: None})
    words = {"404": "no download from http.*404", "unlike": "tfds could not prepare tfshape_tiny_download in"}[trouble]
    with pytest.raises(ValueError, match=f"tfshape_tiny_download was not found; tried .*{words}") as error:
        ts.datasets.load("tfds:tfshape_tiny_download", tmp_path)
    assert "\n" not in str(error.value)


def test_a_set_that_tfds_does_not_know():
    with pytest.raises(ValueError, match="tfds cannot give no_such_set: Dataset no_such_set not found"):
        ts.datasets.load("tfds:no_such_set")


def test_the_answer_of_a_host(server):
    folder, address = server
    assert "404" in source.no_answer(address)
    (folder / "table.csv").write_text("x")
    assert source.no_answer(address) == ""
