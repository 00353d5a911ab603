"""The files of a study: damaged, of the previous version, links, on a full disk, and how long making them takes."""

import contextlib
import json
import math
import random
import shutil
import sqlite3
import subprocess
import time

import pandas as pd
import pytest
from test_studies_driver import moody, path_of_helpers, results, tiny  # noqa: F401

import tfshape as ts
from tfshape import strict_json, studies
from tfshape.evaluation import columns
from tfshape.studies import cache, trial

pytestmark = pytest.mark.one_stack


@pytest.fixture
def finished(tmp_path):
    """A study of experiments with made-up results, and what is to be read from it."""
    return made(tmp_path / "study", 3, 4)


def made(folder, points, trials):
    grid, rows = [], {}
    for number in range(points):
        e = ts.Experiment(attack="label_flip", trials=trials, shaping=f"clip({number + 1})")
        config = json.loads(json.dumps(e.of_a_trial()))
        grid.append(studies.Point(config, trials, {"shaping": e.shaping}))
        rows[number] = [[victim(number, k, name) for name in ("none", e.shaping)] for k in range(trials)]
    whole = studies.Study(folder, tuple(grid))
    folder.mkdir()
    with studies.Store(folder, create=True) as kept:
        keys = kept.plan(whole)
        kept.note(function=whole.function)
        flat = [{"rows": found, "seed": 1, "poisons": []} for number in range(points) for found in rows[number]]
        kept.save(finished=[(key, 1, found) for key, found in zip(keys, flat)])
    return folder


def victim(point, number, defense):
    accuracy = (7 * point + 3 * number) % 20 / 20
    return {
        **{"trial": number, "count": 5, "defense": defense, "data": "poison", "engine": None, "num_poisons": 5},
        **{"inserted": False, "num_examples": 100, "accuracy": accuracy, "class_accuracy": [accuracy, None]},
        **{"sampling": "shuffle", "delta": 1e-5, "epsilon": math.inf, "epsilon_if_poisson": math.inf, "seconds": 1.5},
    }


def read(folder):
    with studies.Store(folder) as kept:
        rows = [tuple(row) for row in (*kept.points(), *kept.trials())]
        return rows, list(kept.results()), kept.counts(), kept.about("function")


def test_no_flipped_bit_of_the_store_changes_a_number(finished):
    path = finished / "study.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("VACUUM")  # no pages that nothing uses
    expected, data, chance, refused = read(finished), path.read_bytes(), random.Random(5), 0
    used = [at for at in range(len(data)) if data[at]]
    for _ in range(200):
        changed, at = bytearray(data), chance.choice(used)
        changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        try:
            assert read(finished) == expected
        except (ValueError, OSError) as error:
            assert "study.sqlite" in str(error) and "\n" not in str(error)
            refused += 1
        for rest in finished.glob("study.sqlite-*"):
            rest.unlink()
    assert refused > 180  # what passes are bytes that say nothing of the rows


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"[]",
        lambda data: data[:100] + b"\0" * 4000 + data[4100:],
        lambda data: data.replace(b'"accuracy": 0.35', b'"accuracy": 0.95'),
        lambda data: data.replace(b"'done'", b"'dome'"),
    ],
)
def test_a_damaged_store_is_named_with_the_remedy(finished, change):
    path = finished / "study.sqlite"
    path.write_bytes(change(path.read_bytes()))
    for use in (read, studies.export):
        with pytest.raises(ValueError, match=r"study\.sqlite is damaged: .*; restore it from a copy") as error:
            use(finished)
        assert "\n" not in str(error.value)


def test_a_stranger_cannot_move_a_result_to_another_trial(finished):
    with contextlib.closing(sqlite3.connect(finished / "study.sqlite")) as connection:
        first, second = (row[0] for row in connection.execute("SELECT key FROM results LIMIT 2"))
        for one, other in ((first, "x"), (second, first), ("x", second)):
            connection.execute("UPDATE results SET key = ? WHERE key = ?", (other, one))
        connection.commit()
    with pytest.raises(ValueError, match=r"the checksum of the result of point \d trial"):
        read(finished)


def test_tables_and_configuration_are_made_again_where_they_were_changed(finished):
    studies.export(finished)
    texts = {path: path.read_bytes() for path in finished.iterdir() if path.suffix in (".csv", ".parquet")}
    assert {path.name for path in texts} >= {"results.csv", "victims.csv", "trials.parquet", "artifacts.csv"}
    json.loads((finished / "config.json").read_text(), parse_constant=pytest.fail)
    for path in texts:
        path.write_bytes(b"0" + texts[path][1:])
    studies.export(finished)
    assert all(path.read_bytes() == text for path, text in texts.items() if path.suffix == ".csv")
    for text in (b"", b"[]", b"{", b"\xff", b'{"state": 3}'):
        (finished / "config.json").write_bytes(text)
        studies.export(finished)
        assert len(strict_json.read(finished / "config.json", "", required=True)["points"]) == 3


def test_a_column_is_one_entry(finished, monkeypatch):
    entry = columns.Column("undefended", "How many.", of=lambda defense: len(defense.undefended))
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, entry))
    studies.export(finished)
    assert pd.read_csv(finished / "results.csv")["undefended"].tolist() == [4] * 4


OLD = """
CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE points (point INTEGER PRIMARY KEY, config TEXT UNIQUE NOT NULL, grid TEXT NOT NULL);
CREATE TABLE trials (
    key TEXT PRIMARY KEY,
    point INTEGER NOT NULL REFERENCES points,
    trial INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    seconds REAL,
    finished REAL,
    error TEXT,
    UNIQUE (point, trial)
);
CREATE INDEX progress ON trials (status, finished, seconds);
CREATE TABLE results (key TEXT PRIMARY KEY REFERENCES trials, result TEXT NOT NULL);
"""


