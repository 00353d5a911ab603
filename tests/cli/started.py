"""Runs `bin/NAME` as a user does: with its shell, its own Python and the signals of a terminal."""

import os
import pathlib
import signal
import subprocess
import sys
import time

BIN = pathlib.Path(__file__).resolve().parents[2] / "bin"
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a shell has it ignored in tests that it runs in the background
TINY = ("--dataset=digits", "--attack=label_flip", "--model=lr", "--epochs=1", "--shaping=none", "--nocontrols")
TINY += ("--quiet",)


def environment(**variables):
    """Variables by which `bin/*` use this Python."""
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": "", **variables}


def start(cwd, name, *flags, **variables):
    """A process group of its own, as a shell with a terminal makes it."""
    command = [BIN / name, *flags]
    pipe = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=cwd, env=environment(**variables), text=True, start_new_session=True, **pipe)


def end(process, seconds=120):
    """What it wrote and its exit code as a shell tells it: a `subprocess.CompletedProcess`."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    return subprocess.CompletedProcess(process.args, code, out, err)


def run(cwd, name, *flags, **variables):
    return end(start(cwd, name, *flags, **variables))


def group(number):
    """The processes of a session, less those that are dead."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            state, _, _, session = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(session) == number and state not in "ZX":
            found.append(int(entry.name))
    return found


def wait_for_the_end_of(number, seconds=30):
    limit = time.monotonic() + seconds
    while group(number):
        assert time.monotonic() < limit, f"still there: {group(number)}"
        time.sleep(0.1)
