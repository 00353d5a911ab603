"""Trains a grid of experiments as one study, which goes on after any crash where it stopped.

  bin/sweep --attack=gradient_matching --grid='noise=0,0.1,1' --grid='clip=0.1,1,4' --output_dir=study
  bin/sweep --flagfile=configs/sweep/defenses.flags --output_dir=study --runner=ray --address=auto
  bin/sweep --status study

Every flag that describes an experiment is as for bin/evaluate; each --grid names one of them and its values. A trial of
one grid point is what is run, kept and gone on from. Writes --output_dir: study.sqlite (a row a trial), trials and
victims as CSV and Parquet, results.csv (a row a defense of each point), config.json, cache/ (poison and models that
trials share) and workers.log. The same command again goes on; with more --trials or --grid values it adds to the study.
bin/report makes a page of it. Exits with 1 if every trial failed.
"""

import sys

from absl import flags

from tfshape import checks, folders
from tfshape.cli import common, experiments

FLAGS = flags.FLAGS
RUNNERS = ("local", "ray")

flags.DEFINE_multi_string("grid", [], "an axis: a flag of the experiment and its values, 'noise=0,0.1,1'; repeated")
flags.DEFINE_string("output_dir", None, "folder of the study")
flags.DEFINE_enum("runner", "local", RUNNERS, "where trials run: processes of this machine, or a Ray cluster")
experiments.define_workers()
flags.DEFINE_string("address", None, "ray: of a running cluster, or auto; default one on this machine")
flags.DEFINE_integer("stack", 1, "train the victims of up to so many trials side by side, where that is possible")
flags.DEFINE_bool("retry_failed", False, "try trials that failed again")
flags.DEFINE_string("status", None, "print the state of the study in this folder, and nothing else")
common.bound(1, common.MOST, "stack")


def main():
    """Runs the study that the flags describe, or prints the state of one."""
    if FLAGS.status is not None:
        from tfshape import studies

        common.say(studies.status(FLAGS.status))
        return
    allowed = "a folder to write, such as --output_dir=study"
    checks.require("output_dir", FLAGS.output_dir, allowed, FLAGS.output_dir)
    common.check_writable("output_dir", FLAGS.output_dir)
    experiment = experiments.from_flags()

    from tfshape import studies

    runner = _runner(studies)
    grid = studies.points(experiment, studies.parse(FLAGS.grid))
    study = studies.experiments(FLAGS.output_dir, grid)
    if not studies.known(study):
        studies.check(grid)
    with common.progress() as progress:
        counts = studies.run(study, runner, FLAGS.retry_failed, FLAGS.stack, progress)
    common.say(_table(study.folder))
    if counts["failed"]:
        common.say(studies.status(study.folder))
    if counts["failed"] and not counts["done"]:
        sys.exit("sweep: every trial failed")
    if not FLAGS.quiet:
        folder = checks.escaped(FLAGS.output_dir)
        common.say(f"\nwritten to {folder}; bin/report {folder} makes a page of it")


def _runner(studies):
    if FLAGS.runner == "ray":
        if FLAGS.memory is not None:
            checks.fail("memory", "left out with runner=ray; Ray bounds memory itself", FLAGS.memory)
        return studies.OnRay(FLAGS.address, FLAGS.workers)
    checks.require("address", FLAGS.address is None, "left out unless runner is ray", FLAGS.address)
    return studies.Local(FLAGS.workers, FLAGS.memory, f"{FLAGS.output_dir}/workers.log")


def _table(folder):
    """results.csv, to read."""
    import pandas as pd

    from tfshape.evaluation import columns

    path = folders.inside(folder, "results.csv")
    if not path.exists():
        return "no trial is done"
    return columns.text_table(pd.read_csv(path), columns.REPORT).to_string(index=False)


def run():
    """Entry point of `bin/sweep` and `tfshape-sweep`."""
    common.run(main)
