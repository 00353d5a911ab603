"""The documentation: every Python block runs, the flags of every command are taken, every link leads somewhere."""

import ast
import importlib
import inspect
import json
import os
import pathlib
import pkgutil
import re
import shlex
import subprocess
import sys

import forked
import pytest

import tfshape
from tfshape.cli import BINARIES

pytestmark = pytest.mark.one_stack

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
COMMAND = re.compile(r"^(?:    )?(?:bin/|tfshape-)(\w+)((?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)


def blocks(text):
    """The ```python blocks of a page, without the indentation of a list they may stand in."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text):
    """(binary, arguments) of each command line of a page that names a binary."""
    for name, rest in COMMAND.findall(re.sub(r"^```(?!sh).*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        if name in BINARIES:
            yield name, shlex.split(rest.replace("\\\n", " "), comments=True)


def sources(texts):
    """Name to text of the blocks that begin with the name of a file, as `# my_code.py`."""
    found = [block for text in texts for block in blocks(text)]
    return {name[1]: block for block in found if (name := re.match(r"# (\w+\.py)\n", block))}


def run(script, work, cwd):
    done = forked.script(cwd, HERE / script, text=json.dumps(work))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    return done.stdout


def test_every_python_block_runs(tmp_path):
    pages = {str(page.relative_to(ROOT)): blocks(page.read_text("utf-8")) for page in PAGES}
    pages = {page: found for page, found in pages.items() if found}
    assert {"README.md", "docs/start.md"} <= set(pages)
    printed = run("run_blocks.py", pages, tmp_path)
    promised = [
        text for page in PAGES for text in re.findall("^```\n\nprints `(.+?)`", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert promised and all(text in printed for text in promised)


@pytest.mark.parametrize("name", sorted(BINARIES))
def test_the_flags_of_every_command_are_taken(name):
    texts = {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in PAGES}
    source = ast.parse((ROOT / f"tfshape/cli/{name}.py").read_text("utf-8"))
    texts["--help"] = re.sub(r"^  (?=bin/)", "", ast.get_docstring(source), flags=re.MULTILINE)
    work = [[page, given] for page, text in texts.items() for called, given in commands(text) if called == name]
    assert work
    run("check_flags.py", [name, work, sources(texts.values())], ROOT)


def public_names():
    """The functions and classes in the `__all__` of every room."""
    for name in ("tfshape", *(f"tfshape.{room.name}" for room in pkgutil.iter_modules(tfshape.__path__))):
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            found = getattr(module, public)
            if inspect.isfunction(found) or inspect.isclass(found):
                yield public


def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    flags = (tmp_path / "site/reference/flags.html").read_text("utf-8")
    assert all(f'id="{name}"' in flags for name in BINARIES)
    api = (tmp_path / "site/reference/api.html").read_text("utf-8")
    assert "tfshape.shaping.model.shape" in api and "Sensitivity" in api
    described = set(re.findall(r'id="tfshape\.[\w.]*?(\w+)"', api))
    assert not {name for name in public_names() if name not in described}
    assert ",</span></code></td>" not in api  # names that share a description stand in one cell


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_of_the_files_at_the_top_lead_somewhere(page):
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        assert link.startswith("https://") or (ROOT / link.split("#")[0]).exists(), link
    for path in re.findall(r"`((?:docs|examples|configs|tests|bin|tfshape)/[\w./-]+)`", text):
        assert (ROOT / path).exists() or path.endswith("/"), path
