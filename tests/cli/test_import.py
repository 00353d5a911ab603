"""`--import`: code of the user's own, in every binary and its workers; no folder of results causes an import."""

import hashlib
import json
import pathlib
import shlex

import forked
import pandas as pd
import pytest
import started

OWN = (pathlib.Path(__file__).parent / "own_code.py").read_text("utf-8")
FLAGS = ("--import=my_code.py", "--attack=own_attack(label=1)", "--model=own_model", "--dataset=own_data(size=90)")
FLAGS += ("--num_poisons=9", "--epochs=1", "--batch_size=30", "--trials=1", "--nocontrols", "--quiet")
DEFENSES = "soften(0.5),first_half"
TRAP = "open('sprung', 'w').close()\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_code.py").write_text(OWN)
    return tmp_path


def refused(done, binary, *words):
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"{binary}: ") and all(word in done.stderr for word in words), done.stderr


def test_evaluate_with_an_attack_a_shaper_a_defense_a_model_and_data_of_ones_own(folder):
    flags = (*FLAGS, f"--defense={DEFENSES}", "--output_dir=out")
    done = forked.run(folder, "evaluate", *flags)
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(folder / "out" / "results.csv")
    assert frame["defense"].tolist() == ["none", "soften(0.5)", "first_half"]
    assert set(frame["dataset"]) == {"own_data(size=90)"} and set(frame["model"]) == {"own_model"}
    config = json.loads((folder / "out" / "config.json").read_text())
    assert config["imports"] == [{"import": "my_code.py", "sha256": hashlib.sha256(OWN.encode()).hexdigest()}]

    again = forked.run(folder, "evaluate", *flags)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    before = {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()}
    (folder / "my_code.py").write_text(f"{OWN}\n# other\n")
    refused(forked.run(folder, "evaluate", *flags), "evaluate", "holds results of another --import; use a new folder")
    assert {path: path.read_bytes() for path in before} == before


def test_craft_records_it_too(folder):
    flags = (*FLAGS, "--output=poisons")
    assert forked.run(folder, "craft", *flags).returncode == 0
    assert forked.run(folder, "craft", *flags).returncode == 0
    (folder / "my_code.py").write_text(f"{OWN}\n# other\n")
    refused(forked.run(folder, "craft", *flags), "craft", "output must be a new folder")


def sweep(folder, *flags):
    """Runs a study of what the file registers, and tries to resume it with another file."""
    flags = (*FLAGS, f"--grid=defense=none,{DEFENSES.split(',')[0]}", "--workers=2", "--output_dir=study", *flags)
    done = started.run(folder, "sweep", *flags)
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(folder / "study" / "results.csv")
    assert frame["defense"].tolist() == ["none", "soften(0.5)"] and frame["trials"].tolist() == [1, 1]
    assert "--import=my_code.py" in shlex.split(frame["command"][0])
    (folder / "my_code.py").write_text(f"{OWN}\n# other\n")
    refused(started.run(folder, "sweep", *flags), "sweep", "of another --import")


def test_two_workers_load_it(folder):
    sweep(folder)
    (folder / "my_code.py").write_text(TRAP)
    done = forked.run(folder, "report", "study")
    assert done.returncode == 0 and not (folder / "sprung").exists(), done.stderr


@pytest.mark.slow
def test_workers_of_ray_load_it(folder):
    pytest.importorskip("ray", reason="Ray is an extra")
    sweep(folder, "--runner=ray")


def test_reproduce_analyze_audit_and_poison_take_it(folder):
    own = FLAGS[:1]
    done = forked.run(folder, "analyze", *FLAGS, "--examples=20", "--output_dir=analysis")
    assert done.returncode == 0, done.stderr
    flags = ("--canaries=20", "--steps=20", "--model=own_model", "--dataset=own_data")
    done = forked.run(folder, "audit", *own, *flags)
    assert done.returncode in (0, 1) and "own_model on own_data" in done.stdout, done.stderr
    flags = ("--dataset=own_data(size=30)", "--transform=flip_labels(0.5)", "--output=out.npz")
    assert forked.run(folder, "poison", *own, *flags).returncode == 0
    done = forked.run(folder, "reproduce", *own, "--table=indiscriminate", "--dataset=own_dat")
    refused(done, "reproduce", "Did you mean 'own_data'")


