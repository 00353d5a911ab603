"""Audits DP-SGD: proves, with confidence, a lower bound on the epsilon of the training as it really runs.

  bin/audit
  bin/audit --noise=0.5 --model=mlp
  bin/audit --canary=input --runs=2000

Prints one table, a row a game: the epsilon that the accountant claims, the one the audit proves, and whether the claim
is refuted. --canary=gradient plants canaries in gradient space, in one training and in many single steps;
--canary=input plants a ClipBKD image in many whole trainings; --canary=all does both. The games have steps and batches
of their own, where an audit sees most; they test clipping, noise and sampling, not one experiment. Exits with 1 if a
claim is refuted. Writes --output, if given: the same as JSON.
"""

import dataclasses
import pathlib
import sys

from absl import flags

from tfshape import checks, models
from tfshape.cli import common

FLAGS = flags.FLAGS
CANARIES = ("gradient", "input", "all")

common.define_import()
flags.DEFINE_string("dataset", "fashion_mnist_mini", "dataset: a name, tfds:<name> or npz:<path>")
flags.DEFINE_string("data_dir", None, "folder that holds the dataset (idx.gz, npz or tfds layout)")
flags.DEFINE_list("classes", None, "keep and relabel only these classes: 3,4")
flags.DEFINE_string("model", "lr", "model that is trained: lr, mlp, cnn, small_cnn or resnet20")
flags.DEFINE_float("clip", 1.0, "l2 bound of an example's gradient, > 0")
flags.DEFINE_float("noise", 1.0, "noise multiplier, > 0")
flags.DEFINE_bool("secure_noise", False, "draw noise from the operating system's cryptographic generator")
flags.DEFINE_string("canary", "gradient", f"where canaries are planted: {', '.join(CANARIES)}")
flags.DEFINE_integer("canaries", 1000, "canaries of the one training")
flags.DEFINE_integer("steps", 2000, "single steps that are watched")
flags.DEFINE_integer("runs", 1000, "trainings with and without an input canary")
flags.DEFINE_float("delta", 1e-5, "delta at which epsilon is claimed and bounded, 0 < delta < 1")
flags.DEFINE_float("confidence", 0.95, "probability, 0 to 1, with which the bounds hold, all games together")
flags.DEFINE_integer("seed", 0, "seed of coins, images and batches; the noise is fresh")
flags.DEFINE_string("output", None, "JSON file for the findings")
common.bound(20, common.MOST, "canaries", "steps", "runs")
common.bound(0, 2**32 - 1, "seed")
common.bound(0, 1e6, "noise")
common.bound(0, 1e30, "clip")
common.bound(0, 1, "delta", "confidence")


def main():
    """Runs the audit that the flags describe and prints its table."""
    _check()
    if FLAGS.output is not None:
        common.check_writable_file("output", FLAGS.output)

    import pandas as pd

    from tfshape import atomic, datasets, shaping, strict_json

    dataset = datasets.load(FLAGS.dataset, data_dir=FLAGS.data_dir, classes=common.classes())
    model = models.build(FLAGS.model, dataset.input_shape, dataset.num_classes, seed=FLAGS.seed)
    shaper = shaping.dp_sgd(FLAGS.clip, FLAGS.noise)
    options = {"secure_noise": True} if FLAGS.secure_noise else {}

    def shape(model, batch_size):
        return shaping.shape(model, shaper, batch_size=batch_size, **options)

    findings = _findings(shape, model, dataset.train)
    rows = [{**dataclasses.asdict(finding), "violated": finding.violated} for finding in findings]
    table = pd.DataFrame(rows)
    table["guessed right"] = [f"{f.correct}/{f.guesses}" for f in findings]
    table["verdict"] = ["refuted" if f.violated else "not refuted" for f in findings]
    shown = table[["game", "claimed", "lower", "plain", "guessed right", "verdict"]]
    names = {"claimed": "epsilon claimed", "lower": "epsilon proved", "plain": "of any mechanism"}
    common.say(f"{FLAGS.model} on {FLAGS.dataset}, {shaper}; delta {FLAGS.delta:g}, {FLAGS.confidence:g} confidence")
    common.say(shown.rename(columns=names).to_string(index=False, float_format="{:.2f}".format))
    if FLAGS.output is not None:
        pathlib.Path(FLAGS.output).parent.mkdir(parents=True, exist_ok=True)
        text = strict_json.dumps({"schema": 1, "findings": rows}, indent=2)
        atomic.write_text(pathlib.Path(FLAGS.output), text + "\n")
    if any(finding.violated for finding in findings):
        sys.exit(1)


def _check():
    for name in ("noise", "clip"):
        checks.real(name, FLAGS[name].value, 0, above=True)
    for name in ("delta", "confidence"):
        checks.real(name, FLAGS[name].value, 0, 1, above=True, below=True)
    checks.choice("canary", FLAGS.canary, CANARIES)
    common.check_data()
    common.classes()
    checks.choice("model", FLAGS.model, models.names())


def _findings(shape, model, train):
    from tfshape import privacy

    both = FLAGS.canary == "all"
    common_options = {
        "delta": FLAGS.delta,
        "confidence": 1 - (1 - FLAGS.confidence) / 2 if both else FLAGS.confidence,
        "seed": FLAGS.seed,
    }
    args = shape, model, train.x, train.y, FLAGS.noise, FLAGS.clip
    found = []
    if FLAGS.canary != "input":
        found += privacy.gradient_audit(*args, canaries=FLAGS.canaries, trials=FLAGS.steps, **common_options)
    if FLAGS.canary != "gradient":
        found += privacy.input_audit(*args, runs=FLAGS.runs, **common_options)
    return found


def run():
    """Entry point of `bin/audit` and `tfshape-audit`."""
    common.run(main)
