"""What TensorFlow and XLA say of themselves on stderr, whatever the log level, and nobody asked for."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import tempfile
from collections.abc import Iterator

_BANNER = re.compile(rb"I0000 |WARNING: All log messages before absl::InitializeLog")


@contextlib.contextmanager
def dropped() -> Iterator[None]:
    """Drops it from what is written to stderr inside; all else is written afterwards."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            os.write(2, b"".join(line for line in said if not _BANNER.match(line)))


@functools.lru_cache(maxsize=1)
def of_xla() -> None:
    """Lets XLA compile a first program, of which it tells once in a process, and drops that. For a graph to come."""
    import tensorflow as tf

    with tf.init_scope(), dropped():
        tf.function(lambda: tf.zeros([]), jit_compile=True, autograph=False)()
