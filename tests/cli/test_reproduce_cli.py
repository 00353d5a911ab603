"""`python -m tfshape reproduce` as a user types it, on the embedded part of Fashion-MNIST."""

import pathlib

import forked
import pandas as pd
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = ["--table=indiscriminate", "--dataset=fashion_mnist_mini", "--rates=0.1", "--seeds=2"]


def run(cwd, *flags):
    return forked.run(cwd, "reproduce", *flags)


def test_the_table_is_printed_written_and_gone_on_with(tmp_path):
    done = run(tmp_path, *QUICK)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "indiscriminate"
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "report.txt",
        "slab.csv",
        "summary.csv",
        "trials.csv",
    }
    trials = pd.read_csv(folder / "trials.csv", keep_default_na=False)
    assert len(trials) == 3 * 2 * 9  # clean, flips and slab; two seeds; nine defenses
    assert not trials.duplicated(["attack", "rate", "defense", "seed"]).any()
    counts = trials.groupby("attack")["num_examples"].first().to_dict()
    assert counts == {"clean": 1080, "label_flip": 1188, "slab": 1188}
    assert (trials["best"] >= trials["last"]).all() and trials["last"].between(0.7, 1).all()
    noisy = trials["defense"].str.contains("noise")
    assert (trials.loc[noisy, "epsilon"].astype(float) < 1e10).all()
    assert (trials.loc[~noisy, "epsilon"].astype(float) == float("inf")).all()
    slab = pd.read_csv(folder / "slab.csv")
    assert slab["passes"].tolist() == [1.0] and 0 < slab["loss_bound"][0] < 1.1
    cell = trials[(trials["attack"] == "slab") & (trials["defense"] == "none")]
    for words in ("0.9315", "0.954", "pass both filters", "100.0%", f"{cell['best'].mean():.4f}±", "allowed"):
        assert words in done.stdout

    lines = (folder / "trials.csv").read_text().splitlines(keepends=True)
    (folder / "trials.csv").write_text("".join(lines[: 1 + 9 * 3]))  # as after a kill while the second seed's ran
    again = run(tmp_path, *QUICK, "--quiet")
    assert again.returncode == 0 and again.stderr == ""
    pd.testing.assert_frame_equal(pd.read_csv(folder / "trials.csv", keep_default_na=False), trials)
    assert done.stdout.startswith(again.stdout)

    other = run(tmp_path, *QUICK[:-1], "--seeds=3", "--output_dir=results/indiscriminate")
    assert other.returncode == 2 and "output_dir" in other.stderr and other.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--table=targeted"], "targeted"),
        ([], "table"),
        ([*QUICK[:2], "--rates=x"], "rates=x"),
        ([*QUICK[:2], "--rates=2"], "rates"),
        ([*QUICK[:3], "--seeds=1"], "seeds=1"),
        (["--table=indiscriminate", "--dataset=fashion"], "fashion"),
        (["--table=indiscriminate", "--output_dir=/proc/nowhere"], "output_dir"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, flags, words):
    done = run(tmp_path, *flags)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("reproduce: ") and words in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []
