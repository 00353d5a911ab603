"""The shaping suite: plain SGD, `ts.shape`, and other libraries' DP-SGD, on the same models and batches."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys

from tfshape import checks
from tfshape.benchmarks.process import Gone, Worker, machine_mb

SCHEMA = 1
MOST = 1_000_000  # of anything that is set
_ASKED = 60  # seconds for another Python to say what it has
MODELS = ("lr", "mlp", "cnn", "resnet20", "text")
WORKERS = pathlib.Path(__file__).with_name("workers")
ROOT = str(pathlib.Path(__file__).resolve().parents[2])


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to train: `worker` is the program that does it, `plain` the variant of the same framework without DP."""

    name: str
    worker: str
    plain: str
    label: str


OURS = (
    Variant("sgd", "keras", "sgd", "Keras SGD"),
    Variant("tfshape", "keras", "sgd", "tfshape clip|noise"),
)
PEERS = {
    "tensorflow_privacy": (
        Variant("tfp_looped", "keras", "sgd", "TF-Privacy DPKerasSGD"),
        Variant("tfp_vectorized", "keras", "sgd", "TF-Privacy VectorizedDPKerasSGD"),
        Variant("tfp_dpmodel", "keras", "sgd", "TF-Privacy DPModel"),
        Variant("tfp_registry", "keras", "sgd", "TF-Privacy DPModel, layer registry"),
    ),
    "opacus": (
        Variant("torch_sgd", "opacus", "torch_sgd", "PyTorch SGD"),
        Variant("opacus_hooks", "opacus", "torch_sgd", "Opacus hooks"),
        Variant("opacus_ghost", "opacus", "torch_sgd", "Opacus ghost"),
    ),
    "jax_privacy": (
        Variant("jax_sgd", "jax", "jax_sgd", "JAX SGD"),
        Variant("jax_privacy", "jax", "jax_sgd", "JAX-Privacy clipped_grad"),
        Variant("jax_keras_sgd", "jax_keras", "jax_keras_sgd", "Keras SGD on JAX"),
        Variant("jax_privacy_keras", "jax_keras", "jax_keras_sgd", "JAX-Privacy Keras API"),
    ),
}
LABELS = {variant.name: variant.label for variant in (*OURS, *sum(PEERS.values(), ()))}
NEEDS = {"opacus": ("torch", "opacus"), "jax_privacy": ("jax", "flax", "optax", "jax-privacy", "keras")}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured, and within which limits.

    Attributes:
        models: names: `lr`, `mlp` or `mlp:WIDTH`, `cnn`, `resnet20`, `text`.
        batch_sizes: ints >= 1.
        peers: names of PEERS to compare with; None: all that are at hand.
        opacus_python, jax_python: interpreters that have Opacus, and JAX-Privacy with flax and keras; or None.
        steps_per_execution: int >= 1, steps that `fit` takes in one call of TensorFlow, for all that runs in it.
        blocks: int >= 2, timed blocks a variant; fewer for one whose blocks took `timeout` altogether.
        block_seconds: > 0, about how long a block is; it has at least one step.
        timeout: > 0, seconds for starting, for the first steps, and for a block, after which a variant is given up.
        memory_limit_gb: > 0, GB (10^9 bytes) that a process may hold; None: half of the machine's.

    Raises:
        ValueError: a value that is not allowed.
    """

    models: tuple = MODELS
    batch_sizes: tuple = (64, 256, 1024)
    peers: tuple | None = None
    opacus_python: str | None = None
    jax_python: str | None = None
    steps_per_execution: int = 1
    blocks: int = 9
    block_seconds: float = 1.0
    timeout: float = 300.0
    memory_limit_gb: float | None = None

    def __post_init__(self):
        for name in self.models:
            if not re.fullmatch(r"mlp:[1-9]\d{0,5}", name, re.ASCII):
                checks.choice("models", name, (*MODELS, "mlp:WIDTH"))
        for name in self.peers or ():
            checks.choice("peers", name, PEERS)
        for name in ("models", "batch_sizes"):
            checks.require(name, getattr(self, name), "at least one", getattr(self, name))
        for size in self.batch_sizes:
            checks.integer("batch_sizes", size, 1, MOST)
        checks.integer("blocks", self.blocks, 2, MOST)
        checks.integer("steps_per_execution", self.steps_per_execution, 1, MOST)
        for name in ("block_seconds", "timeout", "memory_limit_gb"):
            if getattr(self, name) is not None:
                checks.real(name, getattr(self, name), 0, MOST, above=True)

    def interpreters(self):
        """peer -> the interpreter it runs in, for every peer that is measured.

        Raises:
            ValueError: a peer that was asked for is not at hand, or an interpreter lacks what it should have.
        """
        given = {"opacus": ("opacus_python", self.opacus_python), "jax_privacy": ("jax_python", self.jax_python)}
        found = {}
        if importlib.util.find_spec("tensorflow_privacy"):
            found["tensorflow_privacy"] = sys.executable
        for peer, (flag, python) in given.items():
            if python is not None:
                versions(flag, python, NEEDS[peer])
                found[peer] = python
        for peer in self.peers or ():
            if peer not in found:
                how = f"--{given[peer][0]}" if peer in given else "a Python whose TensorFlow is older than 2.16"
                raise ValueError(f"peers must be installed, got {peer!r}, which needs {how}")
        return {peer: python for peer, python in found.items() if self.peers is None or peer in self.peers}


def versions(flag, python, packages):
    """package -> its version in another interpreter. Raises ValueError, naming `flag`, if one is missing there."""
    code = "import sys; sys.path[:] = filter(None, sys.path)\n"  # not from the working directory
    code += "import importlib.metadata as m, json; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    try:
        options = {"capture_output": True, "text": True, "env": environment(False), "timeout": _ASKED}
        return json.loads(subprocess.run([python, "-c", code, *packages], check=True, **options).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        checks.fail(flag, f"a Python that has {', '.join(packages)}", python)


def measure(settings, progress=lambda done, total, words: None, save=lambda rows: None):
    """Measures every variant on every model and batch size.

    Args:
        settings: `Settings`.
        progress: function (done, total, words), called as work goes on.
        save: function of all rows so far, called whenever a model at a batch size is done.
    Returns:
        A list of rows, dicts: see `row`.
    Raises:
        ValueError: see `Settings.interpreters`; or the system is not Linux, whose /proc tells memory.
    """
    if not os.path.exists("/proc/self/clear_refs"):
        raise ValueError("suite='shaping': needs Linux, whose /proc tells how much memory a process holds")
    pythons = settings.interpreters()
    variants = [(variant, sys.executable) for variant in OURS]
    variants += [(variant, python) for peer, python in pythons.items() for variant in PEERS[peer]]
    cells = [(model, batch_size) for model in settings.models for batch_size in settings.batch_sizes]
    rows, size = [], len(variants) * (settings.blocks + 1)
    for number, (model, batch_size) in enumerate(cells):

        def told(done, words, number=number, cell=f"{model} batch {batch_size}"):
            progress(number * size + done, len(cells) * size, f"{cell} {words}")

        rows += _measure_cell(model, batch_size, variants, settings, told)
        save(rows)
    return rows


@dataclasses.dataclass
class Run:
    """What is known of a variant on one model at one batch size."""

    variant: Variant
    worker: Worker | None = None
    steps: int = 0  # a block
    facts: dict = dataclasses.field(default_factory=dict)
    seconds: dict = dataclasses.field(default_factory=dict)  # of a step, by round
    status: str = "ok"
    detail: str = ""

    def ask(self, steps):
        """Seconds a step, of that many; None once the variant is gone."""
        assert self.worker is not None
        try:
            answer = self.worker.ask(steps)
        except Gone as gone:
            self.give_up(gone)
            return None
        self.facts.update(peak_mb=answer["peak_mb"])
        self.detail = answer["detail"]
        return answer["seconds"] / steps

    def give_up(self, gone):
        """Notes why, and ends the process."""
        self.status, self.detail = gone.status, gone.detail
        if self.worker is not None:
            self.worker.close()
        self.worker = None


def _measure_cell(model, batch_size, variants, settings, told):
    runs, done = [], 0
    try:
        for variant, python in variants:
            told(done, f"{variant.name}: first steps")
            runs.append(Run(variant))
            _start(runs[-1], python, model, batch_size, settings)
            done += 1
        for number in range(settings.blocks):
            for run in runs:
                told(done, f"{run.variant.name}: block {number + 1}")
                spent = sum(run.seconds.values()) * run.steps
                seconds = run.ask(run.steps) if run.worker and spent < settings.timeout else None
                if seconds is not None:
                    run.seconds[number] = seconds
                done += 1
        told(done, "done")
    finally:
        for run in runs:
            if run.worker:
                run.worker.close()
    plain = {run.variant.name: run for run in runs}
    return [row(model, batch_size, run, plain[run.variant.plain]) for run in runs]


def _start(run, python, model, batch_size, settings):
    """Starts a variant's process, has it take its first steps, and finds how many steps a block has."""
    command = [python, str(WORKERS / f"{run.variant.worker}_worker.py"), model, run.variant.name, str(batch_size)]
    if run.variant.worker == "keras":
        command.append(str(settings.steps_per_execution))
    limit = machine_mb() / 2 if settings.memory_limit_gb is None else settings.memory_limit_gb * 1000
    run.worker = Worker(command, environment(run.variant.worker == "keras"), limit, settings.timeout)
    try:
        run.facts.update(run.worker.answer())
    except Gone as gone:
        run.give_up(gone)
        return
    run.facts["first_step_seconds"] = run.ask(1)  # traces and compiles
    steps, seconds = 1, run.worker and run.ask(1)
    while seconds and seconds * steps < settings.block_seconds / 4:
        steps = min(10 * steps, math.ceil(settings.block_seconds / seconds))
        seconds = run.ask(steps)
    run.steps = max(1, round(settings.block_seconds / seconds)) if seconds else 0


