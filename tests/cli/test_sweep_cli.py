"""`python -m tfshape sweep` as a user types it."""

import pandas as pd
import pytest
from forked import run

from tfshape import studies
from tfshape.evaluation import Experiment

QUICK = ["--dataset=digits", "--attack=label_flip", "--budget=0.4", "--model=lr", "--epochs=1", "--trials=1"]
GRID = ["--grid=shaping=clip(1.0),clip(1.0)|noise(0.1)"]


def test_a_study_is_run_told_of_gone_on_with_and_reported(tmp_path):
    done = run(tmp_path, "sweep", *QUICK, *GRID, "--output_dir=study", "--workers=1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "defense" in lines[0] and " none " in lines[1] and " clip(1.0) " in lines[2]
    assert done.stderr.splitlines()[-1].startswith("2/2 after") and "0 failed" in done.stderr
    frame = pd.read_csv(tmp_path / "study" / "results.csv")
    assert frame["defense"].tolist() == ["none", "clip(1.0)", "clip(1.0)|noise(0.1)"]

    status = run(tmp_path, "sweep", "--status", "study")
    assert status.returncode == 0 and status.stdout == "study: 2 of 2 trials over: 2 done, 0 failed\n"
    other = run(tmp_path, "sweep", *QUICK, "--grid=shaping=clip(2.0)", "--output_dir=study")
    assert other.returncode == 2 and other.stderr.count("\n") == 1 and "another study" in other.stderr

    report = run(tmp_path, "report", "study")
    assert report.returncode == 0, report.stderr
    assert {path.name for path in (tmp_path / "study" / "report").iterdir()} == {
        "report.html",
        "report.md",
        "report.csv",
    }
    text = (tmp_path / "study" / "report" / "report.html").read_text("utf-8")
    assert "bin/evaluate --attack=label_flip" in text and "Gradient artifacts" in text and "data:image/png" in text


def test_stored_errors_and_names_of_folders_are_printed_escaped(tmp_path):
    folder = tmp_path / "a\x1b[2Jb"
    folder.mkdir()
    with studies.Store(folder, create=True) as store:
        store.plan(studies.experiments(folder, [({}, Experiment(dataset="digits", trials=1))]))
        (row,) = store.trials()
        store.save(started=[row["key"]], failed=[(row["key"], 1.0, "bo\x1b[31mom\u202e")])
    done = run(tmp_path, "sweep", f"--status={folder.name}")
    assert done.returncode == 0
    first, second, third = done.stdout.splitlines()
    assert first.startswith("a\\x1b[2Jb: 1 of 1 trials")
    assert second == "point 0 trial 0 failed: bo\\x1b[31mom\\u202e"
    assert third.startswith("bin/sweep with --retry_failed")


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--output_dir=study", "--grid=nose=1"],
        ["--output_dir=study", "--grid=noise=0,-1"],
        ["--output_dir=study", "--workers=0"],
        ["--output_dir=study", "--workers=1000"],
        ["--output_dir=study", "--memory=1e308"],
        ["--output_dir=study", "--stack=0"],
        ["--output_dir=study", "--runner=ray", "--memory=1"],
        ["--output_dir=study", "--address=auto"],
        ["--status=study"],
    ],
)
def test_what_is_not_allowed_is_one_line_and_nothing_is_written(tmp_path, flags):
    done = run(tmp_path, "sweep", *QUICK, *flags)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("sweep: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_study_whose_every_trial_failed_exits_1(tmp_path):
    done = run(tmp_path, "sweep", *QUICK, "--output_dir=study", "--workers=1", "--memory=0.1")
    assert done.returncode == 1, done.stderr
    assert "0 done, 1 failed" in done.stdout and "more than its share of the memory" in done.stdout