def test_a_folder_of_results_never_causes_an_import(folder):
    done = forked.run(folder, "evaluate", *FLAGS, "--shaping=soften(0.5)", "--output_dir=out")
    assert done.returncode == 0, done.stderr
    (folder / "my_code.py").write_text(TRAP)
    (folder / "out" / "my_code.py").write_text(TRAP)
    for cwd, name in ((folder, "out"), (folder / "out", ".")):
        done = forked.run(cwd, "report", name)
        assert done.returncode == 0, done.stderr
        assert "--import=my_code.py" in (folder / "out" / "report" / "report.html").read_text("utf-8")
    assert not [*folder.rglob("sprung")]


def test_a_module_by_its_dotted_name(folder):
    package = folder / "site" / "own_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (folder / "my_code.py").rename(package / "code.py")
    flags = ("--import=own_package.code", *FLAGS[1:], "--shaping=none", "--output_dir=out")
    done = forked.run(folder, "evaluate", *flags, folders=[folder / "site"])
    assert done.returncode == 0, done.stderr
    config = json.loads((folder / "out" / "config.json").read_text())
    assert config["imports"] == [{"import": "own_package.code", "sha256": hashlib.sha256(OWN.encode()).hexdigest()}]
    # what lies in the working directory is no module
    (folder / "own_package").symlink_to(package)
    refused(forked.run(folder, "evaluate", *flags), "evaluate", "No module named 'own_package'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nundefined\n", "NameError: name 'undefined' is not defined (line 2)"),
        ("def f(:\n", "SyntaxError: invalid syntax (line 1)"),
        ("raise SystemExit('enough')", "SystemExit: enough (line 1)"),
        ("\udcff", "SyntaxError"),
        ("x = '\0'", "null bytes"),
        (
            "import tfshape as ts\n@ts.models.register\ndef lr(shape, classes, seed): ...",
            "name of a model must be one that is not taken, got 'lr' of /",
        ),
        (
            "import tfshape as ts\n@ts.datasets.register\ndef digits(): ...",
            "name of a dataset must be one that is not taken, got 'digits' of /",
        ),
        ("import tfshape as ts\nts.datasets.register(3)", "dataset must have __name__, __call__, got 3 without"),
        ("import tfshape as ts\nts.models.register(lambda *a: a)", "name of a model must be an identifier"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, text, words):
    (tmp_path / "bad.py").write_bytes(text.encode("utf-8", "surrogateescape"))
    done = forked.run(tmp_path, "evaluate", "--import=bad.py", "--output_dir=out")
    refused(done, "evaluate", "import must be a Python file or module that loads, got 'bad.py': ", words)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    done = forked.run(tmp_path, "sweep", "--import=nowhere.py", "--output_dir=out")
    refused(done, "sweep", "import must be a Python file that exists, got 'nowhere.py'")
    done = forked.run(tmp_path, "sweep", "--import=nowhere", "--output_dir=out")
    refused(done, "sweep", "ModuleNotFoundError: No module named 'nowhere'")


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--model=three", "what model three builds must be a keras.Model from inputs (None, 8, 8, 1) to logits"),
        ("--model=broken", "model broken cannot be built: ZeroDivisionError: division by zero"),
        ("--dataset=four", "what dataset four gives must be a Dataset, got 'int'"),
        ("--dataset=four(5)", "dataset='four(5)'"),
        ("--dataset=odd", "dataset odd must have one label an example"),
        ("--dataset=digits(3)", "dataset must be digits without options, got 'digits(3)'"),
        ("--dataset=four(", "dataset must be a name or a call of literal values"),
        ("--dataset=foru", "got 'foru'. Did you mean 'four'?"),
        ("--model=thre", "got 'thre'. Did you mean 'three'?"),
    ],
)
def test_what_such_functions_must_give(tmp_path, flag, words):
    (tmp_path / "own.py").write_text(
        "import numpy as np, tfshape as ts\n"
        "three = ts.models.register(lambda shape, classes, seed: 3, 'three')\n"
        "broken = ts.models.register(lambda shape, classes, seed: 1 / 0, 'broken')\n"
        "four = ts.datasets.register(lambda: 4, 'four')\n"
        "half = ts.datasets.Split(np.zeros((4, 2)), np.arange(5) % 2)\n"
        "odd = ts.datasets.register(lambda: ts.datasets.Dataset('', half, half, 2, (2,)), 'odd')\n"
    )
    flags = ("--import=own.py", "--dataset=digits", "--attack=label_flip", flag, "--output_dir=out")
    refused(forked.run(tmp_path, "evaluate", *flags), "evaluate", words)
    assert not (tmp_path / "out").exists()
