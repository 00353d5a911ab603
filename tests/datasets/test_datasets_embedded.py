"""The embedded sets, and the script that made fashion_mnist_mini."""

import hashlib
import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import tfshape as ts

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "bin/_make_fashion_mnist_mini.py"
FOLDER = pathlib.Path(ts.datasets.__file__).parent
SPEC = importlib.util.spec_from_file_location("script", SCRIPT)
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def source(tmp_path, rng):
    """A small stand-in for Fashion-MNIST: 650 training and 210 test images a class, in mixed order."""
    folder = tmp_path / "source"
    folder.mkdir()
    for part, count in (("train", 650), ("t10k", 210)):
        y = rng.permutation(np.repeat(np.arange(10), count))
        write_idx(folder / f"{part}-labels-idx1-ubyte", y)
        write_idx(folder / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (len(y), 4, 4)))
    return folder


def test_the_mini_set():
    ds = ts.datasets.load("fashion_mnist_mini")
    assert ds.train.x.shape == (6000, 28, 28, 1) and ds.test.x.shape == (2000, 28, 28, 1)
    assert ds.train.x.dtype == np.float32 and ds.train.y.dtype == np.int32
    assert (ds.train.x.min(), ds.train.x.max()) == (0, 1)
    assert np.bincount(ds.train.y).tolist() == [600] * 10
    assert np.bincount(ds.test.y).tolist() == [200] * 10
    assert (ds.name, ds.num_classes, ds.input_shape) == ("fashion_mnist_mini", 10, (28, 28, 1))


def test_the_mini_file_is_the_documented_draw():
    path = FOLDER / "fashion_mnist_mini.npz"
    assert path.stat().st_size < 5e6
    digest = hashlib.sha256()
    with np.load(path, allow_pickle=False) as file:
        for key in sorted(file.files):
            digest.update(key.encode() + str((file[key].dtype, file[key].shape)).encode() + file[key].tobytes())
        for part, total in (("train", 60000), ("test", 10000)):
            index = file[f"{part}_index"]
            assert np.all(np.diff(index) > 0) and index[0] >= 0 and index[-1] < total
    assert digest.hexdigest() == "4efaa9510251d167eed60865ef228e06638d68575ed6b8d80d81ed71453c19c1"
    licence = (FOLDER / "fashion_mnist_mini_LICENSE.txt").read_text("utf-8")
    assert "Copyright (c) 2017 Zalando SE" in licence and "WITHOUT WARRANTY OF ANY KIND" in licence


def test_the_mini_set_can_be_learned():
    """The nearest class mean is right for most test images, so pixels and labels belong together."""
    ds = ts.datasets.load("fashion_mnist_mini")
    means = np.stack([ds.train.x[ds.train.y == label].mean(axis=0).ravel() for label in range(10)])
    distances = np.square(ds.test.x.reshape(2000, 1, -1) - means).sum(axis=2)
    assert np.mean(distances.argmin(axis=1) == ds.test.y) > 0.6


def test_the_script_twice_gives_the_same_file(source, tmp_path):
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    for output in (first, second):
        subprocess.run(
            [sys.executable, SCRIPT, f"--data_dir={source}", f"--output={output}"],
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert first.read_bytes() == second.read_bytes()
    originals = script.idx.load(source)
    with np.load(first, allow_pickle=False) as file:
        for part, per_class in (("train", 600), ("test", 200)):
            index = file[f"{part}_index"]
            assert np.all(np.diff(index) > 0)
            np.testing.assert_array_equal(file[f"x_{part}"], originals[f"x_{part}"][index])
            np.testing.assert_array_equal(file[f"y_{part}"], originals[f"y_{part}"][index])
            assert np.bincount(file[f"y_{part}"]).tolist() == [per_class] * 10


def test_the_draw_takes_any_image_and_depends_on_the_seed():
    labels = np.repeat(np.arange(10), 30)
    draws = [script.draw(labels, 20, np.random.RandomState(seed)) for seed in range(20)]
    assert len({draw.tobytes() for draw in draws}) == 20
    assert set(np.concatenate(draws)) == set(range(300))


@pytest.mark.parametrize("broken", ["missing", "few"])
def test_the_script_without_its_data(broken, source, tmp_path, capsys):
    if broken == "missing":
        (source / "t10k-labels-idx1-ubyte").unlink()
    else:
        write_idx(source / "t10k-labels-idx1-ubyte", np.zeros(2100))
    with pytest.raises(SystemExit) as stop:
        script.main([f"--data_dir={source}", f"--output={tmp_path / 'out.npz'}"])
    assert stop.value.code == 2
    words = {"missing": "must hold the four idx files", "few": "class 1 has 0 examples, 200 are needed"}
    assert words[broken] in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()


def test_digits():
    ds = ts.datasets.load("digits")
    assert ds.input_shape == (8, 8, 1) and ds.num_classes == 10
    assert len(ds.train) + len(ds.test) == 1797
    assert (ds.train.x.min(), ds.train.x.max()) == (0, 1)
    assert np.all(ds.train.x * 16 == np.round(ds.train.x * 16))
    share = np.bincount(ds.test.y) / (np.bincount(ds.train.y) + np.bincount(ds.test.y))
    assert np.all((share > 0.19) & (share <= 0.2))
    assert not {x.tobytes() for x in ds.test.x} & {x.tobytes() for x in ds.train.x}


def test_import_brings_numpy_only():
    code = (
        "import sys, tfshape.datasets as d, tfshape.models as m\n"
        "d.names(); m.names(); d.load('fashion_mnist_mini', classes=(3, 4))\n"
        "heavy = {'tensorflow', 'keras', 'tensorflow_datasets', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=FOLDER.parents[1])
