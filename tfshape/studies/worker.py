"""Running one task: in a process of `Local`'s, which run `main`, or in one of Ray's.

A task is a dict of JSON values: `function`, `folder`, `config`, `trials`, a list of numbers, and perhaps `imports`, the
fields of each `tfshape.imports.Import` that the driver loaded. The reply has, for each
trial, {"seconds": s, "result": r} or {"seconds": s, "error": words}; with also {"full": path} where the disk was full.
"""

from __future__ import annotations

import errno
import importlib
import os
import pathlib
import sys
import threading
import time
import traceback

from tfshape import graphs, imports, limits, strict_json

MEMORY_EXIT = 77  # the exit code of a worker that took more memory than it may
_LOOK_SECONDS = 0.25


def execute(task, catch=True):
    """Runs the trials of a task. Returns a list with a reply a trial; what a trial raises is one, or, without `catch`,
    is raised."""
    try:
        return _execute(task, catch)
    finally:
        graphs.free()


def _execute(task, catch):
    trials, start = task["trials"], time.perf_counter()
    if len(trials) > 1:
        try:
            stacked = getattr(_function(task), "stacked", None)
            if stacked is not None:
                found = stacked(task["config"], trials, task["folder"])
                seconds = (time.perf_counter() - start) / len(trials)
                return [{"seconds": seconds, "result": result} for result in found]
        except Exception:  # which of them it was comes out below, where each runs by itself
            traceback.print_exc()
    return [_one(task, trial, catch) for trial in trials]


def _one(task, trial, catch):
    start = time.perf_counter()
    try:
        result = {"result": _function(task)(task["config"], trial, task["folder"])}
    except Exception as error:
        if not catch:
            raise
        lines = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        result = {"error": f"{type(error).__name__}: {error}\n{lines}"}
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                result["full"] = str(cause.filename or task["folder"])
            cause = cause.__cause__ or cause.__context__
    return {"seconds": time.perf_counter() - start, **result}


def _function(task):
    """The trial function of a task, once what the driver imported is imported here."""
    imports.restore(task.get("imports", ()))
    module, _, name = task["function"].partition(":")
    return getattr(importlib.import_module(module), name)


def memory():
    """Bytes that this process holds; where there is no /proc, the most that it ever held."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def import_path():
    """The PYTHONPATH by which a worker imports from where this process does."""
    source = str(pathlib.Path(__file__).resolve().parents[2])
    entries = [entry or os.getcwd() for entry in sys.path if not entry or os.path.isabs(entry)]
    return os.pathsep.join(entries if source in entries else [source, *entries])


def main():
    """Reads tasks from standard input, a line of JSON each, and writes the replies to standard output.

    Ends when its input does, when its parent has died, or when it holds too many bytes. Arguments: how many, and the
    parent's process number, for it may have died before this process could ask.
    """
    limit, parent = map(int, sys.argv[1:])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not a reply

    def watch():
        while True:
            if os.getppid() != parent:
                os._exit(1)
            if memory() > limit:
                os._exit(MEMORY_EXIT)
            time.sleep(_LOOK_SECONDS)

    threading.Thread(target=watch, daemon=True).start()
    limits.prepare()
    for line in sys.stdin:
        found = execute(strict_json.loads(line))
        print(strict_json.dumps({"replies": found, "memory": memory()}), file=replies, flush=True)
