"""Wheel and sdist build, install, and run far from the checkout."""

import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = "import setuptools.build_meta as build, sys; print(getattr(build, sys.argv[1])(sys.argv[2]))"


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the wheel and the sdist of a copy of the checkout."""
    source, out = tmp_path_factory.mktemp("source") / "tfshape", tmp_path_factory.mktemp("dist")
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "results", "__pycache__", "tests")
    shutil.copytree(ROOT, source, ignore=ignored)
    for what in ("build_wheel", "build_sdist"):
        done = subprocess.run([sys.executable, "-c", BUILD, what, out], cwd=source, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_an_installed_wheel_runs_elsewhere(dist, tmp_path):
    (wheel,) = dist.glob("*.whl")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        tmp_path / "site",
        wheel,
    ]
    subprocess.run(pip, check=True, capture_output=True)
    away = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = [sys.executable, "-c", "import tfshape; print(tfshape.__file__)"]
    assert subprocess.check_output(where, env=away, cwd=tmp_path, text=True).startswith(str(tmp_path / "site"))
    flags = [
        "--attack=label_flip",
        "--model=lr",
        "--epochs=1",
        "--trials=1",
        "--shaping=none",
        "--nocontrols",
        "--quiet",
    ]
    command = [tmp_path / "site/bin/tfshape-evaluate", *flags]
    done = subprocess.run(command, env=away, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "300 of 6,000" in done.stdout and (tmp_path / "results").is_dir()


def test_the_wheel_has_the_package_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert all(name.startswith("tfshape/") for name in names)
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tfshape").rglob("*")
        if path.suffix in (".py", ".npz", ".typed")
    }
    assert wanted <= set(names)


def test_the_sdist_builds_the_same_wheel(dist, tmp_path):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path)
    (source,) = tmp_path.glob("tfshape-*")
    command = [sys.executable, "-c", BUILD, "build_wheel", tmp_path]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    first, second = (sorted(zipfile.ZipFile(next(folder.glob("*.whl"))).namelist()) for folder in (dist, tmp_path))
    assert first == second


@pytest.mark.parametrize(
    ("constraints", "python"),
    [
        ("constraints.txt", "3.9"),
        ("constraints.txt", "3.10"),
        ("constraints.txt", "3.11"),
        ("constraints-keras3.txt", "3.12"),
        ("constraints-keras3.txt", "3.13"),
    ],
)
def test_constraints_meet_what_setup_asks_for(constraints, python):
    pins = {}
    for line in (ROOT / constraints).read_text("utf-8").splitlines():
        if line and line[0] not in "# ":
            pin = Requirement(line.rstrip("\\"))
            if pin.marker is None or pin.marker.evaluate({"python_full_version": f"{python}.0"}):
                pins[re.sub(r"[-_.]+", "-", pin.name).lower()] = str(pin.specifier)[2:]
    asked = [Requirement(text) for text in importlib.metadata.requires("tfshape")]
    asked += map(
        Requirement, re.findall('"(setuptools==.*?)"', (ROOT / "pyproject.toml").read_text("utf-8").split("[tool")[0])
    )
    for wanted in asked:
        for extra in ("", "test", "ray", "dev"):
            if wanted.marker is None or wanted.marker.evaluate({"python_version": python, "extra": extra}):
                name = re.sub(r"[-_.]+", "-", wanted.name).lower()
                assert name in pins and wanted.specifier.contains(pins[name]), f"{wanted} with {pins.get(name)}"
