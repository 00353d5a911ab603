"""`python -m tfshape evaluate` as a user types it."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import forked
import pandas as pd
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNLIKE = ("seconds", "crafting_seconds", "sha256")
BROKEN = """
import dataclasses
import tfshape as ts
from tfshape import seeds

@ts.attacks.register
@dataclasses.dataclass(frozen=True)
class Broken(ts.attacks.Attack):
    name = "broken"
    kind = "indiscriminate"

    def craft(self, problem):
        1 / (problem.seed - seeds.derive(0, 1, "poison"))
        return self.poisons(problem, problem.dataset.train.x[:1], [0], problem.dataset.train.y[:1])
"""
QUICK = ["--attack=label_flip", "--budget=0.4", "--model=lr", "--epochs=1", "--trials=1"]


def command(*flags):
    return [sys.executable, "-m", "tfshape", "evaluate", *flags]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(cwd, *flags):
    return forked.run(cwd, "evaluate", *flags)


def test_label_flip_prints_one_table_and_writes_its_files(tmp_path):
    done = subprocess.run(command(*QUICK), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "2,400 of 6,000" in lines[0]
    assert lines[1].split()[0] == "defense" and "epsilon" in lines[1]
    assert lines[2].split()[0] == "none" and lines[3].split()[0] == "clip(1.0)|noise(1.0)"
    assert "batches drawn by Poisson sampling" in done.stdout and "for them epsilon is inf" in done.stdout
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name.endswith("-label_flip")
    files = {path.name for path in folder.iterdir()}
    assert files == {"cache", "config.json", "figure.png", "poisons", "results.csv", "trials.jsonl", "workers.log"}
    assert done.stderr.splitlines()[-1].startswith("1/1 after")

    again = run(tmp_path, *QUICK, "--output_dir=again", "--quiet")
    assert again.returncode == 0 and again.stderr == ""
    first, second = (pd.read_csv(path / "results.csv").drop(columns="seconds") for path in (folder, tmp_path / "again"))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    "flags",
    [
        ["--attack=gradient_machting"],
        ["--attack=gradient_matching(restarts=0)"],
        ["--dataset=fashion"],
        ["--model=vgg"],
        ["--budget=2"],
        ["--budget=abc"],
        ["--clip=-1"],
        ["--noise=-1"],
        ["--trials=0"],
        ["--optimizer=lion king"],
        ["--engine=warp"],
        ["--shaping=clop"],
        ["--defense=klip(1)"],
        ["--num_poisons=1,x"],
        ["--num_poisons=6001"],
        ["--epsilon=-3"],
        ["--sampling=lottery"],
        ["--knowledge=crystal"],
        ["--finetune_examples=10"],
        ["--poisons=nowhere"],
        ["--attack=slab"],
        ["--scenario=scratchy"],
        ["--target_rule=nearest"],
        ["--num_microbatches=7", "--engine=tensorflow_privacy"],
        ["--classes=3,x"],
        ["--data_dir=/nowhere/at/all", "--dataset=mnist"],
        ["--output_dir=/proc/nowhere"],
        ["stray"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, flags):
    done = run(tmp_path, *flags)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("evaluate: "), done.stderr
    name, _, value = flags[0].lstrip("-").partition("=")
    assert name in done.stderr and value in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_flag_is_named_with_the_one_that_was_meant(tmp_path):
    done = run(tmp_path, "--budgett=0.1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "'--budgett'" in done.stderr and "Did you mean 'budget'?" in done.stderr


def test_output_dir_without_write_permission(tmp_path):
    """A file where the folder should be: also root, whom permissions do not stop, cannot write there."""
    (tmp_path / "file").write_text("")
    done = run(tmp_path, *QUICK, "--output_dir=file/inside")
    assert done.returncode == 2 and done.stderr.startswith("evaluate: output_dir must be a writable folder")


def test_interrupt_keeps_finished_trials_and_the_same_command_goes_on(tmp_path):
    flags = [*QUICK, "--trials=3", "--output_dir=out"]
    process = subprocess.Popen(command(*flags), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    trials = tmp_path / "out" / "trials.jsonl"
    deadline = time.monotonic() + 120
    while not (trials.exists() and trials.read_text().count("\n") > 1) and time.monotonic() < deadline:
        time.sleep(0.02)  # a line that is not yet on the disk is taken back
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in stderr
    kept = [json.loads(line) for line in trials.read_text().splitlines()]
    assert 1 <= len(kept) < 12
    assert run(tmp_path, *flags).returncode == 0
    rows = [json.loads(line) for line in trials.read_text().splitlines()]
    assert rows[: len(kept)] == kept
    assert len({(row["trial"], row["defense"], row["data"]) for row in rows}) == len(rows) == 12


def rows_of(folder):
    """The rows of a run without what differs from one to the next, in order."""
    rows = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name not in UNLIKE} for row in rows]
    return sorted(kept, key=lambda row: (row["trial"], row["defense"], row["data"]))


def test_the_numbers_do_not_depend_on_the_workers(tmp_path):
    for count in (1, 2):
        assert run(tmp_path, *QUICK, "--trials=3", f"--workers={count}", f"--output_dir={count}").returncode == 0
    assert rows_of(tmp_path / "1") == rows_of(tmp_path / "2") and len(rows_of(tmp_path / "1")) == 12


def test_a_trial_that_fails_costs_no_other_and_ends_with_its_traceback(tmp_path):
    (tmp_path / "mine.py").write_text(BROKEN)
    done = run(tmp_path, *QUICK, "--trials=3", "--import=mine.py", "--attack=broken", "--output_dir=out")
    assert done.returncode == 1 and "evaluate: trial 1 failed: ZeroDivisionError" in done.stderr
    assert 'mine.py", line' in done.stderr
    assert {row["trial"] for row in rows_of(tmp_path / "out")} == {0, 2}


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_repeat_nothing(tmp_path):
    flags, chance, kills = [*QUICK, "--trials=60", "--quiet", "--output_dir=killed"], random.Random(3), 0
    while True:
        process = subprocess.Popen(command(*flags), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
        try:
            _, errors = process.communicate(timeout=chance.uniform(2, 14) if kills < 20 else 600)
            assert process.returncode == 0 and kills >= 15, (errors, kills)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert run(tmp_path, *QUICK, "--trials=60", "--quiet", "--output_dir=whole").returncode == 0
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")
    names = [sorted(path.name for path in (tmp_path / name / "poisons").iterdir()) for name in ("killed", "whole")]
    assert names[0] == names[1] == [f"trial-{trial:03}.npz" for trial in range(60)]


def test_help_names_the_flags_and_flagfiles_work(tmp_path):
    short, full = run(tmp_path, "--help"), run(tmp_path, "--helpfull")
    assert short.returncode == full.returncode == 0
    for words in ("--attack", "--noise", "bin/evaluate --attack=gradient_matching", "--[no]controls", "--[no]quiet"):
        assert words in short.stdout and words in full.stdout
    assert "--flagfile" in full.stdout and "--flagfile:" not in short.stdout
    configs = sorted((ROOT / "configs").rglob("*.flags"))
    assert configs
    binaries = {"analysis": "analyze", "sweep": "sweep"}  # by folder
    for path in configs:
        binary = binaries.get(path.parent.name, "evaluate")
        done = forked.run(tmp_path, binary, f"--flagfile={path}", "--help")
        assert done.returncode == 0, done.stderr
    (tmp_path / "own.flags").write_text("--budget=2\n")
    assert "budget must be a number > 0 and <= 1, got 2.0" in run(tmp_path, "--flagfile=own.flags").stderr


def test_targeted_attack_from_the_command_line(tmp_path):
    attack = "--attack=gradient_matching(steps=3, ensemble=1, checkpoints=1, retrain=0)"
    done = run(tmp_path, attack, "--model=lr", "--trials=1", "--epochs=1", "--output_dir=out", "--dataset=digits")
    assert done.returncode == 0, done.stderr
    assert "attack success rate" in done.stdout and "runner_up" in done.stdout
    assert len(list((tmp_path / "out" / "poisons").iterdir())) == 1
