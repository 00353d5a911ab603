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

from tfshape import atomic, datasets, folders, strict_json
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


def main():
    """Runs the study that the flags describe."""
    experiment = experiments.from_flags()
    attack = experiment.attack.split("(")[0]
    output_dir = FLAGS.output_dir or os.path.join(
        "results", f"{datetime.datetime.now():%Y%m%d-%H%M%S}-analyze-{attack}"
    )
    common.check_writable("output_dir", output_dir)
    folder = pathlib.Path(output_dir)
    _require_new(folder)

    # one that is not at hand is found before TensorFlow loads
    datasets.load(experiment.dataset, data_dir=experiment.data_dir, classes=experiment.classes)

    plan, defenses = _plan(experiment)
    setting = plan.settings[0]
    studies = _studies(setting.attack) if plan.saved is None else {"saved poison": setting.attack}
    count = plan.counts[0] if plan.saved is None else len(plan.saved[0])
    for name in ("tracin", "trusted"):
        if FLAGS[name].value and len(studies) > 1:
            raise ValueError(f"{name}={FLAGS[name].value}: allowed with one attack, not with {', '.join(studies)}")
    if FLAGS.tracin and FLAGS.trusted is not None:
        raise ValueError(f"trusted={FLAGS.trusted}: allowed without tracin")
    for study in studies.values() if plan.saved is None else ():
        dataclasses.replace(setting, attack=study).check(count)
    if FLAGS.tracin and setting.attack.kind != "targeted":
        raise ValueError(f"tracin=True: allowed with targeted attacks, not with {', '.join(studies)}")
    if FLAGS.examples is not None and FLAGS.examples < 2:
        raise ValueError(f"examples={FLAGS.examples}: allowed is an integer >= 2")
    clean = len(setting.rows) - count
    if FLAGS.trusted is not None and not 2 <= FLAGS.trusted < clean:
        raise ValueError(f"trusted={FLAGS.trusted}: allowed is 2 to less than the {clean} clean examples")
    folder.mkdir(parents=True, exist_ok=True)
    with folders.alone(folders.inside(folder, ".lock"), "output_dir", output_dir):
        _require_new(folder)
        _write(plan, studies, defenses, experiment, folder)
    if not FLAGS.quiet:
        print(f"\nwritten to {output_dir}")


def _require_new(folder):
    if folders.inside(folder, "config.json").exists():
        raise ValueError(f"output_dir={str(folder)!r}: holds another study; allowed is a new folder")


def _write(plan, studies, defenses, experiment, folder):
    from tfshape.evaluation.provenance import provenance

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


def _studies(attack):
    """Dict of title to attack: one, or one for each alpha or patch size."""
    sizes = common.whole_numbers("patch_size", "allowed are whole numbers >= 1, such as 1,4,10")
    for flag, values, name in (
        ("alpha", FLAGS.alpha, "interpolation"),
        ("patch_size", sizes, "feature_insertion"),
    ):
        if values is not None and attack.name != name:
            raise ValueError(f"{flag}={','.join(map(str, values))}: allowed with --attack={name}")
    if FLAGS.alpha is not None:
        return {f"alpha {text}": dataclasses.replace(attack, alpha=_number("alpha", text)) for text in FLAGS.alpha}
    return {f"patch {size}": dataclasses.replace(attack, size=size) for size in sizes or ()} or {attack.name: attack}


def _plan(experiment):
    """The plan, and the defenses: none, and those that the flags name."""
    from tfshape import evaluation

    for name, default in (("engine", "fast"), ("adaptive", False), ("distribute", None)):
        if getattr(experiment, name) != default:
            raise ValueError(f"{name}={getattr(experiment, name)!r}: allowed is {default!r}")
    if len(experiment.counts) > 1:
        raise ValueError(f"num_poisons={experiment.num_poisons}: allowed is one count")
    plan = evaluation.plan(experiment)
    named = experiment.shaping is not None or experiment.defense is not None
    defenses = {name: choice for name, choice in plan.defenses.items() if named or name == "none"}
    for name, choice in defenses.items():
        if choice.sanitiser is not None:
            raise ValueError(f"defense={name!r}: allowed are shapings")
    return plan, defenses


def _number(flag, text):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{flag}={text}: allowed are numbers, such as 0.2") from None


def run():
    """Entry point of `bin/analyze` and `tfshape-analyze`."""
    common.run(main)
