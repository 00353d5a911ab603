"""Mutates files of every kind that tfshape reads, and reads the mutants as its binaries do.

`python mutants.py KIND COUNT SEED FOLDER` makes a specimen of a kind in FOLDER, reads COUNT mutants of it and prints as
JSON how each ended: null if it was read, the message if it was refused as a binary refuses it, or {"wrong": words}.
"""

import gzip
import io
import json
import os
import pathlib
import pickle
import random
import resource
import signal
import sys
import traceback

import numpy as np

import tfshape as ts
from tfshape.cli import common

SECONDS = 30  # for one mutant
BYTES = 1 << 30  # that reading one may take
EXPERIMENT = {"dataset": "digits", "attack": "label_flip", "model": "lr", "shaping": "none", "trials": 2, "seed": 3}


def row(trial, data):
    return {
        **{"trial": trial, "count": 5, "defense": "none", "data": data, "num_poisons": 5, "num_examples": 100},
        **{"inserted": False, "engine": "fast", "accuracy": 0.5 + 0.1 * trial, "class_accuracy": [0.5, None, 0.7]},
        **{"sampling": "shuffle", "delta": 1e-5, "epsilon": float("inf"), "epsilon_if_poisson": float("inf")},
        **{"seconds": 0.5, "crafting_seconds": None},
    }


def evaluation(folder):
    results = ts.evaluation.Results(ts.Experiment(**EXPERIMENT), folder)
    for trial in range(2):
        for data in ("poison", "control"):
            results.add(row(trial, data))


def read_evaluation(folder):
    from tfshape import reporting

    ts.evaluation.Results(ts.Experiment(**EXPERIMENT), folder)
    found = ts.evaluation.Results.load(folder)
    found.write_tables()
    reporting.write(reporting.read(folder), folder / "report")


def study(folder):
    from tfshape.studies import store, study

    config = ts.Experiment(**EXPERIMENT).of_a_trial()
    with store.Store(folder, create=True) as made:
        keys = made.plan(study.Study(folder, (study.Point(config, 2, {"seed": 3}, ("a", "b")),)))
        made.note(function=study.TRIAL)
        made.save(started=keys)
        rows = [{"rows": [row(t, "poison"), row(t, "control")], "seed": 1, "poisons": [], "crafted": 0} for t in (0, 1)]
        made.save(finished=[(key, 1.5, found) for key, found in zip(keys, rows)])
        made._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def read_study(folder):
    from tfshape import reporting, studies

    studies.status(folder)
    studies.export(folder)
    reporting.write(reporting.read(folder), folder / "report")


def tables(folder):
    study(folder)
    read_study(folder)


def poison(folder):
    x = np.random.default_rng(0).random((4, 6, 6, 1), np.float32)
    options = {
        "target_x": x[:1],
        "target_y": [1],
        "intended_y": [2],
        "attack": "gradient_matching",
        "config": {"a": [1]},
    }
    ts.poison.Poisons(x=x, y=[0, 1, 2, 0], base=[3, 4, 5, -1], num_examples=9, seed=3, **options).save(folder / "p.npz")


def foreign(folder):
    x = np.random.default_rng(0).random((4, 6, 6, 1), np.float32)
    np.savez(folder / "p.npz", x=x, y=np.arange(4), base=np.arange(4))


def arrays(folder):
    x = np.random.default_rng(0).random((30, 6, 6, 1), np.float32)
    np.savez_compressed(folder / "d.npz", x_train=x, y_train=np.arange(30) % 3, x_test=x[:9], y_test=np.arange(9) % 3)


def idx(folder):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", np.arange(20, dtype=np.uint8) % 10)):
        data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        for part in ("train", "t10k"):
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(data))


def cifar(folder):
    rows = np.random.default_rng(0).integers(0, 10, (4, 3073), np.uint8).tobytes()
    for name in [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]:
        (folder / name).write_bytes(rows)


def pickled(folder):
    rows = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8).tobytes()
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        (folder / name).write_bytes(pickle.dumps({b"labels": [1, 2, 3, 4], b"data": rows}, protocol=3))


def deltas(folder):
    np.save(folder / "d.npy", np.zeros((4, 6, 6, 1), np.float32))


def read_deltas(folder):
    from tfshape.cli.poison import _array

    np.asarray(_array("deltas", str(folder / "d.npy"))).sum()


def trusted(folder):
    np.savez(folder / "t.npz", x=np.zeros((4, 6), np.float32), y=np.arange(4))


def cached(folder):
    from tfshape import archive

    archive.write(folder / "c.npz", {"w0000": np.zeros((3, 2), np.float32), "w0001": np.zeros(2, np.float32)})


def read_cached(folder):
    from tfshape.studies.cache import read_arrays

    read_arrays(folder / "c.npz")


def read_flags(folder):
    common._parse(["evaluate", f"--flagfile={folder / 'f.flags'}"])


