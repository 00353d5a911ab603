"""`python -m tfshape audit` as a user types it."""

import json
import pathlib

import forked
import pytest

pytestmark = pytest.mark.one_stack

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = ["--canaries=100", "--steps=200", "--runs=30"]


def run(cwd, *flags):
    return forked.run(cwd, "audit", *flags)


def test_prints_a_table_and_writes_json(tmp_path):
    done = run(tmp_path, *QUICK, "--canary=all", "--noise=2", "--output=new/found.json", "--confidence=0.999")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "lr on fashion_mnist_mini, clip(1.0)|noise(2.0)" in lines[0] and "0.999 confidence" in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["training", "sum", "layers", "reuse", "clipbkd"]
    assert all(line.endswith("not refuted") for line in lines[2:])
    findings = json.loads((tmp_path / "new" / "found.json").read_text())["findings"]
    assert len(findings) == 5
    assert all(0 <= found["lower"] <= found["claimed"] and found["violated"] is False for found in findings)


@pytest.mark.parametrize(
    "flags",
    [
        ["--noise=0"],
        ["--clip=-1"],
        ["--delta=1"],
        ["--confidence=0"],
        ["--canaries=3"],
        ["--steps=3"],
        ["--runs=3"],
        ["--canary=pixel"],
        ["--model=vgg"],
        ["--dataset=fashion"],
        ["--seed=-1"],
        ["--output=/proc/found.json"],
        ["--nois=1"],
        ["stray"],
    ],
)
def test_bad_values_end_in_one_line(flags, tmp_path):
    done = run(tmp_path, *flags)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    name = flags[0].lstrip("-").partition("=")[0]
    assert name in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_logistic_regression_in_five_minutes(tmp_path):
    import time

    for noise in (0.5, 1, 2):
        start = time.monotonic()
        done = run(tmp_path, f"--noise={noise}", f"--output={noise}.json", "--confidence=0.99")
        assert done.returncode == 0, done.stdout + done.stderr
        assert time.monotonic() - start < 300
    findings = {found["game"]: found for found in json.loads((tmp_path / "0.5.json").read_text())["findings"]}
    assert findings["sum"]["lower"] >= findings["sum"]["claimed"] / 3