def environment(ours):
    """The environment of a process; other frameworks' interpreters do not inherit our import path."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "1", **os.environ}
    path = environment.pop("PYTHONPATH", None)
    if ours:
        environment["PYTHONPATH"] = os.pathsep.join([ROOT, *([path] if path else [])])
    return environment


def row(model, batch_size, run, plain):
    """One row of the results.

    Args:
        model, batch_size: what was trained.
        run: the `Run` of a variant; `plain`, that of plain SGD in the same framework.
    Returns:
        A dict: schema, model, parameters, batch_size, variant, status (ok, out of memory, timeout or failed), detail;
        milliseconds a step, its quartiles _low and _high over the blocks, and microseconds an example; ratio, the
        median over rounds of the time beside plain SGD's in the same round, with its quartiles; peak_mb of the
        process, memory_ratio to plain SGD's, training_mb (peak_mb beyond what it held before its first step);
        first_step_seconds; blocks; steps_per_block. What is not known is None; times are None unless status is ok.
    """
    ok = run.status == "ok"
    times = [1000 * seconds for seconds in run.seconds.values()] if ok else []
    ratios = [seconds / plain.seconds[number] for number, seconds in run.seconds.items() if number in plain.seconds]
    middle, low, high = quartiles(times)
    ratio, ratio_low, ratio_high = quartiles(ratios if ok else [])
    peak, start = (run.facts.get(name) for name in ("peak_mb", "start_mb"))
    peak_plain = plain.facts.get("peak_mb")
    return {
        "schema": SCHEMA,
        "model": model,
        "parameters": run.facts.get("parameters"),
        "batch_size": batch_size,
        "variant": run.variant.name,
        "status": run.status,
        "detail": run.detail,
        "milliseconds": middle,
        "milliseconds_low": low,
        "milliseconds_high": high,
        "microseconds_per_example": None if middle is None else 1000 * middle / batch_size,
        "ratio": ratio,
        "ratio_low": ratio_low,
        "ratio_high": ratio_high,
        "peak_mb": peak,
        "memory_ratio": peak / peak_plain if ok and peak and peak_plain else None,
        "training_mb": peak - start if ok and peak else None,
        "first_step_seconds": run.facts.get("first_step_seconds"),
        "blocks": len(times),
        "steps_per_block": run.steps,
    }


def quartiles(values):
    """(median, first quartile, third quartile), None each for no values."""
    if len(values) < 2:
        return (values[0],) * 3 if values else (None,) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high
