"""`python -m tfshape report` as a user types it; of a study see test_sweep_cli.py."""

import forked
import pytest

import tfshape as ts


def run(cwd, *flags):
    return forked.run(cwd, "report", *flags)


@pytest.mark.slow
def test_a_report_of_an_evaluation(tmp_path):
    experiment = ts.Experiment(attack="badnets", dataset="digits", model="mlp", epochs=2, trials=2, budget=0.1)
    ts.evaluate(experiment, tmp_path / "results")
    done = run(tmp_path, "results", "--output_dir=page")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "written: page/report.html, page/report.md, page/report.csv\n"
    text = (tmp_path / "page" / "report.html").read_text("utf-8")
    assert "bin/evaluate --attack=badnets --dataset=digits" in text and "Poison to look at" in text
    assert text.count("<img ") == 6 * 3 + 1


@pytest.mark.parametrize("flags", [[], ["nowhere"], ["--study=nowhere"], ["one", "two"]])
def test_what_is_not_allowed_is_one_line(tmp_path, flags):
    done = run(tmp_path, *flags)
    assert done.returncode == 2 and done.stdout == "" and not list(tmp_path.iterdir())
    assert done.stderr.startswith("report: ") and done.stderr.count("\n") == 1
