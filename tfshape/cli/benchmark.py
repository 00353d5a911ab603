"""Measures what shaping costs: step time and peak memory beside plain SGD and beside other libraries' DP-SGD.

  bin/benchmark
  bin/benchmark --models=mlp,cnn --batch_sizes=256 --peers=
  bin/benchmark --opacus_python=/path/to/opacus/bin/python --jax_python=/path/to/jax/bin/python
  bin/benchmark --models=mlp --batch_sizes=64,128,256,512,1024,2048,4096 --peers=
  bin/benchmark --models=mlp:256,mlp:512,mlp:1024,mlp:2048 --batch_sizes=256 --peers=
  bin/benchmark --suite=poison
  bin/benchmark --suite=analysis
  bin/benchmark --suite=attacks --art_python=/path/to/art/bin/python

Every variant of a model at a batch size trains in a process of its own, and they take turns, a block of steps at a
time. Prints one table: medians with quartiles, in milliseconds and as ratios to plain SGD of the same framework in
the same round. Writes --output_dir: benchmark.csv (as it goes), config.json, and benchmark.png. --suite=poison times
the poison transforms against an identity map, --suite=analysis shaped training that is watched against the same that
is not, --suite=attacks crafting by gradient matching against the Adversarial Robustness Toolbox's. They write
benchmark.csv and config.json.
"""

import dataclasses
import datetime
import os
import pathlib
from typing import Any

from absl import flags

from tfshape import checks
from tfshape.benchmarks import shaping
from tfshape.cli import common

FLAGS = flags.FLAGS
SUITES = ("shaping", "poison", "attacks", "analysis")
DEFAULT = shaping.Settings

flags.DEFINE_enum("suite", "shaping", SUITES, "what is measured")
flags.DEFINE_list("models", list(DEFAULT.models), "of lr, mlp, mlp:WIDTH, cnn, resnet20, text")
flags.DEFINE_list("batch_sizes", list(map(str, DEFAULT.batch_sizes)), "examples a step")
flags.DEFINE_list(
    "peers", None, f"compare only with these, of {', '.join(shaping.PEERS)}; empty: none; default: all at hand"
)
flags.DEFINE_string("opacus_python", None, "an interpreter that has torch and opacus")
flags.DEFINE_string("jax_python", None, "an interpreter that has jax, flax, optax, keras and jax-privacy")
flags.DEFINE_string("art_python", None, "an interpreter that has torch and ART, for --suite=attacks")
flags.DEFINE_integer(
    "steps_per_execution", DEFAULT.steps_per_execution, "steps of Keras's fit in one call of TensorFlow"
)
flags.DEFINE_integer("blocks", DEFAULT.blocks, "timed blocks a variant, >= 2; rounds, or targets, of other suites")
flags.DEFINE_float("block_seconds", DEFAULT.block_seconds, "about how long a block is")
flags.DEFINE_float("timeout", DEFAULT.timeout, "seconds after which first steps, or a block, are given up")
flags.DEFINE_float("memory_limit_gb", None, "GB a process may hold before it is ended; default: half the machine's")
flags.DEFINE_string("output_dir", None, "where results go; default results/<time>-benchmark-<suite>")
common.bound(1, common.MOST, "steps_per_execution", "blocks")
common.bound(0, common.MOST, "block_seconds", "timeout", "memory_limit_gb")


def main():
    """Runs the suite, prints its table and writes its files."""
    settings = _settings()
    peers = _peers(settings)
    default = os.path.join("results", f"{datetime.datetime.now():%Y%m%d-%H%M%S}-benchmark-{FLAGS.suite}")
    output_dir = FLAGS.output_dir or default
    common.check_writable("output_dir", output_dir)
    folder = pathlib.Path(output_dir)
    if (folder / "benchmark.csv").exists():
        checks.fail("output_dir", "a new folder, not one with a benchmark", output_dir)

    from tfshape import atomic, folders, strict_json, tables

    folder.mkdir(parents=True, exist_ok=True)
    with folders.alone(folders.inside(folder, ".lock"), "output_dir", output_dir):
        atomic.write_text(
            folders.inside(folder, "config.json"), strict_json.dumps(_config(settings, peers), indent=2) + "\n"
        )

        def save(rows):
            import pandas as pd

            tables.write_csv(folders.inside(folder, "benchmark.csv"), pd.DataFrame(rows))

        if FLAGS.suite == "poison":
            from tfshape.benchmarks import poison

            save(poison.suite(repeats=settings.blocks))
        elif FLAGS.suite == "analysis":
            from tfshape.benchmarks import analysis

            save(analysis.suite(repeats=settings.blocks))
        elif FLAGS.suite == "attacks":
            from tfshape.benchmarks import attacks

            common.say(attacks.table(attacks.rows(FLAGS.art_python, settings.blocks, save)))
        else:
            from tfshape.benchmarks import report

            with common.progress() as progress:
                rows = shaping.measure(settings, progress, save)
            common.say(report.table(rows))
            report.draw(rows, folder / "benchmark.png")
    if not FLAGS.quiet:
        common.say(f"\nwritten to {checks.escaped(output_dir)}")


def _settings():
    values: dict[str, Any] = {name: FLAGS[name].value for name in DEFAULT.__dataclass_fields__}
    values["batch_sizes"] = common.integers("batch_sizes", "integers >= 1, such as 64,256", 1)
    others = set(values) - {"blocks"} if FLAGS.suite != "shaping" else set()
    for name in others | ({"art_python"} if FLAGS.suite != "attacks" else set()):
        if FLAGS[name].present:
            allowed = "attacks" if name == "art_python" else "shaping"
            checks.fail(name, f"left out unless suite is {allowed}", FLAGS[name].value)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return DEFAULT(**values)


def _peers(settings):
    """peer -> package -> version, of the peers that run in interpreters of their own; checks that they are at hand."""
    if FLAGS.suite == "attacks" and FLAGS.art_python is not None:
        from tfshape.benchmarks import attacks

        return {"art": shaping.versions("art_python", FLAGS.art_python, attacks.NEEDS)}
    if FLAGS.suite != "shaping":
        return {}
    flag = {"opacus": "opacus_python", "jax_privacy": "jax_python"}
    found = settings.interpreters()
    return {
        peer: shaping.versions(flag[peer], found[peer], packages)
        for peer, packages in shaping.NEEDS.items()
        if peer in found
    }


def _config(settings, peers):
    from tfshape.provenance import provenance

    return {
        "schema": shaping.SCHEMA,
        "suite": FLAGS.suite,
        "settings": dataclasses.asdict(settings),
        "cpus": len(os.sched_getaffinity(0)),
        "peers": peers,
        **provenance(),
    }


def run():
    """Entry point of `bin/benchmark` and `tfshape-benchmark`."""
    common.run(main)
