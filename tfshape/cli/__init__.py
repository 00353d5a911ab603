"""absl flags and the mains behind `bin/*`."""

import sys

from tfshape import limits

_LEAST = 1 << 30  # bytes of address space; TensorFlow itself needs more
_limit = limits.address_space()
if _limit is not None and _limit < _LEAST:  # said before NumPy and SciPy load, which may hang: see `limits.prepare`
    sys.exit(f"tfshape: out of memory: ulimit -v must be {_LEAST >> 10} or more, got {_limit >> 10}")

BINARIES = {
    "analyze": "what poison does to gradients while a model trains",
    "audit": "a lower bound on epsilon from the training as it really runs",
    "benchmark": "time and memory of the engine and the transforms against their peers",
    "craft": "the poison of a targeted attack, saved for later",
    "evaluate": "an attack against undefended and shaped training, side by side",
    "poison": "write a poisoned copy of a dataset for any framework",
    "report": "a page, tables and pictures of a study or an evaluation",
    "reproduce": "a published table trained again, beside the published numbers",
    "sweep": "a grid of experiments as one study that goes on after any crash",
}
