"""Studies of small trial functions: what is kept, gone on with, tried again and refused."""

import importlib.util
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest

from tfshape import studies
from tfshape.studies import cache, driver, study

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def path_of_helpers(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))


def tiny(folder, points=3, trials=4, **config):
    seeds = ({"seed": seed, "seconds": 0.0, **config} for seed in range(points))
    return studies.Study(
        folder, tuple(studies.Point(c, trials, {"seed": c["seed"]}) for c in seeds), "studies_helpers:tiny"
    )


def moody(folder, *moods):
    return studies.Study(folder, (studies.Point({"moods": list(moods)}, len(moods)),), "studies_helpers:moody")


def results(folder):
    with studies.Store(folder) as store:
        assert store.check() == "ok"
        return list(store.results())


def errors(folder):
    with studies.Store(folder) as store:
        return {row["trial"]: row["error"] for row in store.trials("failed")}


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it goes while it is read
        return False


def test_rows_files_and_going_on(tmp_path):
    seen = []
    counts = studies.run(tiny(tmp_path), studies.Local(workers=2), progress=lambda *args: seen.append(args))
    assert counts == {"waiting": 0, "running": 0, "done": 12, "failed": 0}
    first = results(tmp_path)
    assert [(point, trial) for point, trial, _ in first] == [(p, t) for p in range(3) for t in range(4)]
    assert len({result["mean"] for _, _, result in first}) == 12
    assert seen[0][:2] == (0, 12) and seen[-1][:2] == (12, 12) and "0 failed" in seen[-1][2]
    frame, parquet = pd.read_csv(tmp_path / "trials.csv"), pd.read_parquet(tmp_path / "trials.parquet")
    assert list(frame["grid.seed"]) == [0] * 4 + [1] * 4 + [2] * 4 and frame["status"].eq("done").all()
    assert frame["mean"].tolist() == pytest.approx([result["mean"] for _, _, result in first])
    assert frame["key"].tolist() == parquet["key"].tolist() and frame["key"].nunique() == 12
    config = json.loads((tmp_path / "config.json").read_text())
    assert len(config["points"]) == 3 and config["versions"]["tfshape"]

    assert studies.known(tiny(tmp_path)) and not studies.known(tiny(tmp_path, points=4))
    again = []
    studies.run(tiny(tmp_path), studies.Local(workers=1), progress=lambda *args: again.append(args))
    assert not again and results(tmp_path) == first
    counts = studies.run(tiny(tmp_path, points=4, trials=5), studies.Local(workers=1))  # more of the same
    assert counts["done"] == 20 and set(map(str, first)) <= set(map(str, results(tmp_path)))


def test_other_studies_are_refused_and_leave_no_trace(tmp_path, monkeypatch):
    studies.run(tiny(tmp_path, points=2), studies.Local(workers=1))
    before = results(tmp_path)
    with pytest.raises(ValueError, match=r"^study=.*holds another study"):
        studies.run(tiny(tmp_path, points=1), studies.Local(workers=1))
    monkeypatch.setattr(study, "RESULTS", 99)
    with pytest.raises(ValueError, match=r"^study=.*or of a tfshape whose trials give other numbers"):
        studies.run(tiny(tmp_path, points=2), studies.Local(workers=1))
    monkeypatch.undo()
    monkeypatch.setattr("tfshape.__version__", "9.9.9")  # such as a patch release
    assert studies.run(tiny(tmp_path, points=2), studies.Local(workers=1))["done"] == len(before)
    assert results(tmp_path) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "study.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(ValueError, match=r"study\.sqlite is damaged: .*; restore it from a copy"):
        studies.status(tmp_path / "other")
    with pytest.raises(ValueError, match=r"^study must be a folder that bin/sweep wrote.*, got "):
        studies.status(tmp_path / "none")


def test_keys_are_of_the_configuration_the_data_and_the_trial(tmp_path):
    def key(config, trial, inputs=("a", "a"), function="m:f"):
        point = studies.Point(config, 2, inputs=inputs)
        return studies.Study(tmp_path, (point,), function).key(point, trial)

    same = key({"a": 1, "b": 2.5}, 0)
    assert same == key({"b": 2.5, "a": 1}, 0)
    others = [
        key({"a": 1, "b": 2.5}, 1),
        key({"a": 1, "b": 2}, 0),
        key({"a": 1, "b": 2.5}, 0, inputs=("b", "a")),
        key({"a": 1, "b": 2.5}, 0, function="m:g"),
    ]
    assert len({same, *others}) == 5


def test_failures_are_recorded_and_stop_nothing(tmp_path):
    study = moody(tmp_path, "", "fail", "die once", "", "die")
    counts = studies.run(study, studies.Local(workers=2))
    assert counts == {"waiting": 0, "running": 0, "done": 3, "failed": 2}
    assert [trial for _, trial, _ in results(tmp_path)] == [0, 2, 3]
    failed = errors(tmp_path)
    assert failed[1].startswith("RuntimeError: trial 1 is moody\nTraceback") and "in moody" in failed[1]
    assert failed[4] == "its worker ended with code 3, 3 times"
    tries = (tmp_path / "tries").read_text().split()
    assert [tries.count(str(trial)) for trial in range(5)] == [1, 1, 2, 1, 3]
    text = studies.status(tmp_path)
    assert "5 of 5 trials over: 3 done, 2 failed" in text and "trial 1 failed: RuntimeError: trial 1 is moody" in text

    (tmp_path / "mended").touch()
    assert studies.run(study, studies.Local(workers=1))["failed"] == 2  # nothing is tried again unasked
    assert studies.run(study, studies.Local(workers=1), retry_failed=True)["done"] == 4
    assert list(errors(tmp_path)) == [4]


