"""Files of every kind that we read, mutated: each is read or refused in one line, and nothing in one is executed."""

import ast
import json
import pathlib

import forked
import pytest

PROGRAM = pathlib.Path(__file__).with_name("mutants.py")
KINDS = next(
    [key.value for key in node.value.keys]
    for node in ast.parse(PROGRAM.read_text("utf-8")).body
    if isinstance(node, ast.Assign) and node.targets[0].id == "KINDS"
)


def check(folder, kind, count, seed):
    done = forked.script(folder, PROGRAM, kind, count, seed, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["whole"] is None, found["whole"]
    wrong = [ended for ended in found["mutants"] if isinstance(ended, dict)]
    assert not wrong, "\n".join(f"{ended['mutant']}: {ended['wrong']}" for ended in wrong[:3])
    assert len(found["mutants"]) == count and not found["executed"]
    assert any(found["mutants"]), "no mutant was refused"


@pytest.mark.parametrize("kind", KINDS)
def test_mutants(tmp_path, kind):
    check(tmp_path, kind, 6, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutants(tmp_path, kind):
    check(tmp_path, kind, 60, 1)
