"""`bin/test --coverage` says how much of each room ran, and fails for one that is too low."""

import json
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "bin/_coverage.py"


@pytest.mark.parametrize(("ran", "status"), [(85, 0), (84, 1)])
def test_a_room_that_is_too_low_fails(tmp_path, ran, status):
    counts = {"tfshape/calls.py": (10, 10), "tfshape/poison/a.py": (60, 60), "tfshape/poison/b.py": (40, ran - 60)}
    files = {file: {"summary": {"num_statements": n, "covered_lines": c}} for file, (n, c) in counts.items()}
    (tmp_path / "found.json").write_text(json.dumps({"files": files}))
    done = subprocess.run([sys.executable, PROGRAM, tmp_path / "found.json"], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    assert [line[:4] for line in words] == [
        ["poison", "100", "lines", f"{ran}.0%"],
        ["tfshape/*.py", "10", "lines", "100.0%"],
    ]
    assert ("below" in words[0]) == bool(status)
