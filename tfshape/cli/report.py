"""Makes a page of a study or an evaluation, to read and to show.

  bin/report study
  bin/report results/20260101-120000-gradient_matching --output_dir=page

Takes a folder that bin/sweep or bin/evaluate wrote; a study may still be running. Writes, by default into its folder
report: report.html, one page that needs no network, with tables that sort and filter, charts, and pictures of the
poison; report.md and report.csv, the same tables as text.
"""

import os
import pathlib
import sys

from absl import flags

from tfshape import checks
from tfshape.cli import common

FLAGS = flags.FLAGS

common.define_import()
flags.DEFINE_string("study", None, "folder of a study or an evaluation; also the first word after bin/report")
flags.DEFINE_string("output_dir", None, "where the report goes; default DIR/report")


def main():
    """Writes the report that the flags describe."""
    marks = ("study.sqlite", "config.json", "trials.jsonl", "results.csv")  # some of which may be lost
    there = FLAGS.study is not None and any(os.path.lexists(os.path.join(FLAGS.study, name)) for name in marks)
    checks.require("study", there, "a folder that bin/sweep or bin/evaluate wrote: bin/report FOLDER", FLAGS.study)
    output_dir = FLAGS.output_dir or os.path.join(FLAGS.study, "report")
    common.check_writable("output_dir", output_dir)

    from tfshape import evaluation, reporting, studies

    folder = pathlib.Path(FLAGS.study)
    if studies.exists(folder):
        studies.export(folder)
    else:
        results = evaluation.Results.load(folder)
        results.write_tables()
    material = reporting.read(folder)
    if not studies.exists(folder):
        _add_of_evaluation(material, results, folder)
    paths = reporting.write(material, output_dir)
    if not FLAGS.quiet:
        common.say(f"written: {checks.escaped(', '.join(map(str, paths)))}")


def _add_of_evaluation(material, results, folder):
    """Commands and pictures, which a study has in its files and an evaluation has not."""
    from tfshape import studies

    material.summary["verdict"] = str(results.verdict)
    material.summary["command"] = studies.commands.command(results.experiment, results.imports)
    material.pictures = studies.pictures.of_evaluation(results.experiment, folder)


def run():
    """Entry point of `bin/report` and `tfshape-report`."""
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"--study={sys.argv[1]}"
    common.run(main)
