"""Runs binaries in processes of their own that need not import TensorFlow: forks of one that did only that."""

import atexit
import functools
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(cwd, binary, *flags):
    """`python -m tfshape BINARY FLAGS` in folder `cwd`: a `subprocess.CompletedProcess` with text."""
    server = _server()
    arguments = [binary, *map(str, flags)]
    server.stdin.write(json.dumps({"cwd": str(cwd), "arguments": arguments}) + "\n")
    server.stdin.flush()
    code, out, err = json.loads(server.stdout.readline())
    return subprocess.CompletedProcess(arguments, code, out, err)


@functools.cache
def _server():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(server.kill)
    return server


def _child(work, out, err):
    """Never returns."""
    code = 1
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        os.chdir(work["cwd"])
        sys.argv = ["tfshape", *work["arguments"]]
        from tfshape.__main__ import main

        code = main() or 0
    except SystemExit as ending:
        code = ending.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import tempfile
    import traceback

    import tensorflow  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if child == 0:
                _child(json.loads(line), out, err)
            status = os.waitpid(child, 0)[1]
            found = [os.waitstatus_to_exitcode(status), *(file.seek(0) or file.read() for file in (out, err))]
        print(json.dumps(found), file=answers, flush=True)
