"""`python -m tfshape craft` as a user types it."""

import json
import pathlib

import forked
import numpy as np
import pytest

import tfshape as ts

pytestmark = pytest.mark.one_stack

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = ["--attack=bullseye_polytope(steps=20, ensemble=1)", "--model=lr", "--epochs=1", "--num_poisons=3", "--quiet"]
TRANSFER = ["--scenario=transfer", "--finetune_examples=100", "--finetune_batch_size=50", "--dataset=digits"]


def run(cwd, *flags, binary="craft"):
    return forked.run(cwd, binary, *flags)


def test_poison_is_saved_and_a_second_run_goes_on_where_the_first_stopped(tmp_path):
    flags = [*QUICK, *TRANSFER, "--output=out"]
    done = run(tmp_path, *flags, "--targets=2")
    assert done.returncode == 0, done.stderr
    assert "for 2 trials" in done.stdout and done.stderr == ""
    files = [tmp_path / "out" / f"trial-00{trial}.npz" for trial in range(3)]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", files[0].name, files[1].name}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["experiment"]["scenario"] == "transfer" and config["versions"]["tfshape"] == ts.__version__

    first = [ts.poison.Poisons.load(path) for path in files[:2]]
    assert first[0].config["target_index"] != first[1].config["target_index"]
    train = ts.datasets.load("digits").train
    for poisons in first:
        assert len(poisons) == 3 and np.abs(poisons.x.astype(np.float64) - train.x[poisons.base]).max() <= 32 / 255
        np.testing.assert_array_equal(poisons.y, train.y[poisons.base])
        assert poisons.config["knowledge"] == "white_box"

    kept, age = files[0].read_bytes(), files[0].stat().st_mtime_ns
    files[1].unlink()
    again = run(tmp_path, *flags, "--targets=3")
    assert again.returncode == 0, again.stderr
    assert files[0].stat().st_mtime_ns == age and files[0].read_bytes() == kept
    np.testing.assert_array_equal(ts.poison.Poisons.load(files[1]).x, first[1].x)
    assert files[2].exists()

    other = run(tmp_path, *flags, "--seed=1")
    assert other.returncode == 2 and other.stderr.startswith(
        "craft: output must be a new folder, or one with poison of these flags, got 'out'"
    )


def test_it_is_the_poison_that_evaluate_crafts_and_evaluate_reads_it(tmp_path):
    flags = [*QUICK, *TRANSFER]
    assert run(tmp_path, *flags, "--targets=1", "--output=out").returncode == 0
    for extra in (["--output_dir=crafted"], ["--poisons=out", "--output_dir=read"]):
        done = run(tmp_path, *flags, "--trials=1", *extra, binary="evaluate")
        assert done.returncode == 0, done.stderr
    ours, theirs = tmp_path / "out" / "trial-000.npz", tmp_path / "crafted" / "poisons" / "trial-000.npz"
    np.testing.assert_array_equal(ts.poison.Poisons.load(ours).x, ts.poison.Poisons.load(theirs).x)
    rows = [
        [
            (row["defense"], row["data"], row["predicted_label"])
            for row in map(json.loads, (tmp_path / name / "trials.jsonl").read_text().splitlines())
        ]
        for name in ("crafted", "read")
    ]
    assert rows[0] == rows[1]


def test_targets_crafted_at_once_are_saved_one_by_one_and_gone_on_with(tmp_path):
    attack = "--attack=gradient_matching(steps=3, ensemble=1, checkpoints=1, retrain=0)"
    flags = [*QUICK, attack, "--dataset=digits", "--targets_at_once=2", "--output=out"]
    done = run(tmp_path, *flags, "--targets=2")
    assert done.returncode == 0, done.stderr
    files = [tmp_path / "out" / f"trial-00{trial}.npz" for trial in range(3)]
    first = [ts.poison.Poisons.load(path) for path in files[:2]]
    assert first[0].config["target_index"] != first[1].config["target_index"]
    kept = files[0].read_bytes()
    files[1].unlink()
    assert run(tmp_path, *flags, "--targets=3").returncode == 0
    assert files[0].read_bytes() == kept and files[2].exists()
    np.testing.assert_array_equal(ts.poison.Poisons.load(files[1]).x, first[1].x)
    other = run(tmp_path, *flags, "--targets_at_once=3")
    assert other.returncode == 2 and "output must be a new folder, or one with poison of these flags" in other.stderr


def test_an_adaptive_attacker_says_so_in_the_file(tmp_path):
    attack = "--attack=gradient_matching(steps=2, ensemble=1, checkpoints=1, retrain=0)"
    done = run(tmp_path, *QUICK, attack, "--dataset=digits", "--adaptive", "--clip=0.5", "--noise=0.1", "--output=out")
    assert done.returncode == 0, done.stderr
    poisons = ts.poison.Poisons.load(tmp_path / "out" / "trial-000.npz")
    assert poisons.config["shaping"] == "clip(0.5)|noise(0.1)"


@pytest.mark.parametrize(
    "flags",
    [
        ["--attack=gradient_machting"],
        ["--attack=metapoison(steps=0)"],
        ["--dataset=fashion"],
        ["--model=vgg"],
        ["--budget=2"],
        ["--num_poisons=0"],
        ["--eps=0"],
        ["--targets=0"],
        ["--targets_at_once=0"],
        ["--targets_at_once=2", "--attack=metapoison"],
        ["--targets_at_once=2", "--attack=gradient_matching"],
        ["--targets_at_once=2", "--attack=gradient_matching(retrain=0)", "--adaptive"],
        ["--seed=-1"],
        ["--scenario=scratchy"],
        ["--knowledge=all"],
        ["--surrogate_model=cnn"],
        ["--target_rule=nearest"],
        ["--shaping=clop", "--adaptive"],
        ["--learning_rate=-1"],
        ["--classes=3,x"],
        ["--output=/proc/nowhere"],
        ["stray"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, flags):
    done = run(tmp_path, "--output=out", *flags)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("craft: "), done.stderr
    name, _, value = flags[0].lstrip("-").partition("=")
    assert name in done.stderr and value in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_output_nothing_is_done(tmp_path):
    done = run(tmp_path, "--attack=watermark")
    assert done.returncode == 2 and "--output=poisons" in done.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "targeted").glob("*.flags")), ids=lambda path: path.stem)
def test_the_flagfiles_of_targeted_attacks_are_understood(tmp_path, path):
    done = run(tmp_path, f"--flagfile={path}", "--help")
    assert done.returncode == 0 and "--adaptive" in done.stdout, done.stderr
