"""Trains on poison and records what it does to gradients: their magnitude and orientation, clean and poison apart.

  bin/analyze --attack=label_flip --budget=0.4 --model=lr --shaping='clip(0.1)'
  bin/analyze --attack=interpolation --alpha=0,0.2,0.6,1 --num_poisons=100 --scenario=finetune
  bin/analyze --attack=feature_insertion --patch_size=1,4,10 --budget=0.01 --defense='clip(0.1),clip(4.0)'
  bin/analyze --attack=gradient_matching --tracin
  bin/analyze --attack='badnets(size=6, value=1.0)' --budget=0.01 --trusted=1200 --trials=20
  bin/analyze --flagfile=configs/analysis/interpolation_lr.flags

--attack is any that bin/evaluate knows, or one of two more: interpolation(base_class=0, other_class=1) inserts training
images of one class mixed with --alpha of another's, under the first one's label; feature_insertion(target_class=0) puts
a white patch of --patch_size on images and relabels them. Undefended training comes first, then each shaping named.

Prints a table an epoch for every training: magnitude ratio, cosine and so on, the whole gradient before and after
shaping, and the ratio that as many random clean examples have. Writes --output_dir: artifacts-*.csv (a row an epoch,
view and layer), epochs.csv (the tables), artifacts.png, norms.png, layers.png, config.json, trusted.npz (clean examples
for orient(reference='…/trusted.npz')). --tracin traces a targeted attack back to its poison. --trusted=N instead tries
the smoke alarm, which knows N examples to be clean and of none that it is poison, on --trials poisoned trainings and as
many clean ones.
"""

import dataclasses
import datetime
import json
import os
import pathlib

import numpy as np
from absl import flags

from tfshape import atomic, datasets
from tfshape.cli import common, experiments
from tfshape.cli.analyze_attacks import FeatureInsertion, Interpolation

FLAGS = flags.FLAGS
SCHEMA = 1
TRUSTED = 100  # examples in trusted.npz

flags.DEFINE_list("alpha", None, "interpolation: shares of the other image, several; 0 is the control, clean copies")
flags.DEFINE_list("patch_size", None, "feature_insertion: sides of the patch in pixels, several")
flags.DEFINE_enum("every", "epoch", ("epoch", "batch"), "how often gradients are looked at")
flags.DEFINE_integer("examples", None, "how many examples are looked at each time; default all, or 32 with every=batch")
flags.DEFINE_bool("tracin", False, "keep checkpoints, and find the poison behind a target by TracIn")
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
    if (folder / "config.json").exists():
        raise ValueError(f"output_dir={output_dir!r}: holds another study; allowed is a new folder")

    # one that is not at hand is found before TensorFlow loads
    datasets.load(experiment.dataset, data_dir=experiment.data_dir, classes=experiment.classes)

    from tfshape.evaluation.provenance import provenance

    plan, defenses = _plan(experiment)
    setting, count = plan.settings[0], plan.counts[0]
    studies = _studies(setting.attack)
    for name in ("tracin", "trusted"):
        if FLAGS[name].value and len(studies) > 1:
            raise ValueError(f"{name}={FLAGS[name].value}: allowed with one attack, not with {', '.join(studies)}")
    for study in studies.values():
        dataclasses.replace(setting, attack=study).check(count)
    if FLAGS.tracin and setting.attack.kind != "targeted":
        raise ValueError(f"tracin=True: allowed with targeted attacks, not with {setting.attack.name}")
    if FLAGS.examples is not None and FLAGS.examples < 2:
        raise ValueError(f"examples={FLAGS.examples}: allowed is an integer >= 2")
    clean = len(setting.rows) - count
    if FLAGS.trusted is not None and not 2 <= FLAGS.trusted < clean:
        raise ValueError(f"trusted={FLAGS.trusted}: allowed is 2 to less than the {clean} clean examples")
    folder.mkdir(parents=True, exist_ok=True)
    config = {"schema": SCHEMA, "experiment": experiment.to_dict(), "flags": _flags(), **provenance()}
    atomic.write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    if FLAGS.trusted is not None:
        _try_alarm(plan, defenses, folder)
    else:
        _watch_all(plan, studies, defenses, folder)
    if not FLAGS.quiet:
        print(f"\nwritten to {output_dir}")


def _flags():
    names = ("alpha", "patch_size", "every", "examples", "tracin", "trusted", "false_alarm_rate")
    return {name: FLAGS[name].value for name in names}


