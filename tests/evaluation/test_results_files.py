"""The files of a folder of results: damaged, written twice, of the previous version, links, and on a full disk."""

import json
import math
import random
import threading

import numpy as np
import pytest

import tfshape as ts
from tfshape import folders, strict_json
from tfshape.evaluation.results import Results

EXPERIMENT = ts.Experiment(attack="label_flip", dataset="digits", model="lr", num_poisons=(5, 9), trials=2)


def row(trial=0, count=5, defense="none", data="poison", **more):
    accuracy = 0.5 + 0.1 * trial
    return {
        **{"trial": trial, "count": count, "defense": defense, "data": data, "engine": None, "num_poisons": count},
        **{"inserted": False, "num_examples": 100, "accuracy": accuracy, "class_accuracy": [accuracy, None, 0.25]},
        **{"sampling": "shuffle", "delta": 1e-5, "epsilon": math.inf, "epsilon_if_poisson": math.inf},
        **{"seconds": 1.5, "crafting_seconds": None, **more},
    }


def write(folder, experiment=EXPERIMENT):
    results = Results(experiment, folder, {"git": "abc"})
    for trial in range(2):
        for count in (5, 9):
            results.add(row(trial, count))
    return results


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


def test_files_are_strict_json_and_numbers_come_back(tmp_path):
    results = write(tmp_path)
    for line in (tmp_path / "trials.jsonl").read_text().splitlines():
        assert json.loads(line, parse_constant=refuse)["epsilon"] == "inf"
    json.loads((tmp_path / "config.json").read_text(), parse_constant=refuse)
    for again in (Results.load(tmp_path), Results(EXPERIMENT, tmp_path)):
        assert again.trials == results.trials and again.trials[0]["epsilon"] == math.inf
        assert again.experiment == EXPERIMENT
        assert again.frame().to_csv() == results.frame().to_csv()


@pytest.mark.filterwarnings("error")
def test_the_worst_class_is_the_worst_of_those_measured(tmp_path):
    y = np.r_[np.arange(146) % 2, [2] * 4]  # none of the four is held out
    np.savez(tmp_path / "rare.npz", x_train=np.random.default_rng(0).random((150, 6, 6, 1)), y_train=y)
    options = {"attack": "label_flip", "budget": 0.2, "model": "lr", "shaping": "none", "controls": False}
    e = ts.Experiment(dataset=f"npz:{tmp_path / 'rare.npz'}", trials=2, epochs=1, batch_size=16, **options)
    results = ts.evaluate(e, tmp_path / "out")
    accuracies = [found["class_accuracy"] for found in results.trials]
    assert all(classes[2] is None for classes in accuracies)
    means = [np.mean([classes[label] for classes in accuracies]) for label in (0, 1)]
    assert results.frame()["worst_class_accuracy"][0] == pytest.approx(min(means))
    assert np.isnan(results.classes()[2][0]) and results.classes()[0][0] == pytest.approx(means[0], abs=1e-3)
    assert Results.load(tmp_path / "out").trials == results.trials


@pytest.mark.parametrize("name", ["trials.jsonl", "config.json"])
def test_no_flipped_bit_changes_a_number(tmp_path, name):
    results = write(tmp_path)
    path = tmp_path / name
    data, chance, refused = path.read_bytes(), random.Random(3), 0
    for _ in range(200):
        bit = chance.randrange(8 * len(data))
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = Results.load(tmp_path)
            assert found.trials == results.trials[: len(found.trials)] and found.experiment == EXPERIMENT
        except ValueError as error:
            assert name in str(error) and "damaged" in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 180  # what passes are spaces, and the end of the last line


GLUED = b'{"trial": 1}{"trial": 2}\n'


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"}\n{", b"}{", 1),
        lambda data: data + b"\0" * 40 + b"\n",
        lambda data: data[:50] + b"\xff\xfe" + data[52:],
        lambda data: b"[]\n" + data,
        lambda data: data + b"\n",
        lambda data: data[100:],
        lambda data: data + GLUED,
        lambda data: data.replace(b'"accuracy": 0.5', b'"accuracy": 0.9', 1),
        lambda data: data.replace(b'"schema": 3', b'"schema": 2', 1),
        lambda data: b"[" * 100_000 + b"\n" + data,
    ],
)
def test_a_damaged_row_is_named_with_the_remedy(tmp_path, change):
    results = write(tmp_path)
    path = tmp_path / "trials.jsonl"
    path.write_bytes(change(path.read_bytes()))
    for read in (Results.load, lambda folder: Results(EXPERIMENT, folder)):
        with pytest.raises(ValueError, match=r"trials\.jsonl is damaged in line \d: .*; delete that line") as error:
            read(tmp_path)
        assert "\n" not in str(error.value)
    number = int(str(error.value).split(" in line ")[1].split(":")[0])
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines[: number - 1] + lines[number:]))  # the remedy
    assert [found for found in Results(EXPERIMENT, tmp_path).trials if found not in results.trials] == []


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"null", b"\xff", b"\0" * 9, b'{"experiment": {"trials": "many"}}'])
def test_a_damaged_configuration_is_named(tmp_path, text):
    write(tmp_path)
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged: .") as error:
        Results.load(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"config\.json is damaged|another experiment"):
        Results(EXPERIMENT, tmp_path)


