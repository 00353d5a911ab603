"""Where trials run on this machine: in this process, or in worker processes, each with a TensorFlow of its own."""

from __future__ import annotations

import os
import pathlib
import selectors
import subprocess
import sys
from typing import IO, Any

from tfshape import checks, folders, strict_json
from tfshape.studies.worker import MEMORY_EXIT, execute, import_path

_GIGABYTE = 1 << 30
_LEAST = 1.0  # gigabytes of a worker with TensorFlow and a small dataset
_SMALLEST = 0.5  # gigabytes with which one may just start
_RENEWED = 0.75  # of its memory bound, from which a worker is replaced between trials

# Ctrl-C is the driver's to answer, and the working directory, which -c puts first, nothing to import from.
_PROGRAM = (
    "import sys; sys.path[:] = filter(None, sys.path); import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from tfshape.studies import worker; worker.main()"
)


class InProcess:
    """Runs tasks in this process, one after the other; what a trial raises is raised."""

    def __init__(self) -> None:
        self._task: dict[str, Any] | None = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._task = None

    def free(self) -> int:
        """How many tasks can be submitted now."""
        return int(self._task is None)

    def submit(self, task: dict[str, Any]) -> None:
        """Takes a task, a dict as `worker.execute` takes it, for `wait` to run."""
        self._task = task

    def wait(self, seconds: float) -> list[tuple[dict, list | None, str | None]]:
        """Runs the task: [(task, replies, None)]."""
        task, self._task = self._task, None
        return [] if task is None else [(task, execute(task, catch=False), None)]


class Local:
    """Runs tasks in processes of this machine.

    Attributes:
        workers: how many processes, >= 1, with half a gigabyte each or more. None: one a core, as far as the memory
            gives each of them a gigabyte.
        memory: gigabytes that all of them together may hold, > 0 and at most what this machine, or the control group of
            this process, has; None: four fifths of that. A worker that takes more than its share is ended, and its
            trial tried again in a new one.
        log: file that gets what workers print, or None to drop it.

    Each worker computes with one thread, so the results do not depend on the number of workers; trials in parallel use
    the cores better than threads do. Workers start when there is work for them, stay for the next trial, and are
    replaced when they die. They share the GPUs, and each takes only the memory that it needs.

    Raises:
        ValueError: a number outside these.
    """

    def __init__(
        self, workers: int | None = None, memory: float | None = None, log: str | os.PathLike | None = None
    ) -> None:
        machine = _memory() / _GIGABYTE
        self.memory = 0.8 * machine if memory is None else checks.real("memory", memory, 0, machine, above=True)
        workers = None if workers is None else checks.integer("workers", workers, 1, most_workers(self.memory))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = workers or max(1, min(cores, int(self.memory / _LEAST)))
        self._share = int(self.memory * _GIGABYTE / self.workers)
        self._log = log
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, dict] = {}
        self._output: Any = subprocess.DEVNULL
        self._selector = selectors.DefaultSelector()

    def __enter__(self):
        if self._log is not None:
            self._output = os.fdopen(folders.opened(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab", 0)
        return self

    def __exit__(self, *error):
        for worker in [*self._idle, *self._busy]:
            worker.kill()
            worker.wait()
        self._idle, self._busy = [], {}
        if self._log is not None:
            self._output.close()

    def __str__(self):
        return f"{self.workers} local workers of one thread and {self._share / _GIGABYTE:.1f} GB"

    def pids(self) -> list[int]:
        """The process numbers of the workers."""
        return [worker.pid for worker in [*self._idle, *self._busy]]

    def free(self) -> int:
        """How many tasks can be submitted now."""
        return self.workers - len(self._busy)

    def submit(self, task: dict[str, Any]) -> None:
        """Starts a task, a dict as `worker.execute` takes it."""
        worker = self._idle.pop() if self._idle else self._start()
        self._busy[worker] = task
        try:
            worker.stdin.write(strict_json.dumps(task).encode() + b"\n")
            worker.stdin.flush()
        except BrokenPipeError:
            pass  # `wait` finds the end of its output

    def wait(self, seconds: float) -> list[tuple[dict, list | None, str | None]]:
        """What came of tasks within `seconds`, as soon as there is any: a list of (task, replies, death).

        `replies` are those of `worker.execute`, or None if the worker died, of what `death` says.
        """
        found: list[tuple[dict, list | None, str | None]] = []
        for key, _ in self._selector.select(seconds):
            worker = key.data
            chunk = os.read(worker.stdout.fileno(), 1 << 20)
            worker.received += chunk
            if not chunk:
                task = self._end(worker)
                if task is not None:
                    found.append((task, None, self._death(worker.returncode)))
            elif worker.received.endswith(b"\n"):
                reply, worker.received = strict_json.loads(worker.received), b""
                found.append((self._busy.pop(worker), reply["replies"], None))
                if reply["memory"] > _RENEWED * self._share:
                    worker.kill()
                    self._end(worker)
                else:
                    self._idle.append(worker)
        return found

    def _start(self):
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", **os.environ, **dict.fromkeys(names, "1")}
        environment["PYTHONPATH"] = import_path()
        worker = _Worker(
            [sys.executable, "-c", _PROGRAM, str(self._share), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            env=environment,
        )
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        return worker

    def _end(self, worker):
        """Forgets a worker whose output has ended. Returns the task that it had."""
        self._selector.unregister(worker.stdout)
        worker.wait()
        worker.stdout.close()
        if worker in self._idle:
            self._idle.remove(worker)
        return self._busy.pop(worker, None)

    def _death(self, code):
        if code == MEMORY_EXIT:
            return f"its worker took more than its share of the memory, {self._share / _GIGABYTE:.1f} GB"
        return f"its worker died of signal {-code}" if code < 0 else f"its worker ended with code {code}"


class _Worker(subprocess.Popen):
    """A process, and what of its next reply has been read."""

    stdin: IO[bytes]
    stdout: IO[bytes]

    received = b""


def most_workers(memory: float | None = None) -> int:
    """How many workers `memory` gigabytes, or four fifths of the machine's, can hold at the very most; >= 1."""
    memory = 0.8 * _memory() / _GIGABYTE if memory is None else memory
    return max(1, int(memory / _SMALLEST))


def _memory():
    """Bytes of memory: of the control group that this process is in, or of the machine."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found = min(found, int(pathlib.Path(path).read_text()))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return found
