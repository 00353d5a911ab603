"""`bin/benchmark --suite=shaping`, end to end on its smallest grid, and what it makes of times."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pandas as pd
import pytest

from tfshape.benchmarks import report, shaping

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = ("--models=lr", "--batch_sizes=8", "--blocks=2", "--block_seconds=0.02")
COLUMNS = [
    *("schema", "model", "parameters", "batch_size", "variant", "status", "detail"),
    *("milliseconds", "milliseconds_low", "milliseconds_high", "microseconds_per_example"),
    *("ratio", "ratio_low", "ratio_high", "peak_mb", "memory_ratio", "training_mb"),
    *("first_step_seconds", "blocks", "steps_per_block"),
]


def run(cwd, *flags):
    command = [sys.executable, "-m", "tfshape", "benchmark", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)


def measured(folder):
    frame = pd.read_csv(folder / "benchmark.csv")
    assert list(frame.columns) == COLUMNS
    assert (frame["status"] == "ok").all(), frame[["variant", "status", "detail"]]
    assert (frame["parameters"] == frame["parameters"][0]).all()
    for name in ("milliseconds", "ratio", "microseconds_per_example", "training_mb", "first_step_seconds"):
        assert (frame[name] > 0).all()
    assert (frame["blocks"] == 2).all() and (frame["steps_per_block"] >= 1).all()
    assert (frame["milliseconds_low"] <= frame["milliseconds"]).all()
    assert (frame["ratio"] <= frame["ratio_high"]).all()
    return frame.set_index("variant")


@pytest.mark.slow
def test_the_smallest_benchmark_writes_its_table_figure_and_configuration(tmp_path):
    done = run(tmp_path, *QUICK, "--peers=", "--output_dir=out")
    assert done.returncode == 0, done.stderr
    frame = measured(tmp_path / "out")
    assert list(frame.index) == ["sgd", "tfshape"]
    assert frame.loc["sgd", "ratio"] == frame.loc["sgd", "memory_ratio"] == 1
    assert frame["parameters"].tolist() == [7850, 7850] and (frame["peak_mb"] > 100).all()
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["model", "batch", "variant"]
    assert "Keras SGD" in lines[1] and "tfshape clip|noise" in lines[2]
    assert done.stderr.splitlines()[-1].startswith("6/6 after")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["settings"]["batch_sizes"] == [8] and config["cpus"] >= 1 and config["versions"]["tensorflow"]
    assert (tmp_path / "out/benchmark.png").read_bytes()[:4] == b"\x89PNG"

    again = run(tmp_path, *QUICK, "--peers=", "--output_dir=out")
    assert again.returncode == 2 and "holds another benchmark" in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp:32", "text"])
def test_all_of_keras_side_by_side(tmp_path, model):
    done = run(tmp_path, *QUICK, f"--models={model}", "--output_dir=out")
    assert done.returncode == 0, done.stderr
    frame = measured(tmp_path / "out")
    expected = ["sgd", "tfshape"]
    if importlib.util.find_spec("tensorflow_privacy"):
        expected += ["tfp_looped", "tfp_vectorized", "tfp_dpmodel", "tfp_registry"]
    assert list(frame.index) == expected


@pytest.mark.parametrize(
    "flags",
    [
        ["--models=vgg"],
        ["--batch_sizes=64,x"],
        ["--peers=opacus"],
        ["--jax_python=" + sys.executable],
        ["--suite=speed"],
        ["--timeout=9", "--suite=poison"],
        ["--output_dir=/dev/null/x"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, flags):
    done = run(tmp_path, *flags)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("benchmark: "), done.stderr
    name, _, value = flags[0].lstrip("-").partition("=")
    assert name in done.stderr and value in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("models", ("mlp:0",)),
        ("models", ("lr:3",)),
        ("models", ()),
        ("batch_sizes", (64, 0)),
        ("peers", ("pytorch",)),
        ("steps_per_execution", 0),
        ("blocks", 1),
        ("block_seconds", 0.0),
        ("timeout", float("nan")),
        ("memory_limit_gb", -1.0),
    ],
)
def test_settings_that_are_not_allowed(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got "):
        shaping.Settings(**{name: value})


def test_an_interpreter_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"^opacus_python must be a Python that has torch, opacus, got "):
        shaping.Settings(opacus_python="/nowhere/python").interpreters()


def finished(variant, seconds, steps=10, peak_mb=200.0, **more):
    facts = {"parameters": 5, "start_mb": 100.0, "peak_mb": peak_mb, "first_step_seconds": 3.0}
    return shaping.Run(variant, None, steps, facts, dict(enumerate(seconds)), **more)


def test_ratios_pair_the_blocks_of_a_round():
    plain = finished(shaping.OURS[0], [0.010, 0.020, 0.040])  # a machine that slows down
    ours = finished(shaping.OURS[1], [0.015, 0.030, 0.060], peak_mb=220.0)
    row = shaping.row("lr", 8, ours, plain)
    assert row["ratio"] == row["ratio_low"] == row["ratio_high"] == pytest.approx(1.5)
    assert row["milliseconds"] == pytest.approx(30) and row["milliseconds_low"] == pytest.approx(22.5)
    assert row["microseconds_per_example"] == pytest.approx(3750)
    assert row["memory_ratio"] == pytest.approx(1.1) and row["training_mb"] == pytest.approx(120)
    assert row["blocks"] == 3 and list(row) == COLUMNS


def test_every_variant_has_a_marker_of_its_own():
    assert report._MARKERS.keys() == shaping.LABELS.keys() and len(set(report._MARKERS.values())) == len(shaping.LABELS)


def test_what_did_not_finish_has_no_times():
    plain = finished(shaping.OURS[0], [0.01, 0.01])
    gone = finished(shaping.OURS[1], [0.5], status="out of memory", detail="held 12.1 GB")
    row = shaping.row("lr", 8, gone, plain)
    assert row["milliseconds"] is None and row["ratio"] is None and row["memory_ratio"] is None and row["blocks"] == 0
    assert "out of memory" in report.table([shaping.row("lr", 8, plain, plain), row])
    alone = shaping.row("lr", 8, finished(shaping.OURS[1], [0.5, 0.5]), finished(shaping.OURS[0], [], status="timeout"))
    assert alone["milliseconds"] == 500 and alone["ratio"] is None


def test_a_variant_that_fails_leaves_the_others(tmp_path, monkeypatch):
    """On a worker that fails for one variant, with `measure` itself."""
    (tmp_path / "keras_worker.py").write_text(
        f"import sys; sys.path.insert(0, {str(shaping.WORKERS)!r})\n"
        "from protocol import serve\n"
        "class Trainer:\n"
        "    parameters, detail = 1, ''\n"
        "    def __init__(self, model, variant, batch_size, steps_per_execution):\n"
        "        self.blocks, self.fails = 0, variant == 'tfshape'\n"
        "    def train(self, steps):\n"
        "        self.blocks += 1\n"
        "        if self.fails and self.blocks > 4: raise RuntimeError('broken')\n"
        "        return 0.001 * steps\n"
        "serve(Trainer)\n"
    )
    monkeypatch.setattr(shaping, "WORKERS", tmp_path)
    saved, told = [], []
    settings = shaping.Settings(models=("lr",), batch_sizes=(2, 4), peers=(), blocks=3, block_seconds=0.1)
    rows = shaping.measure(settings, lambda *words: told.append(words), lambda rows: saved.append(len(rows)))
    assert [row["status"] for row in rows] == ["ok", "failed"] * 2
    assert rows[1]["detail"].endswith("RuntimeError: broken") and rows[0]["milliseconds"] == pytest.approx(1)
    assert rows[0]["steps_per_block"] == 100 and rows[0]["blocks"] == 3
    assert saved == [2, 4] and told[-1][:2] == (16, 16)
    report.draw(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