def test_trials_without_their_configuration_are_not_added_to(tmp_path):
    write(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds trials\.jsonl without config\.json"):
        Results(EXPERIMENT, tmp_path)


def test_rows_of_two_runs_are_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "trials.jsonl"
    path.write_text(path.read_text() * 2)
    for read in (Results.load, lambda folder: Results(EXPERIMENT, folder)):
        with pytest.raises(
            ValueError, match=r"trials\.jsonl holds two rows of one victim \(trial 0, count 5, .*folder$"
        ):
            read(tmp_path)


def test_two_runs_of_one_folder(tmp_path):
    e = ts.Experiment(attack="label_flip", dataset="digits", model="lr", shaping="none", trials=1, epochs=1)
    begun, goes_on = threading.Event(), threading.Event()

    def wait(done, total, words):
        begun.set()
        assert goes_on.wait(120)

    first = threading.Thread(target=ts.evaluate, args=(e, tmp_path, wait))
    first.start()
    try:
        assert begun.wait(120)
        with pytest.raises(ValueError, match=r"^output_dir=.* is in use by another run \(pid \d+ on "):
            ts.evaluate(e, tmp_path)
    finally:
        goes_on.set()
        first.join()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "trials.jsonl", "results.csv", "poisons", "cache"}
    assert len(ts.evaluate(e, tmp_path).trials) == 2  # as one run alone


def test_results_of_the_previous_version_are_read_and_resumed(tmp_path):
    results = write(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["sha256"]
    (tmp_path / "config.json").write_text(json.dumps({**config, "schema": 2}))
    old = [{**found, "schema": 2, "class_accuracy": [0.5, math.nan, 0.25]} for found in results.trials[:3]]
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(found) + "\n" for found in old))
    assert "Infinity" in (tmp_path / "trials.jsonl").read_text()
    expected = [{**found, "schema": 3, "class_accuracy": [0.5, None, 0.25]} for found in old]
    assert Results.load(tmp_path).trials == expected
    resumed = Results(EXPERIMENT, tmp_path)
    assert resumed.trials == expected
    resumed.add(row(1, 9))
    for line in (tmp_path / "trials.jsonl").read_text().splitlines():
        assert strict_json.unsealed(json.loads(line, parse_constant=refuse))["schema"] == 3
    assert len(Results.load(tmp_path).trials) == 4


@pytest.mark.parametrize("name", ["trials.jsonl", "config.json", "results.csv", ".lock", "poisons"])
def test_links_are_not_followed(tmp_path, name):
    (tmp_path / "out").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out" / name).symlink_to(outside if name == "poisons" else outside / "file")
    e = ts.Experiment(attack="label_flip", dataset="digits", model="lr", shaping="none", trials=1, epochs=1)
    with pytest.raises(ValueError, match=rf"out/{name} is a symbolic link"):
        ts.evaluate(e, tmp_path / "out")
    assert not list(outside.iterdir())


def test_a_full_disk_loses_no_row_and_the_run_resumes(tmp_path, monkeypatch):
    results = Results(EXPERIMENT, tmp_path)
    results.add(row())
    for place in ("write", "fsync"):
        with monkeypatch.context() as patched:

            def full(*args):
                raise OSError(28, "No space left on device")

            patched.setattr(folders.os, place, full)
            with pytest.raises(OSError, match="No space left") as error:
                results.add(row(1))
            assert error.value.filename == str(tmp_path / "trials.jsonl")
    resumed = Results(EXPERIMENT, tmp_path)
    assert resumed.trials == results.trials and len(resumed.trials) == 1
    resumed.add(row(1))
    assert len(Results.load(tmp_path).trials) == 2


def test_tables_are_written_again_as_the_rows_say(tmp_path):
    write(tmp_path)
    path = tmp_path / "results.csv"
    text = path.read_text()
    path.write_text(text.replace("0.55", "0.95"))
    Results(EXPERIMENT, tmp_path)
    assert path.read_text() == text
