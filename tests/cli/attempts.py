"""`python attempts.py BINARY [tensorflow]`: runs a binary with the flags that each line of stdin has (a JSON list).

Each attempt is a fork of this process, in a folder of its own. Answers each with a line: [exit code, stdout, stderr,
files it left]. Without the word tensorflow, an attempt that imports TensorFlow ends with LOADED instead.
"""

import importlib
import importlib.abc
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile

from absl import flags

LOADED = 77
SECONDS = 60
BYTES = 4 << 30


class _NoTensorFlow(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname == "tensorflow":
            os._exit(LOADED)


def attempt(binary, given, tensorflow):
    """[exit code, stdout, stderr, names of files]; a negative code is the signal that ended it."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.chdir(folder)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                signal.alarm(SECONDS)
                if not tensorflow:
                    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
                    sys.meta_path.insert(0, _NoTensorFlow())
                sys.argv = [binary, *given]
                importlib.import_module(f"tfshape.cli.{binary}").run()
            except SystemExit as ending:
                code = ending.code or 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        left = sorted(path.name for path in pathlib.Path(folder).rglob("*"))
        texts = [file.seek(0) or file.read().decode("utf-8", "surrogateescape") for file in (out, err)]
        return [code, *texts, left]


def found(binary):
    """Name to the class of its parser, of every flag of a binary that tfshape defines, or that absl does."""
    importlib.import_module(f"tfshape.cli.{binary}")
    return {flag.name: type(flag.parser).__name__ for flag in map(flags.FLAGS.__getitem__, flags.FLAGS)}


if __name__ == "__main__":
    name, tensorflow = sys.argv[1], "tensorflow" in sys.argv[2:]
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps(found(name)), file=answers, flush=True)
    if tensorflow:
        import keras  # noqa: F401
        import tensorflow as _  # noqa: F401
    for line in sys.stdin:
        print(json.dumps(attempt(name, json.loads(line), tensorflow)), file=answers, flush=True)
