"""The arrows between rooms run downwards, and what is promised to load alone loads alone."""

import ast
import pathlib
import re
import subprocess
import sys

import forked
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tfshape"

GROUND = {"gradients", "poison", "models", "datasets", "privacy"}
ALLOWED = {
    **{room: set() for room in GROUND},
    "models": {"privacy"},  # fit draws batches by the samplers whose epsilon privacy knows, so that the two cannot part
    "shaping": {"gradients"},
    "analysis": {"gradients", "shaping"},  # a shaped model is told by its class, and gives its weights
    "defenses": {"gradients", "models"},
    "attacks": {"poison", "shaping", "models", "gradients", "datasets"},
    "evaluation": {"attacks", "defenses", "analysis", "shaping", *GROUND},
    "studies": {"evaluation", "attacks", "defenses", "analysis", "shaping", *GROUND},
    "reporting": {"evaluation"},  # for the list of columns
}
ALLOWED["benchmarks"] = {*ALLOWED, "benchmarks"} - {"reporting"}
ALLOWED["cli"] = {*ALLOWED}
TOP = {
    "__version__",
    "atomic",
    "banner",
    "calls",
    "checks",
    "files",
    "folders",
    "graphs",
    "imports",
    "lazy",
    "pixels",
    "options",
    "registry",
    "seeds",
    "strict_json",
    "tables",
}  # of the package itself, for every room to use


def imported(path):
    """The dotted names a file imports, relative ones made absolute."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


def files(room):
    return sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_arrows_run_downwards(room):
    wrong = []
    for path in files(room):
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "tfshape" and len(parts) > 1 and parts[1] not in {room, *ALLOWED[room], *TOP}:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_only_two_places_import_tensorflow_privacy():
    users = {path for path in PACKAGE.rglob("*.py") if any(n.startswith("tensorflow_privacy") for n in imported(path))}
    allowed = {PACKAGE / "shaping/tensorflow_privacy.py", *files("privacy"), *files("benchmarks")}
    assert users <= allowed


def test_public_keras_only():
    for path in PACKAGE.rglob("*.py"):
        names = set(imported(path))
        assert not any(name.startswith(("keras.src", "tensorflow.python", "tensorflow.keras")) for name in names), path
        assert "tf.keras" not in path.read_text("utf-8"), path


HEAVY = "tensorflow keras tensorflow_privacy tensorflow_datasets pandas matplotlib sklearn scipy"


@pytest.mark.parametrize(
    ("module", "may_load"),
    [
        ("tfshape", ""),
        ("tfshape.attacks", ""),
        ("tfshape.datasets", ""),
        ("tfshape.evaluation", ""),
        ("tfshape.privacy", ""),
        ("tfshape.poison", "tensorflow"),
        ("tfshape.gradients", "tensorflow keras"),
        ("tfshape.shaping", "tensorflow keras"),
    ],
)
def test_importing_one_brings_nothing_else(module, may_load):
    # TensorFlow and Keras load pandas and others by themselves where they are installed: that is not ours to count.
    first = "".join(f"import {name}\n" for name in may_load.split())
    code = f"import sys\n{first}before = set(sys.modules)\nimport {module}\nprint(*sorted(set(sys.modules) - before))"
    if may_load:  # a process that has loaded TensorFlow and Keras
        done = forked.code(ROOT, code)
    else:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    rooms = {name.split(".")[1] for name in loaded if name.startswith("tfshape.")}
    assert not loaded & set(HEAVY.split())
    assert rooms <= {module.split(".")[-1], *ALLOWED.get(module.split(".")[-1], ()), *TOP}


def test_errors_have_one_form():
    """`NAME must be WHAT IS ALLOWED, got VALUE`, as checks.py makes them."""
    other = re.compile(r"[:;] allowed|allowed (?:is|are|were|after)\b|[;:] got |must .*; it (?:has|is) ")
    paths = PACKAGE.rglob("*.py")
    found = [f"{path}: {hit}" for path in paths for hit in other.findall(path.read_text("utf-8"))]
    assert found == []


def test_files_are_short():
    assert [str(path) for path in PACKAGE.rglob("*.py") if len(path.read_text("utf-8").splitlines()) > 400] == []


def test_no_two_files_of_tests_have_one_name():
    """Which pytest could not tell apart."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
