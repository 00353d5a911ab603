"""Nothing in the folder that a binary is started in is run: `cd downloaded_study && bin/report .` is natural use."""

import importlib.util
import os
import pathlib
import pkgutil
import sys
import time

import pytest
import started

from tfshape.cli import BINARIES

pytestmark = pytest.mark.one_stack


@pytest.fixture
def traps(tmp_path):
    """A folder with a file for every module that there is; each leaves its name in `sprung` beside the folder."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    path = [entry for entry in sys.path if os.path.isabs(entry)]
    names = {module.name for module in pkgutil.iter_modules(path)} | {name.partition(".")[0] for name in sys.modules}
    for name in {*names, "tfshape", "sitecustomize", "usercustomize"}:
        trap = f"open({str(tmp_path / 'sprung')!r}, 'a').write('{name}\\n')\nraise ImportError('a trap')\n"
        (folder / f"{name}.py").write_text(trap)
    assert {"absl", "pandas", "tensorflow", "json", "venv", "signal"} <= names
    return folder


def sprung(folder):
    path = folder.parent / "sprung"
    return path.read_text().split() if path.exists() else []


def test_sweep_with_its_worker_and_report(traps):
    # an empty entry of PYTHONPATH means the working directory
    flags = (*started.TINY, "--trials=1", "--workers=1", "--output_dir=study")
    done = started.run(traps, "sweep", *flags, PYTHONPATH=":/nowhere:")
    assert (done.returncode, sprung(traps)) == (0, []), done.stderr
    done = started.run(traps, "report", "study")
    assert (done.returncode, sprung(traps)) == (0, []), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", BINARIES)
def test_every_binary(traps, name):
    done = started.run(traps, name, "--help")
    assert (done.returncode, sprung(traps)) == (0, []), done.stderr


def listening(pids):
    """The addresses, in hexadecimal, that processes listen on."""
    found, sockets = set(), {}
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as lines:
            for _, local, _, state, *rest in map(str.split, lines):
                if state == "0A":
                    sockets[f"socket:[{rest[5]}]"] = local.partition(":")[0]
    for pid in pids:
        try:
            for entry in os.scandir(f"/proc/{pid}/fd"):
                found.add(sockets.get(os.readlink(entry.path)))
        except OSError:  # it ended meanwhile
            continue
    return found - {None}


def descendants(pid):
    parents = {}
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat") as file:
                parents[int(entry)] = int(file.read().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
    found, new = {pid}, {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
DRIVER = """
import sys
from tfshape import studies
study = studies.Study(sys.argv[1], (studies.Point({"seed": 1, "seconds": 0.5}, 2, {}),), "studies_helpers:tiny")
assert studies.run(study, studies.OnRay(workers=1))["done"] == 2
"""


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is an extra")
@pytest.mark.parametrize("command", ["script", pytest.param("sweep", marks=pytest.mark.slow)])
def test_ray_imports_nothing_from_there_and_listens_on_loopback_only(traps, tmp_path, command):
    if command == "script":  # whose workers import from where it does: its own folder, and PYTHONPATH
        script = tmp_path / "script.py"
        script.write_text(DRIVER)
        helpers = started.BIN.parent / "tests" / "studies"
        path = os.pathsep.join([str(started.BIN.parent), str(helpers)])
        process = started.start(traps, pathlib.Path(sys.executable), script, "study", PYTHONPATH=path)
    else:
        flags = (*started.TINY, "--trials=2", "--runner=ray", "--workers=1", "--output_dir=study")
        process = started.start(traps, "sweep", *flags)
    seen = set()
    while process.poll() is None:
        seen |= listening(descendants(process.pid))
        time.sleep(0.2)
    done = started.end(process)
    assert (done.returncode, sprung(traps)) == (0, []), done.stderr
    assert seen and seen <= LOOPBACK
