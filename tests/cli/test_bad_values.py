"""Every flag of every binary, as absl's registry has them, with values nobody can mean: one line, exit 2, at once."""

import functools
import json
import os
import pathlib
import random
import subprocess
import sys
import unicodedata
import zlib

import attempts
import forked
import pytest

from tfshape.cli import BINARIES

pytestmark = pytest.mark.one_stack

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = "--dataset=digits --attack=label_flip --budget=0.4 --model=lr --epochs=1 --trials=1"
FLAGS = {  # with which a binary has little to do, should it take what it is given
    "analyze": f"{TINY} --output_dir=out",
    "audit": "--dataset=digits --canaries=20 --steps=20 --runs=20",
    "benchmark": "--models=lr --batch_sizes=8 --peers= --blocks=2 --block_seconds=0.01 --output_dir=out",
    "craft": f"{TINY} --output=out",
    "evaluate": f"{TINY} --output_dir=out",
    "poison": "--dataset=digits --transform=flip_labels(0.1) --output=out.npz",
    "report": "--study=study",
    "reproduce": "--table=indiscriminate --dataset=digits --trials=1 --workers=1 --rates=0.1",
    "sweep": f"{TINY} --output_dir=out --workers=1",
}
VALUES = {
    "empty": "",
    "space": " ",
    "escape": "\x1b[2J",
    "turned": "\u202e\u00e9",
    "null": "\0",
    "bytes": "\udcff",
    "lines": "x\ny",
    "long": "x" * 100_000,
    "digits": "9" * 10_000,
    "huge": "9" * 20,
    "negative": "-1",
    "zero": "0",
    "nan": "nan",
    "inf": "inf",
    "1e308": "1e308",
    "1e400": "1e400",
    "hex": "0x10",
    "arabic": "\u0663",
    "underscore": "1_0",
    "comma": ",",
    "several": "1,2",
    "open": "a(b",
    "nested": "(" * 10_000 + ")" * 10_000,
    "here": ".",
    "nowhere": "nowhere/at/all",
    "device": "/dev/null",
}
PATHS = {*VALUES} - {"empty", "space", "null", "long", "digits", "nested"}
COUNTS, NUMBERS = {"hex", "arabic", "underscore"}, {"arabic", "underscore"}
TAKEN = {  # what a flag may have, or what only TensorFlow, or data, show that it may not
    **dict.fromkeys(("output_dir", "audit output", "craft output"), PATHS - {"device"}),
    **dict.fromkeys(("trials", "count_trials", "batch_size", "epochs", "targets", "stack", "workers"), COUNTS),
    **dict.fromkeys(("examples", "trusted", "steps_per_execution", "blocks", "targets_at_once"), COUNTS),
    **dict.fromkeys(("audit noise", "epsilon", "learning_rate", "memory", "timeout", "block_seconds"), NUMBERS),
    **dict.fromkeys(("memory_limit_gb", "num_poisons", "patch_size", "batch_sizes"), NUMBERS | {"several"}),
    "clip": NUMBERS | {"huge"},
    "seed": COUNTS | {"zero"},
    "data_dir": {"here"},
    "classes": {"several"},
    "alpha": {"zero"},
    "rates": {"zero"},
    "peers": {"empty"},
    "shaping": {"nan", "inf"},
    "defense": {"nan", "inf"},
    "status": {*VALUES} - {"empty", "space", "null"},
    "address": {*VALUES} - {"empty", "space", "null"},
    "grid": {*VALUES} - {"null"},
    "undefok": {*VALUES},
    "flagfile": {"empty", "device"},
}
TAKEN["noise"] = TAKEN["audit noise"] | {"zero"}


