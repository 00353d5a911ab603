"""Makes published tables again and puts ours beside them, differences marked.

  bin/reproduce --table=all
  bin/reproduce --table=indiscriminate --rates=0.1,0.4 --trials=2
  bin/reproduce --table=gradients --dataset=fashion_mnist_mini

Tables of Hong et al. 2020 (arXiv 2002.11497): gradients, what poison does to gradients (sections 3 and 4);
indiscriminate, random label flips and slab poison against logistic regression under clips and noises (6.2); targeted,
one poison and many (6.3 and 6.4). Each is a study, as bin/sweep makes them, in a folder of its name in --output_dir,
which survives a kill: the same command goes on. Writes there report.md, and reproduction.md with all tables asked for.
"""

import os
import pathlib
import sys

from absl import flags

from tfshape import checks
from tfshape.cli import common

FLAGS = flags.FLAGS
TABLES = ("gradients", "indiscriminate", "targeted")

common.define_import()
flags.DEFINE_enum("table", None, (*TABLES, "all"), "which table")
flags.DEFINE_string("dataset", None, "other data than the table's: a name, tfds:<name> or npz:<path>")
flags.DEFINE_string("data_dir", None, "folder that holds the dataset (idx.gz, npz or tfds layout)")
flags.DEFINE_list("rates", None, "indiscriminate: only these shares of poison: 0.1,0.4")
flags.DEFINE_integer("trials", None, "trainings of each cell, each of another seed; default 1, 5 and 20, by the table")
flags.DEFINE_integer("workers", None, "how many trials at a time; default one a core, as far as memory goes")
flags.DEFINE_string("output_dir", os.path.join("results", "reproduction"), "where results go")
common.bound(1, common.MOST, "trials", "workers")


def main():
    """Makes the tables that the flags name and prints them."""
    checks.choice("table", FLAGS.table, (*TABLES, "all"))
    if FLAGS.dataset is not None:
        common.check_data()
    elif FLAGS.data_dir is not None:
        common.check_folder("data_dir", FLAGS.data_dir)
    common.check_writable("output_dir", FLAGS.output_dir)
    names = TABLES if FLAGS.table == "all" else (FLAGS.table,)
    options = {name: value for name in ("dataset", "data_dir", "trials") if (value := FLAGS[name].value) is not None}
    rates = common.shares("rates")
    if rates is not None:
        checks.require("rates", names == ("indiscriminate",), "left out unless table is indiscriminate", rates)
        options["rates"] = rates

    from tfshape import atomic, folders, reproductions, studies

    folder, texts, failed = pathlib.Path(FLAGS.output_dir), [], []
    found = {name: reproductions.study(name, folders.inside(folder, name), **options) for name in names}
    for name in names:
        log = f"{folder / name}/workers.log"
        with common.progress() as progress:
            text, counts = reproductions.run(name, found[name], studies.Local(FLAGS.workers, log=log), progress)
        if counts["failed"]:
            common.say(studies.status(folder / name))
        text += f"\nMade by `{_command(name)}`.\n"
        common.say(text)
        texts.append(text)
        failed.append(counts["failed"] and not counts["done"])
    atomic.write_text(folder / "reproduction.md", "\n".join(texts))
    if all(failed):
        sys.exit("reproduce: every trial failed")
    if not FLAGS.quiet:
        common.say(f"written to {checks.escaped(FLAGS.output_dir)}")


def _command(name):
    given = [flag for flag in ("dataset", "rates", "trials") if FLAGS[flag].present]
    words = [f"--{flag}={','.join(value) if isinstance(value := FLAGS[flag].value, list) else value}" for flag in given]
    return " ".join(["bin/reproduce", f"--table={name}", *words])


def run():
    """Entry point of `bin/reproduce` and `tfshape-reproduce`."""
    common.run(main)
