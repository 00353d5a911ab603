"""Evaluates a poisoning attack against undefended training and against gradient shaping, on the same poison.

  bin/evaluate --attack=gradient_matching --noise=1.0
  bin/evaluate --attack=label_flip --budget=0.4 --model=lr
  bin/evaluate --attack=badnets --budget=0.01 --defense='clip(1)|noise(0.1),spectral_signatures'
  bin/evaluate --attack=bullseye_polytope --scenario=transfer --num_poisons=1,2,5,10 --adaptive
  bin/evaluate --flagfile=configs/gradient_matching.flags

Prints one table with a row for each defense: test accuracy and attack success rate with 95% intervals, beside controls
without the attack; epsilon with its assumptions; the seconds that a training took. Then says whether the defense helps
beyond its lower accuracy: it is compared with undefended training that is stopped early, at the same accuracy.

Writes to --output_dir: results.csv, trials.jsonl (one line for each trained victim), config.json, poisons/*.npz,
figure.png, cache/ (finished work) and workers.log. To continue an interrupted run, give the same command with the same
--output_dir.

Trials run in parallel, in one process of one thread for each core; the results do not depend on --workers. Start
--distribute=multi_worker on every machine, with a TF_CONFIG that names them all; the chief, or worker 0, prints and
writes.
"""

import datetime
import os

from absl import flags

from tfshape import checks
from tfshape.cli import common, experiments

FLAGS = flags.FLAGS

flags.DEFINE_string("output_dir", None, "where results go; default results/<time>-<attack>")
experiments.define_workers()


def main():
    """Runs the experiment that the flags describe and prints its table."""
    experiment = experiments.from_flags()
    attack = "poisons" if experiment.poisons else experiment.attack.split("(")[0]
    output_dir = FLAGS.output_dir or os.path.join("results", f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{attack}")
    common.check_writable("output_dir", output_dir)

    from tfshape import reporting, studies
    from tfshape.training import distribution

    runner = studies.Local(FLAGS.workers, FLAGS.memory, f"{output_dir}/workers.log")
    with common.failures("evaluate"), common.progress() as progress:
        results = studies.evaluate(experiment, output_dir, progress, runner)
    if not distribution.leads(experiment.distribute):
        return
    common.say(results.caption())
    common.say(results.table().to_string(index=False))
    if "success" not in results.trials[0]:
        common.say(f"\naccuracy on each class:\n{results.classes().to_string(index=False)}")
    if len(experiment.counts) > 1 and "intended_label" in results.trials[0]:
        common.say(f"\nadversary's cost, the least number of poisons:\n{results.cost().to_string(index=False)}")
    common.say(f"\n{results.verdict}")
    for defense, words in results.statements.items():
        common.say(f"\n{defense}: {words}")
    reporting.draw(output_dir)
    if not FLAGS.quiet:
        common.say(f"\nwritten to {checks.escaped(output_dir)}")


def run():
    """Entry point of `bin/evaluate` and `tfshape-evaluate`."""
    common.run(main)
