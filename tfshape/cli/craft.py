"""Crafts the poison of an attack for several trials and saves it, one file for each trial.

  bin/craft --attack=gradient_matching --budget=0.05 --targets=10 --output=poisons
  bin/craft --flagfile=configs/targeted/bullseye_polytope.flags --output=poisons
  bin/craft --attack=gradient_matching --adaptive --clip=0.1 --noise=1.0 --output=poisons

Writes OUTPUT/trial-000.npz and so on, the poison that bin/evaluate crafts for the same flags and seed, and
OUTPUT/config.json, which says how it was made. bin/evaluate --poisons=OUTPUT evaluates it, ts.poison.Poisons.load reads
it. To continue an interrupted run, or to add targets, give the same command with the same --output and perhaps more
--targets. Trials are crafted in parallel, in one process of one thread for each core; the poison does not depend on
--workers.
"""

import pathlib

from absl import flags

from tfshape import checks
from tfshape.cli import common, experiments

FLAGS = flags.FLAGS
SCHEMA = 2

flags.DEFINE_integer("targets", None, "how many trials, each with a target and poison of its own; default --trials")
flags.DEFINE_integer(
    "targets_at_once",
    1,
    "trials whose poison is crafted at once, batched through the surrogate; above 1 for gradient_matching(retrain=0), "
    "which it makes faster on dense models with few poisons, where the bits of the poison are others",
)
flags.DEFINE_string("output", None, "folder to write")
experiments.define_workers()
common.bound(1, common.MOST, "targets", "targets_at_once")


def main():
    """Crafts and saves what the flags say."""
    checks.require("output", FLAGS.output, "a folder to write, such as --output=poisons", FLAGS.output)
    experiment = experiments.from_flags(trials=FLAGS.trials if FLAGS.targets is None else FLAGS.targets)
    checks.require("num_poisons", len(experiment.counts) <= 1, "one count", experiment.num_poisons)
    common.check_writable("output", FLAGS.output)

    from tfshape import atomic, evaluation, folders, strict_json, studies
    from tfshape.provenance import provenance

    runner = studies.Local(FLAGS.workers, FLAGS.memory)
    plan = evaluation.plan(experiment)  # refuses bad values before anything is written
    shaped = [choice.shaper for choice in plan.defenses.values() if choice.shaper is not None]
    one = not experiment.adaptive or len(shaped) <= 1
    checks.require("defense", one, "one shaping, to which --adaptive adapts", experiment.defense)
    _check_together(experiment, plan.settings[0].attack)
    config = experiment.of_a_trial()
    if FLAGS.targets_at_once > 1:
        config["targets_at_once"] = FLAGS.targets_at_once
    folder = pathlib.Path(FLAGS.output)
    folder.mkdir(parents=True, exist_ok=True)
    with folders.alone(folders.inside(folder, ".lock"), "output", FLAGS.output):
        about = folders.inside(folder, "config.json")
        if not _continues(about, config):
            atomic.write_text(about, strict_json.write_text({"schema": SCHEMA, "experiment": config, **provenance()}))
        with common.failures("craft"), common.progress() as progress:
            studies.craft(plan, folder, runner, FLAGS.targets_at_once, progress)
    common.say(f"{checks.escaped(FLAGS.output)}: poison of {experiment.attack} for {experiment.trials} trials")


def _check_together(experiment, attack):
    """Raises ValueError unless --targets_at_once is 1 or the attack's poison can be crafted at once."""
    own = experiment.adaptive or experiment.knowledge == "white_box" or experiment.finetune_examples is not None
    if FLAGS.targets_at_once > 1 and (own or not getattr(attack, "crafts_together", False)):
        allowed = (
            "1 unless --attack is gradient_matching(retrain=0) with one restart, --knowledge is not white_box, and "
            "neither --adaptive nor --finetune_examples is given"
        )
        checks.fail("targets_at_once", allowed, FLAGS.targets_at_once)


def _continues(about, config):
    """Whether an earlier run of the same crafting began in this folder. Raises ValueError if another one did."""
    if not about.exists():
        return False
    from tfshape import imports, strict_json

    found = strict_json.read(about, "restore it from a copy, or use a new folder")
    same = strict_json.canonical(found.get("experiment")) == strict_json.canonical(config)
    same = same and imports.same(found.get("imports"))
    checks.require("output", same, "a new folder, or one with poison of these flags", FLAGS.output)
    return True


def run():
    """Entry point of `bin/craft` and `tfshape-craft`."""
    common.run(main)
