"""Ctrl-C: exit code 130 and at most one line, whatever this process is at."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

CODE = 130
_interrupted = False


def leave(*_: Any, _exit: Any = os._exit) -> None:
    """A handler of signals that ends this process at once: nothing is unwound, so nothing can go wrong meanwhile."""
    _exit(CODE)


def ends_at_once() -> None:
    """Ctrl-C ends this process at once: while it has not begun its work, and when that is done."""
    signal.signal(signal.SIGINT, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # bin/* block it while Python starts


def raises() -> None:
    """Ctrl-C raises KeyboardInterrupt once; a second one, or a first that gets lost, ends this process at once."""
    signal.signal(signal.SIGINT, _raise)
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        setattr(module, name, _unless_interrupted(getattr(module, name)))


def received() -> bool:
    """Whether Ctrl-C was pressed: what follows from it may be another exception than KeyboardInterrupt, or none."""
    return _interrupted


def _raise(number, frame):
    global _interrupted
    if _interrupted:
        leave()
    _interrupted = True
    raise KeyboardInterrupt


def _unless_interrupted(hook):
    return lambda *arguments: leave() if _interrupted else hook(*arguments)
