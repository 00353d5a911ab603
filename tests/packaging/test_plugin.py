"""A stranger's package, really installed, brings an attack and a shaper to the flags, to `parse` and to Keras files."""

import pathlib
import subprocess
import sys

import forked
import pytest

pytestmark = pytest.mark.one_stack

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which pip has installed the example package."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", HERE / "plugin", source], check=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", target, source], check=True, capture_output=True)
    return target


def evaluate(installed, cwd, *flags):
    flags = ("--model=lr", "--epochs=1", "--trials=1", "--quiet", *flags)
    return forked.run(cwd, "evaluate", *flags, folders=[installed])


def test_its_attack_and_shaper_are_flags(installed, tmp_path):
    flags = ("--dataset=digits", "--attack=swap_classes(target=2)", "--num_poisons=20", "--batch_size=64")
    done = evaluate(installed, tmp_path, *flags, "--shaping=clip(1.0)|halve_largest(0.25)")
    assert done.returncode == 0, done.stderr
    assert "swap_classes(target=2) on digits" in done.stdout and "20 of " in done.stdout
    assert "clip(1.0)|halve_largest(0.25)" in done.stdout


def test_its_refusals_are_ours(installed, tmp_path):
    done = evaluate(installed, tmp_path, "--attack=swap_class")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "swap_classes" in done.stderr
    done = evaluate(installed, tmp_path, "--attack=swap_classes", "--num_poisons=5000")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "num_poisons" in done.stderr


def test_a_model_shaped_by_it_is_saved_and_loaded(installed, tmp_path):
    code = """
import keras, numpy as np, tfshape as ts
model = ts.shape(keras.Sequential([keras.layers.Dense(3)]), ts.shaping.parse("halve_largest(0.25)"))
model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(np.eye(6, dtype="float32"), np.arange(6) % 3, verbose=0)
model.save("m.keras")
assert keras.models.load_model("m.keras").shaping == model.shaping
assert model.shaping.sensitivity is None
"""
    done = forked.code(tmp_path, code, folders=[installed])
    assert done.returncode == 0, done.stderr
