"""What a worker says: one line of JSON when it has its model, and one for each block of steps it is asked for.

Needs nothing but the standard library: the workers of other frameworks run in interpreters without tfshape.
"""

import json
import os
import sys

CLIP, NOISE, LEARNING_RATE, CLASSES = 1.0, 1.0, 0.01, 10
NUM_BATCHES = 4  # that the data holds; training goes round them
VOCABULARY, LENGTH, WIDTH, HEADS = 10_000, 64, 128, 4  # of the text classifier
GROUPS = 8  # of resnet20's group normalisation


def serve(trainer):
    """Answers the parent process until it closes the pipe; called as `worker.py MODEL VARIANT BATCH_SIZE [NUMBER…]`.

    Args:
        trainer: a class, made from (model, variant, batch_size, …), with `parameters` (int), `detail` (str) and
            `train(steps)`: trains that many steps by the framework's usual loop and returns the seconds they took.
    """
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a framework prints goes to stderr
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # if the kernel must end a process, this one
    model, variant, *numbers = sys.argv[1:]
    made = trainer(model, variant, *map(int, numbers))
    print(json.dumps({"parameters": made.parameters, "start_mb": memory_mb("VmRSS")}), file=replies)
    for line in sys.stdin:
        seconds = made.train(int(line))
        print(json.dumps({"seconds": seconds, "peak_mb": memory_mb("VmHWM"), "detail": made.detail}), file=replies)


def memory_mb(field, pid="self"):
    """MB (10^6 bytes) that Linux counts for a process: VmRSS, held now, or VmHWM, the most ever held."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0  # a process that has just ended


def forget_peak():
    """Sets this process's VmHWM back to what it holds now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def hidden_width(model):
    """The width of `mlp` or `mlp:WIDTH`."""
    return int(model.partition(":")[2] or 256)


def data(model, batch_size):
    """NumPy x [NUM_BATCHES, batch_size, …] and y [NUM_BATCHES, batch_size] (int32 classes) for a model.

    x is float32 in [0, 1], channels last, or int32 tokens for `text`.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, (NUM_BATCHES, batch_size)).astype(np.int32)
    if model == "text":
        return rng.integers(0, VOCABULARY, (NUM_BATCHES, batch_size, LENGTH)).astype(np.int32), y
    shape = (32, 32, 3) if model == "resnet20" else (28, 28, 1)
    return rng.random((NUM_BATCHES, batch_size, *shape), np.float32), y
