"""bin/analyze over several trials: how often the smoke alarm goes off, and how much of the poison TracIn finds."""

import numpy as np
from absl import flags

from tfshape import tables
from tfshape.cli import common

FLAGS = flags.FLAGS


def poisons_of(plan, setting):
    """The `Poisons` of a trial: those saved, or crafted now."""
    return setting.craft(plan.counts[0])[0] if plan.saved is None else plan.saved[setting.trial]


def _work(plan, defenses, kinds):
    """The trainings, with their progress: yields setting, name of the defense, its choice, kind, its poisons."""
    total, done, trials = len(plan.settings) * len(defenses) * len(kinds), 0, len(plan.settings)
    with common.progress() as progress:
        for setting in plan.settings:
            progress(done, total, f"trial {setting.trial + 1} of {trials}: crafting")
            poisons = poisons_of(plan, setting)
            for name, choice in defenses.items():
                for kind in kinds:
                    progress(done, total, f"trial {setting.trial + 1} of {trials}: {name} on {kind}")
                    yield setting, name, choice, kind, poisons
                    done += 1
        progress(total, total, "done")


def try_alarm(plan, defenses, folder):
    """Trains on poison and without; prints how often the alarm went off."""
    import pandas as pd

    from tfshape.analysis import GradientArtifacts
    from tfshape.evaluation import statistics, victims

    rows = []
    for setting, name, choice, data, poisons in _work(plan, defenses, ("poison", "clean")):
        x, y, marks = setting.examples("poison" if data == "poison" else "control", poisons)
        marks = marks & (data == "poison")
        rng = np.random.default_rng([setting.seed("trusted"), 9])
        trusted = np.zeros(len(y), bool)
        trusted[rng.choice(np.flatnonzero(~marks), FLAGS.trusted, replace=False)] = True
        options = {"trusted": trusted, "false_alarm_rate": FLAGS.false_alarm_rate}
        watch = GradientArtifacts((x, y), examples=FLAGS.examples, seed=setting.seed("watch"), **options)
        victims.train(setting, choice.shaper, setting.new_victim(), x, y, [watch])
        found = watch.alarm
        assert found is not None  # as `trusted` was given
        row = {"trial": setting.trial, "defense": name, "data": data, "fired": found.fired, "p_value": found.p_value}
        row.update(score=found.score, suspicious=len(found.suspicious), expected=found.expected)
        rows.append({**row, "poison_among_them": int(marks[found.suspicious].sum())})
        tables.write_csv(folder / "alarms.csv", pd.DataFrame(rows))
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
    common.say(
        f"\nsmoke alarm, false-alarm rate {FLAGS.false_alarm_rate:g}, {FLAGS.trusted} trusted examples; 95% intervals"
    )
    common.say(pd.DataFrame(shown).to_string(index=False, float_format="{:.3f}".format))


def trace(plan, defenses, folder):
    """Trains on poison; prints how much of it is among the examples with the most influence on the target, and among
    those with the largest gradients."""
    import keras
    import pandas as pd

    from tfshape import analysis, models
    from tfshape.evaluation import statistics, victims

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rows = []
    for number, (setting, name, choice, _, poisons) in enumerate(_work(plan, defenses, ("poison",))):
        x, y, marks = setting.examples("poison", poisons)
        victim = setting.new_victim()
        checkpoints: list[list] = []

        def keep(epoch, logs, victim=victim, checkpoints=checkpoints):
            checkpoints.append(victim.get_weights())

        victims.train(setting, choice.shaper, victim, x, y, [keras.callbacks.LambdaCallback(on_epoch_end=keep)])
        scores = {
            "TracIn": analysis.influence(victim, checkpoints, x, y, poisons.target_x, poisons.intended_y, loss),
            "gradient norm": _norms(victim, checkpoints, x, y, loss),
        }
        hit = bool((models.predict(victim, poisons.target_x).argmax(axis=1) == poisons.intended_y).all())
        np.savez(folder / f"influence-{number:03}.npz", scores=scores["TracIn"], is_poison=marks)
        count = int(marks.sum())
        for k in dict.fromkeys(min(k, len(y)) for k in (10, 50, 100, count, 2 * count)):
            found = {ranking: analysis.precision_at(k, values, marks) for ranking, values in scores.items()}
            for ranking, precision in {**found, "chance": float(marks.mean())}.items():
                row = {"trial": setting.trial, "defense": name, "success": hit, "ranking": ranking, "k": k}
                rows.append({**row, "precision": precision})
        tables.write_csv(folder / "tracin.csv", pd.DataFrame(rows))
    table = pd.DataFrame(rows)
    hits = table.groupby(["defense", "trial"], sort=False)["success"].first().groupby("defense", sort=False)
    shown = []
    for (name, ranking), part in table.groupby(["defense", "ranking"], sort=False):
        row = {"defense": name, "successes": f"{hits.sum()[name]}/{hits.count()[name]}", "ranking": ranking}
        for k, values in part.groupby("k")["precision"]:
            low, high = statistics.mean_interval(values)
            row[f"at {k}"] = f"{values.mean():.3f}" + (f" [{low:.3f}, {high:.3f}]" if ranking != "chance" else "")
        shown.append(row)
    common.say(f"\nprecision at k, {len(checkpoints)} checkpoints a training; means over trials with 95% intervals")
    common.say(pd.DataFrame(shown).to_string(index=False))


def _norms(model, checkpoints, x, y, loss, batch_size=256):
    """The mean over checkpoints of each example's gradient norm, [N]."""
    import tensorflow as tf

    from tfshape import gradients

    @tf.function(autograph=False, reduce_retracing=True)
    def norms(x, y):
        return gradients.per_example(model, loss, x, y, training=False).norms

    total, kept = np.zeros(len(y)), model.get_weights()
    for weights in checkpoints:
        model.set_weights(weights)
        for start in range(0, len(y), batch_size):
            rows = slice(start, start + batch_size)
            total[rows] += norms(x[rows], y[rows]).numpy() / len(checkpoints)
    model.set_weights(kept)
    return total
