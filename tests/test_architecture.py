"""The arrows between rooms run downwards, and what is promised to load alone loads alone."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import forked
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tfshape"

GROUND = {"gradients", "poison", "models", "datasets", "privacy"}
BELOW = {"training", "shaping", *GROUND}
ALLOWED = {
    **{room: set() for room in GROUND},
    "shaping": {"gradients"},
    "training": {"gradients", "shaping", "models", "datasets", "privacy"},
    "analysis": {"gradients", "shaping"},  # a shaped model is told by its class, and gives its weights
    "defenses": BELOW - {"poison", "datasets"},
    "attacks": BELOW - {"privacy"},
    "certificates": {"defenses", *BELOW} - {"poison", "datasets", "shaping", "gradients"},
    "evaluation": {"attacks", "defenses", "analysis", "certificates", *BELOW},
    "studies": {"evaluation", "attacks", "defenses", "analysis", *BELOW},
    "reproductions": {"studies", "evaluation", "attacks", *BELOW},
    "reporting": {"evaluation"},  # for the list of columns
}
ALLOWED["benchmarks"] = {*ALLOWED, "benchmarks"} - {"reporting"}
ALLOWED["cli"] = {*ALLOWED}
TOP = {
    "__version__",
    "archive",
    "atomic",
    "banner",
    "calls",
    "checks",
    "files",
    "folders",
    "graphs",
    "imports",
    "lazy",
    "limits",
    "pixels",
    "options",
    "provenance",
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


def used(path):
    """The dotted names below the package that a file imports, or takes from a room it imports: tfshape.shaping.Clip."""
    tree = ast.parse(path.read_text("utf-8"))
    yield from imported(path)
    rooms = {name.split(".")[1] for name in imported(path) if re.fullmatch(r"tfshape\.\w+", name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in rooms:
            yield f"tfshape.{node.value.id}.{node.attr}"


def public(room, name):
    """Whether a room has a name for others, by its `__all__`; what stands behind a dot, if it is a module's."""
    package, (first, *rest) = importlib.import_module(f"tfshape.{room}"), name.split(".")
    return first in package.__all__ and (not rest or inspect.ismodule(getattr(package, first)))


def test_rooms_use_only_what_is_public_of_others():
    rooms, wrong = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}, []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = "cli" if path.name == "__main__.py" else path.relative_to(PACKAGE).parts[0]
        for name in used(path):
            _, room, rest = [*name.split(".", 2), "", ""][:3]
            if name.startswith("tfshape.") and room in rooms - {own} and rest and not public(room, rest):
                wrong.append(f"{path.relative_to(ROOT)} uses {name}")
    assert wrong == []


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
        ("tfshape.certificates", ""),
        ("tfshape.datasets", ""),
        ("tfshape.evaluation", ""),
        ("tfshape.privacy", ""),
        ("tfshape.reproductions", ""),
        ("tfshape.studies", ""),
        ("tfshape.training", ""),
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