def _studies(attack):
    """Dict of title to attack: one, or one for each alpha or patch size."""
    sizes = common.whole_numbers("patch_size", "allowed are whole numbers >= 1, such as 1,4,10")
    for flag, values, name in (
        ("alpha", FLAGS.alpha, Interpolation.name),
        ("patch_size", sizes, FeatureInsertion.name),
    ):
        if values is not None and attack.name != name:
            raise ValueError(f"{flag}={','.join(map(str, values))}: allowed with --attack={name}")
    if FLAGS.alpha is not None:
        return {f"alpha {text}": dataclasses.replace(attack, alpha=_number("alpha", text)) for text in FLAGS.alpha}
    return {f"patch {size}": dataclasses.replace(attack, size=size) for size in sizes or ()} or {attack.name: attack}


def _plan(experiment):
    """The plan, and the defenses: none, and those that the flags name."""
    from tfshape import evaluation

    for name, default in (("poisons", None), ("engine", "fast"), ("adaptive", False), ("distribute", None)):
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


def _attacked(setting, attack):
    """The setting with another attack; the clean model that victims go on from is not trained again."""
    weights = None if setting.initial_model is None else setting.initial_model.get_weights()
    return dataclasses.replace(setting, attack=attack, initial_weights=weights)


def _watch_all(plan, studies, defenses, folder):
    import pandas as pd

    from tfshape.analysis import figures

    setting = plan.settings[0]
    rows = np.sort(np.random.default_rng([setting.seed("trusted"), 8]).permutation(setting.rows)[:TRUSTED])
    np.savez(folder / "trusted.npz", x=plan.dataset.train.x[rows], y=plan.dataset.train.y[rows])
    tables, norms = [], {}
    with common.progress() as progress:
        work = [(study, name) for study in studies for name in defenses]
        for done, (study, name) in enumerate(work):
            progress(done, len(work), f"{study}, {name}")
            attacked = _attacked(setting, studies[study])
            found, norms[study, name] = _watch(attacked, plan.counts[0], defenses[name], folder, f"{study}, {name}")
            tables.append(found.assign(study=study, defense=name))
            pd.concat(tables).to_csv(folder / "epochs.csv", index=False)
        progress(len(work), len(work), "done")
    table = pd.concat(tables)
    print(f"\n{_summary(table).to_string(index=False, float_format='{:.3f}'.format)}")
    figures.draw(folder, table, norms)