def test_a_study_of_the_previous_version_is_read_and_resumed(tmp_path):
    old, whole = tmp_path / "study.sqlite", tiny(tmp_path, points=2, trials=2)
    with contextlib.closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(OLD)
        connection.executemany("INSERT INTO study VALUES (?, ?)", [("schema", "1"), ("function", whole.function)])
        for number, point in enumerate(whole.points):
            config, grid = json.dumps(point.config, sort_keys=True), json.dumps(point.values)
            connection.execute("INSERT INTO points VALUES (?, ?, ?)", (number, config, grid))
            for k in range(2):
                row = (whole.key(point, k), number, k, "done" if k == 0 else "running", 1, 1.5, 2.5, None)
                connection.execute("INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            result = json.dumps({"mean": math.inf, "largest": math.nan})
            connection.execute("INSERT INTO results VALUES (?, ?)", (whole.key(point, 0), result))
        connection.commit()
    before = old.read_bytes()
    expected = [(number, 0, {"mean": math.inf, "largest": None}) for number in range(2)]
    assert results(tmp_path) == expected and "2 of 4 trials over" in studies.status(tmp_path)
    assert old.read_bytes() == before  # readers write nothing
    assert studies.run(whole, studies.Local(workers=1))["done"] == 4
    assert [row for row in results(tmp_path) if row[1] == 0] == expected
    with contextlib.closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT value FROM study WHERE name = 'schema'").fetchone() == ("2",)
        assert not any(
            "NaN" in row[0] or "Infinity" in row[0] for row in connection.execute("SELECT result FROM results")
        )
        connection.execute("UPDATE trials SET seconds = 3 WHERE trial = 0")
        connection.commit()
    with pytest.raises(ValueError, match="a checksum of trials does not match"):
        studies.status(tmp_path)


@pytest.mark.parametrize(
    "name", ["driver.lock", "workers.log", "cache", "study.sqlite", "study.sqlite-wal", "config.json"]
)
def test_links_are_not_followed(tmp_path, name):
    folder, outside = tmp_path / "study", tmp_path / "outside"
    studies.run(tiny(folder), studies.Local(workers=1))
    outside.mkdir()
    path = folder / name
    if name == "study.sqlite":
        path.rename(outside / "store")
    path.unlink(missing_ok=True)
    path.symlink_to({"cache": outside, "study.sqlite": outside / "store"}.get(name, outside / "file"))
    before = sorted(outside.iterdir())
    runner = studies.Local(workers=1, log=folder / "workers.log")
    with pytest.raises(ValueError, match=rf"study/{name} is a symbolic link"):
        studies.run(tiny(folder, trials=5), runner)
    with contextlib.suppress(ValueError):
        studies.status(folder)
    assert sorted(outside.iterdir()) == before


def test_a_status_makes_no_file(tmp_path):
    studies.run(tiny(tmp_path), studies.Local(workers=1))
    before = {path.name for path in tmp_path.iterdir()}
    assert "driver.lock" not in before
    studies.status(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_damaged_rows_of_the_cache_are_made_again(tmp_path):
    shared, path = cache.Cache(tmp_path / "cache"), None
    for change in (None, b"", b"[]", b'{"value": 3}', b'{"value": 1, "sha256": "0"}', b"\xff"):
        if change is not None:
            path.write_bytes(change)
        assert shared.get("victims", "key", lambda: {"epsilon": math.inf}, trial._write, trial._read)[1]
        path = shared.path("victims", "key")
        assert shared.get("victims", "key", pytest.fail, trial._write, trial._read) == ({"epsilon": math.inf}, False)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte, and a function that makes room on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting takes root")
    try:
        yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_one_line_and_the_study_resumes(small_disk):
    disk, make_room = small_disk
    whole = tiny(disk / "study", points=2, trials=300)
    studies.run(tiny(disk / "study", points=2, trials=1), studies.Local(workers=1))
    (disk / "filler").write_bytes(b"1" * (shutil.disk_usage(disk).free - 60_000))
    with pytest.raises(OSError, match=r"No space left|full disk") as error:
        studies.run(whole, studies.Local(workers=1))
    assert str(error.value.filename).startswith(str(disk / "study"))
    make_room()
    counts = studies.run(whole, studies.Local(workers=1))
    assert counts == {"waiting": 0, "running": 0, "done": 600, "failed": 0} and len(results(disk / "study")) == 600


def test_a_trial_that_finds_the_disk_full_has_not_failed(tmp_path):
    whole = moody(tmp_path, "full", "")
    with pytest.raises(OSError, match="No space left on device") as error:
        studies.run(whole, studies.Local(workers=1))
    assert error.value.filename == str(tmp_path / "cache")
    with studies.Store(tmp_path) as kept:
        assert kept.counts()["failed"] == 0
    (tmp_path / "mended").touch()
    assert studies.run(whole, studies.Local(workers=1))["done"] == 2


def test_an_export_reads_each_result_once(finished, monkeypatch):
    parsed, loads = [], strict_json.loads
    monkeypatch.setattr(strict_json, "loads", lambda text, **options: parsed.append(text) or loads(text, **options))
    studies.export(finished)
    assert len(pd.read_csv(finished / "victims.csv")) == 24
    assert sum('"rows"' in text for text in parsed if isinstance(text, str)) == 12


@pytest.mark.slow
def test_two_thousand_points_are_exported_in_a_minute(tmp_path):
    folder = made(tmp_path / "study", 2000, 10)
    start = time.monotonic()
    studies.export(folder)
    seconds = time.monotonic() - start
    print(f"{seconds:.1f} s")
    assert seconds < 60 and len(pd.read_csv(folder / "results.csv")) == 2001