# kind: (makes a specimen in a folder, reads what is there)
KINDS = {
    "evaluation": (evaluation, read_evaluation),
    "study": (study, read_study),
    "tables of a study": (tables, read_study),
    "poison": (poison, lambda folder: ts.poison.Poisons.load(folder / "p.npz")),
    "foreign poison": (foreign, lambda folder: ts.poison.Poisons.load(folder / "p.npz", 50)),
    "npz": (arrays, lambda folder: ts.datasets.load(f"npz:{folder / 'd.npz'}")),
    "idx": (idx, lambda folder: ts.datasets.load("fashion_mnist", data_dir=str(folder))),
    "cifar": (cifar, lambda folder: ts.datasets.load("cifar10", data_dir=str(folder))),
    "pickled cifar": (pickled, lambda folder: ts.datasets.load("cifar10", data_dir=str(folder))),
    "deltas": (deltas, read_deltas),
    "trusted": (trusted, lambda folder: ts.shaping.parse(f"orient(reference={str(folder / 't.npz')!r})")),
    "cache": (cached, read_cached),
    "flagfile": (lambda folder: (folder / "f.flags").write_text("--seed=3\n--epochs=2\n"), read_flags),
}


class Bomb:
    """What unpickling runs."""

    def __reduce__(self):
        return open, ("executed", "w")


def mutate(data, draw):
    """Other bytes, from those of a file."""
    at, more = draw.randrange(len(data) + 1), draw.randrange(1, 64)
    how = draw.randrange(12)
    if how == 0:
        return data[:at]
    if how == 1:
        return data[:at] + data[at + more :]
    if how == 2:
        return data[:at] + data[at : at + more] * draw.randrange(2, 50) + data[at + more :]
    if how == 3:
        return data[:at] + bytes(more) + data[at + more :]
    if how == 4:
        return data[:at] + draw.randbytes(more) + data[at:]
    if how == 5:
        return data[:at] + b"\xff\xfe\x80" * more + data[at:]
    if how == 6:  # a number in text
        digits = [i for i, byte in enumerate(data) if 48 <= byte < 58]
        at = draw.choice(digits or [0])
        huge = draw.choice([b"9" * 400, b"1e999", b"-1", b"NaN", b"Infinity", b"null", b"[]", b'"x"', b"{}", b"true"])
        return data[:at] + huge + data[at + 1 :]
    if how == 7:  # a size in a header
        return (
            data[:at]
            + draw.choice([b"\xff" * 4, b"\xff" * 8, b"\x7f" * 4, (1 << 31).to_bytes(8, "little")])
            + data[at + 8 :]
        )
    if how == 8:
        return draw.choice(
            [b"", b"[]", b"null", b"{}", b"[" * 100_000, b"PK\3\4", b"\x1f\x8b", b"\x80\x04.", bytes(4096)]
        )
    if how == 9:
        file = io.BytesIO()
        np.savez(file, x=np.array([Bomb()], object), y=np.array([Bomb()], object), x_train=np.array([Bomb()], object))
        return draw.choice([pickle.dumps(Bomb()), file.getvalue(), data + pickle.dumps(Bomb())])
    flipped = bytearray(data)
    for _ in range(1 if how == 10 else draw.randrange(1, 40)):
        if flipped:
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def replace(path, draw):
    """Puts something that is no file at `path`."""
    path.unlink()
    how = draw.randrange(3)
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.mkdir()
    else:
        path.symlink_to(path.parent / "nowhere")


def outcome(read, folder):
    """How reading ended: None, a message, or {"wrong": words}."""
    signal.alarm(SECONDS)
    try:
        read(folder)
        return None
    except MemoryError:
        return {"wrong": "out of memory"}
    except BaseException as error:
        ours = traceback.extract_tb(error.__traceback__)[-1].filename.startswith(common.PACKAGE)
        refused = (isinstance(error, ValueError) and ours) or (
            isinstance(error, OSError) and error.filename is not None
        )
        if (refused or isinstance(error, common.flags.Error)) and "\x1b" not in str(error):
            return " ".join(str(error).split())[:300]
        return {"wrong": "".join(traceback.format_exception(type(error), error, error.__traceback__))[-1500:]}
    finally:
        signal.alarm(0)


def main(kind, count, seed, home):
    make, read = KINDS[kind]
    draw, home, found = random.Random(f"{kind} {seed}"), pathlib.Path(home), []
    specimen = home / "specimen"
    specimen.mkdir()
    make(specimen)
    contents = {path.relative_to(specimen): path.read_bytes() for path in specimen.rglob("*") if path.is_file()}
    names = sorted(name for name in contents if not name.name.startswith(".") and name.parts[0] != "report")

    def fresh(number):
        folder = home / str(number)
        for name, data in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    first = outcome(read, fresh("whole"))
    if first is not None:
        return {"whole": first}
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, now + BYTES))
    os.chdir(home)
    for number in range(count):
        folder, name = fresh(number), draw.choice(names)
        if draw.randrange(15) == 0:
            replace(folder / name, draw)
        else:
            (folder / name).write_bytes(mutate(contents[name], draw))
        ended = outcome(read, folder)
        if isinstance(ended, dict):
            ended["mutant"] = f"{number}: {name}"
        found.append(ended)
    return {"whole": None, "mutants": found, "executed": sorted(map(str, home.rglob("executed")))}


def expire(number, frame):
    raise TimeoutError(f"took more than {SECONDS} s")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, expire)
    kind, count, seed, home = sys.argv[1:]
    print(json.dumps(main(kind, int(count), int(seed), home)))