def test_a_worker_that_takes_too_much_memory_is_ended(tmp_path):
    counts = studies.run(moody(tmp_path, "grow", ""), studies.Local(workers=1, memory=0.25))
    assert counts["done"] == 1
    assert errors(tmp_path) == {0: "its worker took more than its share of the memory, 0.2 GB, 3 times"}


def test_two_drivers_of_one_folder(tmp_path):
    study = tiny(tmp_path, points=1, trials=3, seconds=0.5)
    first = threading.Thread(target=studies.run, args=(study, studies.Local(workers=1)))
    first.start()
    while not (tmp_path / "study.sqlite").exists() or "at work" not in studies.status(tmp_path):
        time.sleep(0.02)
    with pytest.raises(ValueError, match=r"^study=.* is in use by another run \(pid \d+ on "):
        studies.run(study, studies.Local(workers=1))
    first.join()
    assert len(results(tmp_path)) == 3 and "at work" not in studies.status(tmp_path)


def test_a_study_can_be_looked_at_the_moment_it_is_there(tmp_path, monkeypatch):
    looking, replace = [], os.replace

    def put_and_look(source, target):
        replace(source, target)
        looking.append(sqlite3.connect(target, isolation_level=None))
        looking[0].execute("BEGIN")
        assert looking[0].execute("SELECT count(*) FROM trials").fetchone() == (0,)  # and the lock is held

    monkeypatch.setattr(os, "replace", put_and_look)
    with studies.Store(tmp_path, create=True) as store:
        store.note(words="written while another reads")
        assert store.about("words") and looking[0].execute("SELECT count(*) FROM study").fetchone() == (1,)
    looking[0].close()


def test_workers_end_with_their_driver(tmp_path):
    code = (
        "import os, sys\nfrom tfshape import studies\n"
        "point = studies.Point({'seed': 0, 'seconds': 60}, 2)\n"
        "runner = studies.Local(workers=2)\n"
        "def tell(done, total, words):\n    print(*runner.pids(), flush=True)\n"
        "studies.run(studies.Study(sys.argv[1], (point,), 'studies_helpers:tiny'), runner, progress=tell)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    process.kill()
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 20
    while any(map(alive, pids)):
        assert time.monotonic() < end
        time.sleep(0.05)
    with studies.Store(tmp_path) as store:
        assert store.counts()["running"] == 2
    assert "2 waiting, no driver at work" in studies.status(tmp_path)


def test_first_come_the_trials_that_share_nothing(tmp_path):
    groups = ["a", "a", "b"]
    points = tuple(studies.Point({"n": n}, 2, group=group) for n, group in enumerate(groups))
    study = studies.Study(tmp_path, points, "studies_helpers:nothing")
    with studies.Store(tmp_path, create=True) as store:
        tasks = driver._tasks(study, store, store.plan(study), 1)
    assert [(task["config"]["n"], *task["trials"]) for task in tasks] == [
        (0, 0),
        (0, 1),
        (2, 0),
        (2, 1),
        (1, 0),
        (1, 1),
    ]


def test_the_cache_makes_a_thing_once_and_mends_what_is_damaged(tmp_path):
    shared, made = cache.Cache(tmp_path), []

    def get():
        def make():
            time.sleep(0.2)
            made.append(1)
            return "value"

        return shared.get("kind", ["key"], make, lambda path, value: path.write_text(value), load)

    def load(path):
        if path.read_text() != "value":
            raise ValueError("damaged")
        return path.read_text()

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and get() == ("value", False)
    shared.path("kind", ["key"]).write_text("rubbish")
    assert get() == ("value", True) and len(made) == 2
    assert {path.suffix for path in (tmp_path / "kind").iterdir()} == {""}  # no locks are left


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": 1.5},
        {"workers": 1000},  # of which none had the memory to run a trial
        {"workers": 2, "memory": 0.5},
        {"memory": 0},
        {"memory": -1},
        {"memory": float("nan")},
        {"memory": 1e308},
    ],
)
def test_runners_that_cannot_be(options):
    with pytest.raises(ValueError, match=r"^(workers|memory) must be .*, got "):
        studies.Local(**options)


def test_ray_is_an_extra():
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(ValueError, match=r"^runner must be 'local' where Ray is not installed .*, got 'ray'$"):
            studies.OnRay()
    else:
        with pytest.raises(ValueError, match=r"^workers must be None for a running cluster, got 2$"):
            studies.OnRay(address="auto", workers=2)


@pytest.mark.slow
def test_ten_thousand_trials_cost_little(tmp_path):
    """Times are printed, not judged; what they were stands in docs/studies.md."""
    points = tuple(studies.Point({"seed": seed}, 1000) for seed in range(10))
    study = studies.Study(tmp_path, points, "studies_helpers:nothing")
    times = [time.perf_counter()]
    assert studies.run(study, studies.Local(workers=2))["done"] == 10_000
    times.append(time.perf_counter())
    assert "10000 of 10000 trials over" in studies.status(tmp_path)
    times.append(time.perf_counter())
    assert studies.run(study, studies.Local(workers=2))["done"] == 10_000
    times.append(time.perf_counter())
    run, status, resume = (after - before for before, after in zip(times, times[1:]))
    print(f"{run / 10:.2f} ms a trial; status {status:.3f} s; resume {resume:.3f} s")
