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

from tfshape.cli import common

FLAGS = flags.FLAGS
CANARIES = ("gradient", "input", "all")

flags.DEFINE_string("dataset", "fashion_mnist_mini", "dataset: a name, tfds:<name> or npz:<path>")
flags.DEFINE_string("data_dir", None, "folder that holds the dataset (idx.gz, npz or tfds layout)")
flags.DEFINE_list("classes", None, "keep and relabel only these classes: 3,4")
flags.DEFINE_string("model", "lr", "model that is trained: lr, mlp, cnn, small_cnn or resnet20")
flags.DEFINE_float("clip", 1.0, "l2 bound of an example's gradient, > 0")
flags.DEFINE_float("noise", 1.0, "noise multiplier, > 0")
flags.DEFINE_bool("secure_noise", False, "draw noise from the operating system's cryptographic generator")
flags.DEFINE_string("canary", "gradient", f"where canaries are planted: {', '.join(CANARIES)}")
flags.DEFINE_integer("canaries", 1000, "canaries of the one training, >= 20")
flags.DEFINE_integer("steps", 2000, "single steps that are watched, >= 20")
flags.DEFINE_integer("runs", 1000, "trainings with and without an input canary, >= 20")
flags.DEFINE_float("delta", 1e-5, "delta at which epsilon is claimed and bounded, 0 < delta < 1")
flags.DEFINE_float("confidence", 0.95, "probability, 0 to 1, with which the bounds hold, all games together")
flags.DEFINE_integer("seed", 0, "seed of coins, images and batches; the noise is fresh")
flags.DEFINE_string("output", None, "JSON file for the findings")


def main():
    """Runs the audit that the flags describe and prints its table."""
    _check()
    if FLAGS.output:
        common.check_writable("output", str(pathlib.Path(FLAGS.output).parent))

    import pandas as pd

    from tfshape import atomic, datasets, models, shaping, strict_json

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
    print(f"{FLAGS.model} on {FLAGS.dataset}, {shaper}; delta {FLAGS.delta:g}, {FLAGS.confidence:g} confidence")
    print(shown.rename(columns=names).to_string(index=False, float_format="{:.2f}".format))
    if FLAGS.output:
        atomic.write_text(
            pathlib.Path(FLAGS.output), strict_json.dumps({"schema": 1, "findings": rows}, indent=2) + "\n"
        )
    if any(finding.violated for finding in findings):
        sys.exit(1)


def _check():
    limits = {
        "noise": (0, float("inf"), "a number > 0"),
        "clip": (0, float("inf"), "a number > 0"),
        "delta": (0, 1, "0 < delta < 1"),
        "confidence": (0, 1, "0 < confidence < 1"),
    }
    for name, (low, high, words) in limits.items():
        if not low < FLAGS[name].value < high:
            raise ValueError(f"{name}={FLAGS[name].value!r}: allowed is {words}")
    for name in ("canaries", "steps", "runs"):
        if FLAGS[name].value < 20:
            raise ValueError(f"{name}={FLAGS[name].value!r}: allowed is a count >= 20")
    if not 0 <= FLAGS.seed < 2**32:
        raise ValueError(f"seed={FLAGS.seed!r}: allowed is an integer from 0 to 2**32 - 1")
    if FLAGS.canary not in CANARIES:
        raise ValueError(f"canary={FLAGS.canary!r}: allowed is {', '.join(CANARIES)}")


def _findings(shape, model, train):
    from tfshape.privacy import canaries, clipbkd

    both = FLAGS.canary == "all"
    common_options = {
        "delta": FLAGS.delta,
        "confidence": 1 - (1 - FLAGS.confidence) / 2 if both else FLAGS.confidence,
        "seed": FLAGS.seed,
    }
    args = shape, model, train.x, train.y, FLAGS.noise, FLAGS.clip
    found = []
    if FLAGS.canary != "input":
        counts = {"canaries": FLAGS.canaries, "trials": FLAGS.steps}
        found += canaries.gradient_audit(*args, **counts, **common_options)
    if FLAGS.canary != "gradient":
        found += clipbkd.input_audit(*args, runs=FLAGS.runs, **common_options)
    return found


def run():
    """Entry point of `bin/audit` and `tfshape-audit`."""
    common.run(main)
