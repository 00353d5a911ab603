"""`python -m tfshape poison` as a user types it, and its files as other frameworks read them."""

import json
import os
import pathlib
import pickle
import sys

import forked
import numpy as np
import pytest

from tfshape import datasets, poison

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(cwd, *flags):
    return forked.run(cwd, "poison", "--dataset=digits", *flags)


def in_process(folder, monkeypatch, capsys, *flags):
    """The same as `run`, without starting another process."""
    from absl.testing import flagsaver

    from tfshape.cli import poison as cli

    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["poison", "--dataset=digits", "--quiet", *flags])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        cli.run()
    return ended.value.code, capsys.readouterr()


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """A folder with poisons and deltas, and what the command makes of them."""
    folder = tmp_path_factory.mktemp("poison")
    x, y = digits.train.x, digits.train.y
    poison.Poisons(x=1 - x[:5], y=(y[:5] + 1) % 10, base=np.arange(5), num_examples=len(x)).save(folder / "p.npz")
    np.save(folder / "d.npy", 0.1 * (1 - x))
    np.save(folder / "k.npy", x[0])
    np.save(folder / "object.npy", np.array([{}], object), allow_pickle=True)
    return folder


@pytest.mark.slow
def test_npz(folder, digits):
    calls = ["flip_labels(rate=0.1, seed=3)", "stamp('blend(\"k.npy\", alpha=0.3)', 0.05, target_class=7)"]
    done = run(folder, "--quiet", *[f"--transform={call}" for call in calls], "--output=made/f.npz")
    assert done.returncode == 0 and "poisoning" not in done.stderr
    clean = digits.train.as_dataset()
    trigger = poison.blend(digits.train.x[0], alpha=0.3)
    want = clean.apply(poison.flip_labels(0.1, 10, seed=3, mark=True)).apply(poison.stamp(trigger, 0.05, 7))
    x, y, is_poison = (np.array(part) for part in zip(*want.as_numpy_iterator()))
    with np.load(folder / "made/f.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["is_poison", "x", "y"]
        for name, array in (("x", x), ("y", y), ("is_poison", is_poison)):
            assert file[name].dtype == array.dtype and np.array_equal(file[name], array)
    about = json.loads((folder / "made/f.npz.json").read_text())
    assert about["poison_indices"] == np.flatnonzero(is_poison).tolist()
    assert about["num_examples"] == len(y) and about["x"] == {"shape": [8, 8, 1], "dtype": "float32"}
    assert [entry["transform"] for entry in about["transforms"]] == ["flip_labels", "stamp"]
    assert about["transforms"][0]["config"]["seed"] == 3 and about["schema"] == 1 and about["dataset"] == "digits"
    assert sorted(os.listdir(folder / "made")) == ["f.npz", "f.npz.json"]
    assert done.stdout == (f"made/f.npz: {len(y)} examples; {is_poison.sum()} are poison, listed in made/f.npz.json\n")


READER = """
    import json, sys
    import numpy as np, tensorflow as tf
    about = json.load(open(sys.argv[1] + ".json"))

    def parse(record):
        features = {name: tf.io.FixedLenFeature([], tf.int64) for name in ("y", "is_poison")}
        parsed = tf.io.parse_single_example(record, {"x": tf.io.FixedLenFeature([], tf.string), **features})
        x = tf.reshape(tf.io.decode_raw(parsed["x"], about["x"]["dtype"]), about["x"]["shape"])
        return x, parsed["y"], parsed["is_poison"]

    elements = list(tf.data.TFRecordDataset(sys.argv[1]).map(parse).as_numpy_iterator())
    np.savez(sys.argv[2], *(np.array(part) for part in zip(*elements)))
    assert not any(name.split(".")[0] == "tfshape" for name in sys.modules)
"""


def test_tfrecord_is_read_without_tfshape(folder, digits):
    done = run(folder, "--transform=replace('p.npz')", "--transform=perturb('d.npy')", "--output=f.tfrecord")
    assert done.returncode == 0 and done.stderr.splitlines()[-1].endswith("poisoning")
    program = "\n".join(line[4:] for line in READER.splitlines())
    done = forked.code(folder, program, "f.tfrecord", "read.npz")
    assert done.returncode == 0, done.stderr
    crafted = poison.Poisons.load(folder / "p.npz")
    want = digits.train.as_dataset().apply(poison.replace(crafted)).apply(poison.perturb(0.1 * (1 - digits.train.x)))
    x, y = (np.array(part) for part in zip(*want.as_numpy_iterator()))
    with np.load(folder / "read.npz") as file:
        assert np.array_equal(file["arr_0"], x) and np.array_equal(file["arr_1"], y)
        assert (
            np.flatnonzero(file["arr_2"]).tolist()
            == json.loads((folder / "f.tfrecord.json").read_text())["poison_indices"]
        )


def test_the_triggered_test_split(folder, digits, monkeypatch, capsys):
    flags = ["--split=test", "--transform=stamp_test('patch', 3)", "--classes=1,2,3,7", "--output=t.npz"]
    assert in_process(folder, monkeypatch, capsys, *flags)[0] == 0
    kept = np.isin(digits.test.y, [1, 2, 3])
    with np.load(folder / "t.npz") as file:
        assert np.array_equal(file["x"], poison.patch()(digits.test.x[kept]))
        assert (file["y"] == 3).all() and file["is_poison"].all()


def test_inserted_examples_are_listed_behind_the_clean_ones(folder, digits, monkeypatch, capsys):
    assert in_process(folder, monkeypatch, capsys, "--transform=insert('p.npz')", "--output=i.npz")[0] == 0
    n = len(digits.train)
    assert json.loads((folder / "i.npz.json").read_text())["poison_indices"] == list(range(n, n + 5))


BAD = [
    ([], "transform must be given at least once"),
    (["flip_labels(rate=2)"], "flip_labels: rate must be a number >= 0 and <= 1, got 2"),
    (["flip_labels(0.1)", "flop()"], "transform must be one of flip_labels, stamp"),
    (["flip_labels("], "transform must be a name or a call of literal values"),
    (["flip_labels()"], "flip_labels() missing 1 required positional argument: 'rate'"),
    (["flip_labels(0.1, foo=3)"], "unexpected keyword argument 'foo'"),
    (["flip_labels(0.1, mark=False)"], "multiple values for keyword argument 'mark'"),
    (["flip_labels(0.1, classes=3.5)"], "classes must be an integer from 0 to 9, got 3.5"),
    (["flip_labels(0.1, 3)"], "apply poison transforms before .shuffle"),
    (["flip_labels(0.1, 12, mapping={1: 11})"], "labels after --transform must be 0 to 9, got 11"),
    (["stamp('patch(size=99)', 0.1, 1)"], "does not fit into features (8, 8, 1)"),
    (["stamp('spot', 0.1, 1)"], "trigger must be one of blend, patch, sinusoid, warp, got 'spot'"),
    (["stamp(3, 0.1, 1)"], "trigger must be a name or a call"),
    (["stamp('warp', 0.1, 11)"], "target_class must be an integer from 0 to 9, got 11"),
    (["stamp_test('warp', 'x')"], "target_class must be an integer from 0 to 9, got 'x'"),
    (["insert('none.npz')"], "none.npz: No such file or directory"),
    (["insert('d.npy')"], "'d.npy' is not a readable poisons file: File is not a zip file"),
    (["insert(0)"], "expected str, bytes or os.PathLike object, not int"),
    (["perturb('none.npy')"], "deltas must be an .npy file of numbers, got 'none.npy': No such file or directory"),
    (["perturb('p.npz')"], "deltas must be an .npy file of numbers, got 'p.npz'"),
    (["perturb('object.npy')"], "deltas must be an .npy file of numbers, got 'object.npy'"),
    (["perturb(0)"], "deltas must be an .npy file of numbers, got 0"),
    (["perturb('k.npy')"], "deltas must be for features (8, 8, 1), got (8, 1)"),
    (["__import__('os').system('touch executed')"], "transform must be a name or a call"),
    (["flip_labels(rate=open('executed', 'w'))"], "transform must be a name or a call"),
    (["stamp(trigger='patch(open(\"executed\"))', rate=0.1, target_class=1)"], "trigger must be a name or a call"),
]


@pytest.mark.parametrize("transforms, message", BAD, ids=[" ".join(calls) or "none" for calls, _ in BAD])
def test_bad_transforms_are_one_line_on_stderr(transforms, message, folder, monkeypatch, capsys):
    flags = [f"--transform={call}" for call in transforms]
    code, output = in_process(folder, monkeypatch, capsys, *flags, "--output=bad.npz")
    assert code == 2 and output.out == ""
    assert len(output.err.splitlines()) == 1 and output.err.startswith("poison: ") and message in output.err
    assert not {"bad.npz", "bad.npz.json", "executed"} & set(os.listdir(folder))
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--output=f.txt"], "output must be the name of a file that ends in .npz or .tfrecord, got 'f.txt'"),
        ([], "output must be the name of a file that ends in .npz or .tfrecord, got None"),
        (["--output=p.npz/f.npz"], "output must be the path of a file in a writable folder"),
        (["--output=f.npz", "--dataset=nope"], "'nope'"),
        (["--output=f.npz", "--split=both"], "split must be one of train, test, got 'both'"),
        (["--output=f.npz", "--classes=a"], "classes must be class numbers, such as 3,4, got 'a'"),
        (["--output=f.npz", "stray"], "got 'stray'"),
        (
            ["--output=f.npz", "--classes=0,1", "--transform=stamp_test('warp', 0, classes=0)"],
            "transform must be one that leaves examples",
        ),
    ],
)
def test_bad_flags_are_one_line_on_stderr(flags, message, folder, monkeypatch, capsys):
    code, output = in_process(folder, monkeypatch, capsys, "--transform=flip_labels(0.1, 2)", *flags)
    assert code == 2 and len(output.err.splitlines()) == 1 and message in output.err


