"""A worker process: started, asked, timed out, and ended before it takes the machine's memory."""

import json
import os
import selectors
import subprocess
import tempfile
import time
from typing import IO

from tfshape.benchmarks.workers.protocol import memory_mb

SPARE_MB = 1000  # of the machine's memory, below which a growing worker is ended
POLL_SECONDS = 0.05
_MEMORY_WORDS: tuple = ("out of memory", "oom when allocating", "resource_exhausted", "resourceexhausted", "bad_alloc")
_MEMORY_WORDS += ("memoryerror", "can't allocate memory", "cannot allocate memory", "failed to allocate")


class Gone(Exception):
    """A worker that is there no more: `status` is "out of memory", "timeout" or "failed", `detail` says more."""

    def __init__(self, status, detail):
        super().__init__(f"{status}: {detail}")
        self.status, self.detail = status, detail


class _Process(subprocess.Popen):
    """One with pipes."""

    stdin: IO[bytes]
    stdout: IO[bytes]


class Worker:
    """A program that speaks `workers.protocol`."""

    def __init__(self, command, environment, limit_mb, timeout):
        """Starts it. `limit_mb`: MB of memory it may hold; `timeout`: seconds it may take for an answer."""
        self.limit_mb, self.timeout = limit_mb, timeout
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self.process = _Process(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0
        )
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.buffer = b""

    def ask(self, steps):
        """Has it train that many steps. Returns a dict: seconds, peak_mb, detail. Raises Gone."""
        try:
            self.process.stdin.write(b"%d\n" % steps)
        except BrokenPipeError:
            raise self._ended() from None
        return self.answer()

    def answer(self):
        """The next line it says, as a dict; the first has parameters and start_mb. Raises Gone."""
        end = time.monotonic() + self.timeout
        while b"\n" not in self.buffer:
            if self.selector.select(POLL_SECONDS):
                part = os.read(self.process.stdout.fileno(), 1 << 16)
                if not part:
                    raise self._ended()
                self.buffer += part
            elif time.monotonic() > end:
                raise self._end("timeout", f"no answer in {self.timeout:g} s")
            self._watch()
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    def close(self):
        """Ends it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.selector.close()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            pipe.close()

    def _watch(self):
        held = memory_mb("VmRSS", self.process.pid)
        if held > self.limit_mb:
            raise self._end("out of memory", f"held {held / 1000:.1f} GB, more than {self.limit_mb / 1000:g} GB")
        if available_mb() < SPARE_MB:
            raise self._end("out of memory", f"held {held / 1000:.1f} GB, and the machine had no more")

    def _end(self, status, detail):
        self.process.kill()
        return Gone(status, detail)

    def _ended(self):
        """Why it ended by itself, from the last words on its stderr."""
        code = self.process.wait()
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - 100_000))
        lines = [line.strip() for line in self.errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        short = any(word in line.lower() for line in lines for word in _MEMORY_WORDS)
        if code == -9 or short:  # by the kernel
            return Gone("out of memory", f"exit code {code}")
        return Gone("failed", f"exit code {code}: {lines[-1] if lines else ''}"[:300])


def machine_mb():
    """MB of memory that the machine has."""
    return _meminfo("MemTotal")


def available_mb():
    """MB of memory that can be had without swapping."""
    return _meminfo("MemAvailable")


def _meminfo(field):
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith(field + ":"))