class Attempts:
    """A process that tries a binary with what it is given."""

    def __init__(self, binary, tensorflow=False):
        command = [sys.executable, attempts.__file__, binary, *(["tensorflow"] if tensorflow else [])]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._binary, self._process = binary, subprocess.Popen(command, env=environment, **pipes)
        self.flags = json.loads(self._process.stdout.readline())

    def __call__(self, *given):
        self._process.stdin.write(json.dumps([*FLAGS[self._binary].split(), *given]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def wrong(binary, code, out, err):
    """What is wrong with how an attempt was refused, or None."""
    if code != 2 or out or not err.startswith(f"{binary}: ") or err.count("\n") != 1 or len(err) > 1000:
        return f"exit {code}, {len(err)} characters"
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in err[:-1]):
        return "control characters"
    return None


def taken(binary, flag, parser):
    """The keys of values that a flag of a binary may have; `parser` is the name of its parser's class."""
    default = {"zero"} if parser == "BooleanParser" else set()
    return TAKEN.get(f"{binary} {flag}", TAKEN.get(flag, default))


def refused(binary, number=None, new=None):
    """What goes wrong with the flags of a binary: with `number` values of each that is in `new`; None: with all."""
    found = []
    with Attempts(binary) as attempt:
        for flag, parser in attempt.flags.items():
            if new is not None and flag not in new:
                continue
            keys = [key for key in VALUES if key not in taken(binary, flag, parser)]
            rng = random.Random(zlib.crc32(flag.encode()))
            for key in keys if number is None else rng.sample(keys, min(number, len(keys))):
                code, out, err, left = attempt(f"--{flag}={VALUES[key]}")
                fault = wrong(binary, code, out, err) or ("left files" if left else None)
                if fault:
                    found.append(f"--{flag} {key}: {fault}: {err[-300:]!r}")
    return found


@functools.cache
def names(binary):
    with Attempts(binary) as attempt:
        return set(attempt.flags)


@pytest.mark.parametrize("binary", BINARIES)
def test_values_that_nobody_can_mean_are_refused_before_tensorflow_loads(binary):
    """Four values for each flag; flags that several binaries share are tried on bin/evaluate."""
    others = set() if binary == "evaluate" else names("evaluate")
    assert not refused(binary, 4, names(binary) - others | {"quiet"})


@pytest.mark.slow
@pytest.mark.parametrize("binary", BINARIES)
def test_all_values_that_nobody_can_mean_are_refused_before_tensorflow_loads(binary):
    assert not refused(binary)


@pytest.mark.slow
@pytest.mark.parametrize("binary", ["audit", "craft", "evaluate", "poison"])
def test_values_that_a_flag_may_have_end_well_or_in_one_line(binary):
    """With TensorFlow, digits and little to train."""
    found = []
    with Attempts(binary, tensorflow=True) as attempt:
        for flag, parser in attempt.flags.items():
            for key in sorted(taken(binary, flag, parser)):
                code, out, err, _ = attempt(f"--{flag}={VALUES[key]}", "--quiet")
                if (code not in (0, 1) or err) and wrong(binary, code, out, err):  # bin/audit ends in 1: refuted
                    found.append(f"--{flag} {key}: exit {code}: {err[-300:]!r}")
    assert not found


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["evaluate", "--budgett=0.1"], "unknown flag '--budgett'. Did you mean 'budget'?"),
        (
            ["evaluate", "--attack=gradient_machting(steps=3)"],
            "got 'gradient_machting'. Did you mean 'gradient_matching'?",
        ),
        (["evaluate", "--model=resnet2"], "got 'resnet2'. Did you mean 'resnet20'?"),
        (["evaluate", "--optimizer=rmsprp"], "got 'rmsprp'. Did you mean 'rmsprop'?"),
        (["evaluate", "--dataset=fashion_mist"], "got 'fashion_mist'. Did you mean 'fashion_mnist'?"),
        (["evaluate", "--attack=label_flip", "--target_rule=runnerup"], "got 'runnerup'. Did you mean 'runner_up'?"),
        (["audit", "--canary=gradinet"], "got 'gradinet'. Did you mean 'gradient'?"),
        (["benchmark", "--suite=poisson"], "got 'poisson'. Did you mean 'poison'?"),
        (["benchmark", "--peers=opcus"], "got 'opcus'. Did you mean 'opacus'?"),
        (["reproduce", "--table=gradient"], "got 'gradient'. Did you mean 'gradients'?"),
        (["poison", "--transform=flip_label(0.1)", "--output=o.npz"], "got 'flip_label'. Did you mean 'flip_labels'?"),
        (["swep"], "got 'swep'. Did you mean 'sweep'?"),
        (["evaluate", "--attack=gradient_matching(restart=2)"], "got 'restart'. Did you mean 'restarts'?"),
        (["evaluate", "--defense=sphere(rte=0.1)", "--dataset=digits"], "got 'rte'. Did you mean 'rate'?"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_was_meant_is_named(tmp_path, command, words):
    done = forked.run(tmp_path, *command)
    assert done.returncode == 2 and done.stderr.endswith(f"{words}\n") and done.stderr.count("\n") == 1, done.stderr


def test_an_option_that_an_attack_does_not_have_is_told_with_those_it_has(tmp_path):
    line = forked.run(tmp_path, "evaluate", "--attack=gradient_matching(restart=2)").stderr
    assert line.startswith("evaluate: option of attack gradient_matching must be one of steps, step_size, restarts, ")


FLAGFILES = {
    "random": random.Random(0).randbytes(1000),
    "utf-8": "--budget=0.1\n\u202e\x1b[2J\n".encode(),
    "megabyte": b"--attack=label_flip(" + b"(" * 10**6,
    "name": b"--" + b"a" * 10**6,
    "list": b"--classes=" + b"1," * 500_000,
    "null": b"--data_dir=a\0b",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("name", FLAGFILES)
def test_a_flagfile_of_anything(tmp_path, name):
    (tmp_path / "file").write_bytes(FLAGFILES[name])
    done = forked.run(tmp_path, "evaluate", "--flagfile=file")
    assert wrong("evaluate", done.returncode, done.stdout, done.stderr) is None, done.stderr[:500]


def test_a_flagfile_that_is_not_there_or_a_folder(tmp_path):
    for path in ("nowhere", "."):
        done = forked.run(tmp_path, "evaluate", f"--flagfile={path}")
        assert done.returncode == 2
        assert done.stderr == (
            f"evaluate: flagfile must be a readable text file with one flag in each line, got '--flagfile={path}'\n"
        )


def test_more_workers_than_the_memory_can_hold(tmp_path):
    done = forked.run(tmp_path, "sweep", *FLAGS["sweep"].split(), "--memory=2.5", "--workers=1000")
    assert done.returncode == 2
    assert done.stderr == "sweep: workers must be an integer from 1 to 5, got 1000\n"
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_found_before_the_audit(tmp_path):
    for path in (".", "/dev/null", "x" * 300):
        done = forked.run(tmp_path, "audit", f"--output={path}")
        assert done.returncode == 2 and done.stderr.startswith("audit: output must be the path of a file"), done.stderr
