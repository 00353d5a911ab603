"""Ctrl-C at any moment, once or twice: exit code 130, no traceback, and no process is left."""

import os
import signal
import subprocess
import sys
import time

import pytest
import started

pytestmark = pytest.mark.one_stack

BINARIES = {"evaluate": ("--trials=40",), "sweep": ("--trials=40", "--workers=2")}


def interrupted(folder, binary, delay, pause):
    """Exit code and stderr of a binary that gets SIGINT after `delay` seconds and, unless None, again after `pause`."""
    process = started.start(folder, binary, *started.TINY, *BINARIES[binary], f"--output_dir={folder / 'out'}")
    for seconds in (delay, pause):
        if seconds is not None:
            time.sleep(seconds)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
    done = started.end(process, 60)
    started.wait_for_the_end_of(process.pid)
    return done.returncode, done.stderr


def check(code, errors, binary):
    assert code in (0, 130), errors
    assert errors == "" or errors == f"{binary}: interrupted; finished work is kept\n", errors


@pytest.mark.parametrize(
    ("binary", "delay", "pause"),
    [
        ("evaluate", 0.02, None),
        ("evaluate", 0.3, 0.01),
        ("evaluate", 1.5, None),
        ("evaluate", 3.0, 0.1),
        ("sweep", 0.1, 0.1),
        ("sweep", 5.0, 0.05),
    ],
)
def test_some_moments(tmp_path, binary, delay, pause):
    code, errors = interrupted(tmp_path, binary, delay, pause)
    check(code, errors, binary)
    assert code == 130


@pytest.mark.slow
@pytest.mark.parametrize("binary", BINARIES)
def test_fifty_moments(tmp_path, binary):
    for index in range(50):
        delay = 0.005 * 1.16**index  # up to 7 s, more of them while Python starts
        code, errors = interrupted(tmp_path, binary, delay, None if index % 2 else 0.003 * 1.1**index)
        check(code, errors, binary)


def test_in_what_python_swallows(tmp_path):
    """KeyboardInterrupt that is raised in a `__del__`, and what comes of another that a library turned into its own."""
    code = """
import os, signal, sys
from tfshape.cli import common
class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
def swallowed():
    Last()
    while True: pass
def converted():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        while True: pass
    except BaseException as error:
        raise RuntimeError("of a library") from error
def at_exit():
    import atexit
    atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv[1:], name = [], sys.argv[1]
common.run(globals()[name])
"""
    line = "__main__: interrupted; finished work is kept\n"
    variables = started.environment(PYTHONPATH=str(started.BIN.parent))
    for name, said in (("swallowed", ""), ("converted", line), ("at_exit", "")):
        command = [sys.executable, "-c", code, name]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (130, said), name