def _watch(setting, count, choice, folder, title):
    """One training: prints its table; -> (the table, the norms that the first and the last epoch saw)."""
    import keras
    import pandas as pd

    from tfshape.analysis import GradientArtifacts, figures
    from tfshape.evaluation import victims

    poisons, _ = setting.craft(count)
    x, y, marks = setting.examples("poison", poisons)
    examples = FLAGS.examples or (32 if FLAGS.every == "batch" else None)
    options = {"every": FLAGS.every, "examples": examples, "batch_size": min(setting.experiment.batch_size, 512)}
    options["seed"] = setting.seed("watch")
    watch = GradientArtifacts((x, y, marks), csv_path=folder / f"artifacts-{figures.slug(title)}.csv", **options)
    clean = np.flatnonzero(~marks)
    placebo = np.arange(len(clean)) < min(int(marks.sum()), len(clean) // 2)
    clean = np.random.default_rng([options["seed"], 1]).permutation(clean)
    innocent = GradientArtifacts((x[clean], y[clean], placebo), **options)
    victim, norms = setting.new_victim(), {}
    saved = folder / f"checkpoints-{figures.slug(title)}"
    if FLAGS.tracin:
        saved.mkdir()

    def note(epoch, logs):
        norms["last epoch" if epoch else "first epoch"] = watch.norms
        if FLAGS.tracin:
            victim.save_weights(saved / f"epoch-{epoch + 1:03}.weights.h5")

    callbacks = [watch, innocent, keras.callbacks.LambdaCallback(on_epoch_end=note)]
    victims.train(setting, choice.shaper, victim, x, y, callbacks)
    table = pd.DataFrame({"epoch": np.arange(1, len(watch.history["cosine"]) + 1)})
    for prefix in ("", "shaped_") if choice.shaper is not None else ("",):
        for name in ("magnitude_ratio", "norm_ratio", "cosine", "share", "clean_cosine", "poison_cosine"):
            table[prefix + name] = watch.history[prefix + name]
        table[f"{prefix}control_ratio"] = innocent.history[f"{prefix}magnitude_ratio"]
        table[f"{prefix}control_cosine"] = innocent.history[f"{prefix}cosine"]
    print(f"\n{title}: {marks.sum()} of {len(y):,} examples are poison")
    for prefix, words in (("", "before shaping"), ("shaped_", "after shaping")):
        names = [name for name in table if name.startswith("shaped_") == bool(prefix) and name != "epoch"]
        if names:
            shown = table[["epoch", *names]].rename(columns=lambda name: name.replace("shaped_", ""))
            print(f"{words}\n{shown.to_string(index=False, float_format='{:.3f}'.format)}")
    if FLAGS.tracin:
        _trace(victim, saved, poisons, x, y, marks)
    return table, norms


def _summary(table):
    """A row a training: means over epochs, and in how many epochs the poison's gradient was the larger."""
    import pandas as pd

    rows = []
    for (study, defense), part in table.groupby(["study", "defense"], sort=False):
        for prefix in ("", "shaped_"):
            if f"{prefix}cosine" in part and part[f"{prefix}cosine"].notna().any():
                mean = part.mean(numeric_only=True)
                larger = part[f"{prefix}magnitude_ratio"] > part[f"{prefix}control_ratio"]
                rows.append(
                    {
                        "study": study,
                        "defense": defense,
                        "view": "after shaping" if prefix else "before",
                        "epochs ratio > 1": f"{(part[f'{prefix}magnitude_ratio'] > 1).sum()}/{len(part)}",
                        "> control": f"{larger.sum()}/{len(part)}",
                        **{
                            name.replace("_", " "): mean[prefix + name]
                            for name in ("magnitude_ratio", "control_ratio", "norm_ratio", "cosine", "control_cosine")
                        },
                    }
                )
    return pd.DataFrame(rows)


def _trace(victim, saved, poisons, x, y, marks):
    """Prints how much poison there is among the training examples with the most influence on the target."""
    import keras

    from tfshape import analysis

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    checkpoints = sorted(saved.glob("*.weights.h5"))
    scores = analysis.influence(victim, checkpoints, x, y, poisons.target_x, poisons.intended_y, loss)
    np.savez(saved / "influence.npz", scores=scores, is_poison=marks)
    count = int(marks.sum())
    print(f"\nTracIn over {len(checkpoints)} checkpoints, where {count / len(y):.3f} of all examples are poison")
    for k in dict.fromkeys(min(k, len(y)) for k in (10, 50, 100, count, 2 * count)):
        print(f"precision at {k}: {analysis.precision_at(k, scores, marks):.3f}")


def _try_alarm(plan, defenses, folder):
    """Trains on poison and without; prints how often the alarm went off."""
    import pandas as pd

    from tfshape.analysis import GradientArtifacts
    from tfshape.evaluation import statistics, victims

    rows, work = [], len(plan.settings) * len(defenses) * 2
    with common.progress() as progress:
        for setting in plan.settings:
            poisons, _ = setting.craft(plan.counts[0])
            for name, choice in defenses.items():
                for data in ("poison", "clean"):
                    progress(len(rows), work, f"trial {setting.trial + 1} of {len(plan.settings)}: {name} on {data}")
                    x, y, marks = setting.examples("poison" if data == "poison" else "control", poisons)
                    marks = marks & (data == "poison")
                    rng = np.random.default_rng([setting.seed("trusted"), 9])
                    trusted = np.zeros(len(y), bool)
                    trusted[rng.choice(np.flatnonzero(~marks), FLAGS.trusted, replace=False)] = True
                    options = {"trusted": trusted, "false_alarm_rate": FLAGS.false_alarm_rate}
                    watch = GradientArtifacts((x, y), examples=FLAGS.examples, seed=setting.seed("watch"), **options)
                    victims.train(setting, choice.shaper, setting.new_victim(), x, y, [watch])
                    found = watch.alarm
                    rows.append(
                        {
                            "trial": setting.trial,
                            "defense": name,
                            "data": data,
                            "fired": found.fired,
                            "p_value": found.p_value,
                            "score": found.score,
                            "suspicious": len(found.suspicious),
                            "expected": found.expected,
                            "poison_among_them": int(marks[found.suspicious].sum()),
                        }
                    )
                    pd.DataFrame(rows).to_csv(folder / "alarms.csv", index=False)
        progress(work, work, "done")
    shown = []
    for (name, data), part in pd.DataFrame(rows).groupby(["defense", "data"], sort=False):
        low, high = statistics.wilson(part["fired"].sum(), len(part))
        loud = part[part["fired"]]
        listed = loud["suspicious"].sum()
        shown.append(
            {
                "defense": name,
                "data": data,
                "alarms": f"{part['fired'].sum()}/{len(part)} [{low:.3f}, {high:.3f}]",
                "median p": part["p_value"].median(),
                "listed": loud["suspicious"].median(),
                "poison among them": loud["poison_among_them"].sum() / listed if listed else float("nan"),
                "loudest": loud["score"].mode()[0] if len(loud) else "",
            }
        )
    print(
        f"\nsmoke alarm, false-alarm rate {FLAGS.false_alarm_rate:g}, {FLAGS.trusted} trusted examples; 95% intervals"
    )
    print(pd.DataFrame(shown).to_string(index=False, float_format="{:.3f}".format))


def run():
    """Entry point of `bin/analyze` and `tfshape-analyze`."""
    common.run(main)
