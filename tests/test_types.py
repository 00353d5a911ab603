"""Every public name says its types: what is in the `__all__` of a room, the methods of its classes among it.

mypy, which `bin/test` runs, checks that what they say is so.
"""

import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys

import pytest

import tfshape

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "tfshape"
ROOMS = sorted(
    ".".join(["tfshape", *path.parent.relative_to(PACKAGE).parts])
    for path in PACKAGE.rglob("__init__.py")
    if "__all__" in path.read_text("utf-8")
)


def ours(thing):
    return getattr(thing, "__module__", "").startswith("tfshape")


def functions(thing):
    """The functions that a public name stands for: itself, or a class's own and inherited methods and properties."""
    if inspect.isfunction(thing):
        yield thing.__qualname__, thing
    for owner in filter(ours, inspect.getmro(thing) if inspect.isclass(thing) else ()):
        for name, found in vars(owner).items():
            found = getattr(found, "__func__", getattr(found, "fget", getattr(found, "func", found)))
            public = not name.startswith("_") or name in ("__init__", "__call__")
            written = inspect.isfunction(found) and found.__code__.co_filename != "<string>"  # not by dataclasses
            if public and written:
                yield f"{owner.__qualname__}.{name}", found


def untyped(function):
    signature = inspect.signature(inspect.unwrap(function))
    names = [name for name, one in signature.parameters.items() if one.annotation is one.empty]
    result = signature.return_annotation is signature.empty
    return [name for name in names if name not in ("self", "cls")] + ["its result"] * result


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_typed(room):
    module = importlib.import_module(room)
    things = [thing for thing in (getattr(module, name) for name in module.__all__) if ours(thing)]
    found = {f"{name}: {', '.join(untyped(f))}" for thing in things for name, f in functions(thing) if untyped(f)}
    assert not found


SCRIPT = """
import tfshape as ts

data = ts.datasets.load("fashion_mnist_mini")
model = ts.models.build("mlp", data.input_shape, data.num_classes)
shaping = ts.shaping.dp_sgd(clip=1.0, noise=1.0)
shaped = ts.shape(model, shaping)
checked = ts.check(model, "mse", data.train.x[:8], data.train.y[:8])
experiment = ts.Experiment(attack="label_flip", noise=1.0)
results = ts.evaluate(experiment)
"""
SEEN = {
    "data": "tfshape.datasets.base.Dataset",
    "model": "Any",  # no Keras has types yet, so that a `keras.Model` is Any to mypy, whatever says it is one
    "shaping": "tfshape.shaping.chain.Chain",
    "shaped": "tfshape.shaping.model.ShapedModel",
    "ts.shape(model, None)": "Any",  # the `keras.Model` itself
    "checked": "tfshape.shaping.checking.Checked",
    "checked.ok": "bool",
    "experiment": "tfshape.evaluation.experiment.Experiment",
    "results": "tfshape.evaluation.results.Results",
}


def test_a_strict_user_sees_the_types(tmp_path):
    """Through `import tfshape as ts`, though rooms load on first use; of every public name, and a misspelled one is an
    error."""
    rooms = [name for name in tfshape.__all__ if f"tfshape.{name}" in ROOMS]
    of_rooms = [f"ts.{room}.{name}" for room in rooms for name in getattr(tfshape, room).__all__]
    asked = [*SEEN, *(f"ts.{name}" for name in tfshape.__all__), *of_rooms]
    lines = [SCRIPT, *(f"reveal_type({name})" for name in asked), "ts.shapee, ts.privacy.epsilonn"]
    (tmp_path / "script.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir=cache", "script.py"]
    environment = {**os.environ, "MYPYPATH": str(PACKAGE.parent)}
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    found = re.findall(r'Revealed type is "(.*)"', said)
    assert len(found) == len(asked) and said.count("error:") == 2, said
    assert 'has no attribute "shapee"' in said and 'has no attribute "epsilonn"' in said
    assert dict(zip(SEEN, found)) == SEEN
    assert [name for name, kind in zip(asked[len(SEEN) :], found[len(SEEN) :]) if kind == "Any"] == []


def test_a_built_model_is_said_to_be_one():
    """Which mypy cannot show while Keras has no types."""
    assert inspect.signature(tfshape.models.build).return_annotation == "keras.Model"
    assert inspect.signature(tfshape.shape).return_annotation == "keras.Model"
