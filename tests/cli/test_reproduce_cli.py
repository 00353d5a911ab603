"""`python -m tfshape reproduce` as a user types it, on the embedded part of Fashion-MNIST."""

import pathlib

import forked
import numpy as np
import pandas as pd
import pytest

from tfshape.reproductions import indiscriminate, targeted

pytestmark = pytest.mark.one_stack

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = ["--table=indiscriminate", "--dataset=fashion_mnist_mini", "--rates=0.1", "--trials=2", "--workers=1"]


def run(cwd, *flags):
    return forked.run(cwd, "reproduce", *flags)


def test_the_table_is_printed_written_and_gone_on_with(tmp_path):
    done = run(tmp_path, *QUICK)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "reproduction"
    for name in ("study.sqlite", "trials.csv", "config.json", "report.md"):
        assert (folder / "indiscriminate" / name).is_file()
    victims, slab = indiscriminate.read(folder / "indiscriminate")
    assert len(victims) == 3 * 2 * 9  # clean, flips and slab; two seeds; nine defenses
    assert not victims.duplicated(["attack", "rate", "defense", "seed"]).any()
    counts = victims.groupby("attack")["num_examples"].first().to_dict()
    assert counts == {"clean": 1080, "label_flip": 1188, "slab": 1188}
    assert (victims["best"] >= victims["last"]).all() and victims["last"].between(0.7, 1).all()
    cells = indiscriminate.summarise(victims)
    noisy = cells["defense"].str.contains("noise")
    assert (cells.loc[noisy, "epsilon"] < 1e10).all() and np.isinf(cells.loc[~noisy, "epsilon"]).all()
    assert slab["passes"].tolist() == [1.0] and 0 < slab["loss_bound"][0] < 1.1
    assert len(list((folder / "indiscriminate" / "cache" / "poisons").iterdir())) == 1  # slab poison serves all seeds
    cell = cells[(cells["attack"] == "slab") & (cells["defense"] == "none")]
    for words in ("0.9315", "0.954", "pass both filters", "100.0%", f"{cell['best'].iloc[0]:.4f}±", "| allowed |"):
        assert words in done.stdout
    text = (folder / "reproduction.md").read_text()
    assert text.startswith("## Indiscriminate attacks") and "bin/reproduce --table=indiscriminate --dataset=" in text

    again = run(tmp_path, *QUICK, "--quiet")
    assert again.returncode == 0 and again.stderr == ""
    assert (folder / "indiscriminate" / "report.md").read_text() in done.stdout
    pd.testing.assert_frame_equal(indiscriminate.read(folder / "indiscriminate")[0], victims)

    other = run(tmp_path, "--table=indiscriminate", "--dataset=fashion_mnist_mini", "--rates=0.2", "--trials=2")
    assert other.returncode == 2 and "holds another study" in other.stderr and other.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("table", ["gradients", "targeted"])
def test_other_tables_on_the_data_of_the_package(tmp_path, table):
    done = run(tmp_path, f"--table={table}", "--dataset=fashion_mnist_mini", "--trials=1")
    assert done.returncode == 0, done.stderr
    words = {"gradients": ["same signs", "insertion, mlp trained on"], "targeted": ["they say", "median cost"]}
    for part in words[table]:
        assert part in done.stdout


@pytest.mark.parametrize(
    ("title", "name"),
    [("one poison in 200", "feature_collision"), ("1 to 100 poisons in 1,000", "feature_collision_cost")],
)
def test_targeted_settings_are_those_of_the_flagfiles(title, name):
    lines = (ROOT / "configs" / "targeted" / f"{name}.flags").read_text().splitlines()
    flags = [line.removeprefix("--") for line in lines if line.startswith("--")]
    found = dict(flag.partition("=")[::2] for flag in flags)
    ours = {key: value for key, value in targeted.SETTINGS[title].items()}
    ours["num_poisons"] = ",".join(map(str, np.atleast_1d(ours["num_poisons"])))
    assert {key: str(value) for key, value in ours.items()} == {
        key: value for key, value in found.items() if key not in ("trials", "adaptive", "seed")
    }


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--table=all", "--rates=0.1"], "rates must be left out unless table is indiscriminate"),
        (["--table=unknown"], "unknown"),
        ([], "table"),
        ([*QUICK[:2], "--rates=x"], "rates must be numbers from 0 to 1, such as 0.1,0.4, got 'x'"),
        ([*QUICK[:2], "--rates=2"], "rates"),
        ([*QUICK[:3], "--trials=1"], "trials must be an integer from 2"),
        (["--table=indiscriminate", "--dataset=fashion"], "fashion"),
        (["--table=indiscriminate", "--output_dir=/proc/nowhere"], "output_dir"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, flags, words):
    done = run(tmp_path, *flags)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("reproduce: ") and words in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []
