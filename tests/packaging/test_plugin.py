"""A stranger's package, really installed, brings an attack and a shaper to the flags, to `parse` and to Keras files."""

import pathlib
import subprocess
import sys

import forked
import pytest

import tfshape as ts
from tfshape import registry

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


class Attack:
    name = "one_of_a_test"
    kind = "indiscriminate"

    def craft(self, problem):
        raise NotImplementedError


def test_register_refuses_what_is_no_attack_and_what_is_taken():
    found = registry.Registry("nothing", ("name", "kind", "craft"), {"taken": "there:There"})
    assert found.register(Attack) is Attack and found.register(Attack) is Attack
    assert found.names() == ("taken", "one_of_a_test") and found.get("one_of_a_test") is Attack
    with pytest.raises(ValueError, match="it has no kind, craft"):
        found.register(type("Half", (), {"name": "half"}))
    with pytest.raises(ValueError, match="nothing 'taken' is taken by there:There"):
        found.register(type("Other", (Attack,), {"name": "taken"}))
    with pytest.raises(ValueError, match=r"nothing must be one of taken, one_of_a_test, got 'token'. Did you mean 'ta"):
        found.get("token")
    with pytest.raises(ValueError, match="name of a nothing must be an identifier, got 'a-b'"):
        found.register(type("Other", (Attack,), {"name": "a-b"}))


def test_our_own_names_are_those_of_their_classes():
    assert all(ts.attacks.get(name).name == name for name in ts.attacks.names())
    assert all(getattr(ts.attacks, name) for name in ts.attacks.__all__)


def test_a_foreign_class_that_cannot_be_loaded_is_named(monkeypatch):
    class Point:
        name, value = "broken", "some_package:Broken"

        def load(self):
            raise ImportError("no module named nowhere")

    monkeypatch.setattr(registry, "_entry_points", lambda group: {"broken": Point()})
    attacks = registry.Registry("attack", ("name",))
    with pytest.raises(ValueError, match=r"attack 'broken' of some_package:Broken cannot be loaded: no module named"):
        attacks.get("broken")
