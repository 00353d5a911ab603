"""absl flags and the mains behind `bin/*`."""

import os
import resource

if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
    # Under `ulimit -v`, OpenBLAS asks again and again, for ever, for 32 MB a thread that it cannot have.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

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
