"""Trains on poison and records what it does to gradients: their magnitude and orientation, clean and poison apart.

  bin/analyze --attack=label_flip --budget=0.4 --model=lr --shaping='clip(0.1)'
  bin/analyze --attack=interpolation --alpha=0,0.2,0.6,1 --num_poisons=100 --scenario=finetune
  bin/analyze --attack=feature_insertion --patch_size=1,4,10 --budget=0.01 --defense='clip(0.1),clip(4.0)'
  bin/analyze --attack=gradient_matching --tracin
  bin/analyze --attack='badnets(size=6, value=1.0)' --budget=0.01 --trusted=1500 --trials=20
  bin/analyze --flagfile=configs/analysis/interpolation_lr.flags

--attack is any that bin/evaluate knows. The paper studies two: interpolation(base_class=0, other_class=1) inserts
training images of one class mixed with --alpha of another's, under the first one's label; feature_insertion(
target_class=0) puts a white patch of --patch_size on images and relabels them. Undefended training comes first, then
each shaping named.

Prints a table for every training, a row an epoch and one before the first: magnitude ratio, cosine and so on of the
whole gradient, before and after shaping, and the ratio that as many random clean examples have. Writes --output_dir:
artifacts-*.csv (a row an epoch, view and layer), epochs.csv (the tables), artifacts.png, norms.png, layers.png,
config.json, trusted.npz (clean examples for orient(reference='…/trusted.npz')). This is one training each, that of the
first trial.

--tracin instead traces a targeted attack back to its poison, in --trials trainings. --trusted=N instead tries the smoke
alarm, which knows N examples to be clean and of none that it is poison, on --trials poisoned trainings and as many
clean ones.
"""

import dataclasses
import datetime
import os
import pathlib

from absl import flags

from tfshape import atomic, checks, datasets, folders, strict_json
from tfshape.cli import analyze_trials, analyze_watch, common, experiments

FLAGS = flags.FLAGS
SCHEMA = 1

flags.DEFINE_list("alpha", None, "interpolation: shares of the other image, several; 0 is the control, clean copies")
flags.DEFINE_list("patch_size", None, "feature_insertion: sides of the patch in pixels, several")
flags.DEFINE_enum("every", "epoch", ("epoch", "batch"), "how often gradients are looked at")
flags.DEFINE_integer("examples", None, "how many examples are looked at each time; default all, or 32 with every=batch")
flags.DEFINE_bool("tracin", False, "find the poison behind a target by TracIn")
flags.DEFINE_integer("trusted", None, "try the smoke alarm, with that many examples known to be clean")
flags.DEFINE_float("false_alarm_rate", 0.01, "of the smoke alarm, 0 to 1")
flags.DEFINE_string("output_dir", None, "where results go; default results/<time>-analyze-<attack>")
common.bound(2, common.MOST, "examples", "trusted")
common.bound(0, 1, "false_alarm_rate")


def main():
    """Runs the study that the flags describe."""
    experiment = experiments.from_flags()
    if FLAGS.tracin:
        checks.require("trusted", FLAGS.trusted is None, "left out with --tracin", FLAGS.trusted)
    attack = experiment.attack.split("(")[0]
    output_dir = FLAGS.output_dir or os.path.join(
        "results", f"{datetime.datetime.now():%Y%m%d-%H%M%S}-analyze-{attack}"
    )
    common.check_writable("output_dir", output_dir)
    folder = pathlib.Path(output_dir)
    _require_new(folder)
    checks.real("false_alarm_rate", FLAGS.false_alarm_rate, 0, 1, above=True, below=True)
    alphas = common.shares("alpha")
    sizes = common.integers("patch_size", "integers >= 1, such as 1,4,10", 1)

    # one that is not at hand is found before TensorFlow loads
    datasets.load(experiment.dataset, data_dir=experiment.data_dir, classes=experiment.classes)

    plan, defenses = _plan(experiment)
    setting = plan.settings[0]
    studies = _studies(setting.attack, alphas, sizes) if plan.saved is None else {"saved poison": setting.attack}
    count = plan.counts[0] if plan.saved is None else len(plan.saved[0])
    for name in ("tracin", "trusted"):
        one = not FLAGS[name].value or len(studies) == 1
        checks.require(name, one, f"left out with several attacks, {', '.join(studies)}", FLAGS[name].value)
    for study in studies.values() if plan.saved is None else ():
        dataclasses.replace(setting, attack=study).check(count)
    if FLAGS.tracin and setting.attack.kind != "targeted":
        checks.fail("tracin", f"left out with {', '.join(studies)}, which is not a targeted attack", FLAGS.tracin)
    if FLAGS.trusted is not None:
        checks.integer("trusted", FLAGS.trusted, 2, len(setting.rows) - count - 1)  # not all of the clean examples
    folder.mkdir(parents=True, exist_ok=True)
    with folders.alone(folders.inside(folder, ".lock"), "output_dir", output_dir):
        _require_new(folder)
        _write(plan, studies, defenses, experiment, folder)
    if not FLAGS.quiet:
        common.say(f"\nwritten to {checks.escaped(output_dir)}")


def _require_new(folder):
    new = not folders.inside(folder, "config.json").exists()
    checks.require("output_dir", new, "a new folder, not one with results", str(folder))


def _write(plan, studies, defenses, experiment, folder):
    from tfshape.provenance import provenance

    config = {"schema": SCHEMA, "experiment": experiment.to_dict(), "flags": _flags(), **provenance()}
    atomic.write_text(folders.inside(folder, "config.json"), strict_json.write_text(config))
    if FLAGS.trusted is not None:
        analyze_trials.try_alarm(plan, defenses, folder)
    elif FLAGS.tracin:
        analyze_trials.trace(plan, defenses, folder)
    else:
        analyze_watch.watch_all(plan, studies, defenses, folder)


def _flags():
    names = ("alpha", "patch_size", "every", "examples", "tracin", "trusted", "false_alarm_rate")
    return {name: FLAGS[name].value for name in names}


def _studies(attack, alphas, sizes):
    """Dict of title to attack: one, or one for each alpha or patch size."""
    for flag, values, name in (("alpha", alphas, "interpolation"), ("patch_size", sizes, "feature_insertion")):
        checks.require(flag, values is None or attack.name == name, f"left out unless attack is {name}", values)
    if alphas is not None:
        titles = (f"alpha {text.strip()}" for text in FLAGS.alpha)
        return {title: dataclasses.replace(attack, alpha=alpha) for title, alpha in zip(titles, alphas)}
    return {f"patch {size}": dataclasses.replace(attack, size=size) for size in sizes or ()} or {attack.name: attack}


def _plan(experiment):
    """The plan, and the defenses: none, and those that the flags name."""
    from tfshape import evaluation

    for name, default in (("engine", "fast"), ("adaptive", False), ("distribute", None)):
        value = getattr(experiment, name)
        checks.require(name, value == default, f"{default!r} for bin/analyze", value)
    checks.require("num_poisons", len(experiment.counts) <= 1, "one count for bin/analyze", experiment.num_poisons)
    plan = evaluation.plan(experiment)
    named = experiment.shaping is not None or experiment.defense is not None
    defenses = {name: choice for name, choice in plan.defenses.items() if named or name == "none"}
    for name, choice in defenses.items():
        checks.require("defense", choice.sanitiser is None, "shapings for bin/analyze", name)
    return plan, defenses


def run():
    """Entry point of `bin/analyze` and `tfshape-analyze`."""
    common.run(main)
