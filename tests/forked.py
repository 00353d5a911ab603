"""Runs programs in processes of their own that need not import TensorFlow and Keras: forks of one that did."""

import atexit
import functools
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(cwd, binary, *flags, folders=()):
    """`python -m tfshape BINARY FLAGS` in folder `cwd`: a `subprocess.CompletedProcess` with text.

    folders: to import from before all others.
    """
    return _run(cwd, ["-m", "tfshape", binary, *flags], folders=folders)


def script(cwd, path, *arguments, text=""):
    """`python PATH ARGUMENTS`, with `text` to read from its stdin."""
    return _run(cwd, [path, *arguments], text)


def code(cwd, source, *arguments, folders=()):
    """`python -c SOURCE ARGUMENTS`."""
    return _run(cwd, ["-c", source, *arguments], folders=folders)


def _run(cwd, command, text="", folders=()):
    server, command = _server(), list(map(str, command))
    work = {"cwd": str(cwd), "command": command, "text": text, "folders": list(map(str, folders))}
    server.stdin.write(json.dumps(work) + "\n")
    server.stdin.flush()
    returncode, out, err = json.loads(server.stdout.readline())
    return subprocess.CompletedProcess(command, returncode, out, err)


@functools.cache
def _server():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    server = subprocess.Popen(
        [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(server.kill)
    return server


def _child(work, files):
    """Never returns."""
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        os.chdir(work["cwd"])
        sys.stdin = files[0]
        how, *sys.argv = work["command"]
        sys.path[0:0] = work["folders"]
        if how == "-m":
            from tfshape.__main__ import main

            code = main() or 0
        elif how == "-c":
            source, sys.argv[0] = sys.argv[0], "-c"
            exec(compile(source, "<string>", "exec"), {"__name__": "__main__"})
            code = 0
        else:
            sys.argv.insert(0, how)
            sys.path.insert(0, os.path.dirname(how))
            runpy.run_path(how, run_name="__main__")
            code = 0
    except SystemExit as ending:
        code = ending.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import contextlib
    import runpy
    import tempfile
    import traceback

    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        work = json.loads(line)
        with contextlib.ExitStack() as stack:
            given, out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
            given.write(work["text"])
            given.seek(0)
            child = os.fork()
            if child == 0:
                _child(work, (given, out, err))
            status = os.waitpid(child, 0)[1]
            found = [os.waitstatus_to_exitcode(status), *(file.seek(0) or file.read() for file in (out, err))]
        print(json.dumps(found), file=answers, flush=True)