def test_a_bad_flag_in_a_process_of_its_own(folder):
    done = run(folder, "--transform=flip_labels(rate=7)", "--output=bad.npz")
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr.splitlines()[-1]
        == "poison: transform='flip_labels(rate=7)': flip_labels: rate must be a number >= 0 and <= 1, got 7"
    )


def test_deltas_that_claim_more_than_their_file(folder, monkeypatch, capsys):
    whole = (folder / "d.npy").read_bytes()
    lying = whole.replace(b"(1", b"(9", 1)
    assert lying != whole
    (folder / "lying.npy").write_bytes(lying)
    code, output = in_process(folder, monkeypatch, capsys, "--transform=perturb('lying.npy')", "--output=bad.npz")
    assert code == 2 and "deltas must be an .npy file of numbers, got 'lying.npy'" in output.err
    (folder / "pickled.npy").write_bytes(pickle.dumps([1]))
    code, output = in_process(folder, monkeypatch, capsys, "--transform=perturb('pickled.npy')", "--output=bad.npz")
    assert code == 2 and "must be an .npy file of numbers" in output.err


@pytest.mark.slow
def test_the_benchmark_times_every_transform(capsys):
    from tfshape.benchmarks import poison as benchmark_poison

    rows = benchmark_poison.suite(repeats=1, num_examples=300)
    printed = capsys.readouterr().out
    assert len({row["data"] for row in rows}) == 3 and all(row["data"] in printed for row in rows)
    x, y = datasets.load("fashion_mnist_mini").train.x[:100], np.arange(100) % 10
    names = {"identity_map", "no_map", *benchmark_poison.transforms(x, y)}
    assert {row["transform"] for row in rows} == names and all(name in printed for name in names)
    assert all(row["microseconds"] > 0 and row["of_identity_map"] > 0 for row in rows)
    kinds = {name.split()[0] for name in names}
    assert {"flip_labels", "stamp", "stamp_test", "insert", "replace", "perturb"} < kinds
