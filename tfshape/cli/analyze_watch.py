"""bin/analyze: trains on poison, and records what it does to gradients."""

import dataclasses

import numpy as np
from absl import flags

from tfshape.cli import common
from tfshape.cli.analyze_trials import poisons_of
from tfshape.tables import write_csv

FLAGS = flags.FLAGS
TRUSTED = 100  # examples in trusted.npz


def _attacked(setting, attack):
    """The setting with another attack; the clean model that victims go on from is not trained again."""
    weights = None if setting.initial_model is None else setting.initial_model.get_weights()
    return dataclasses.replace(setting, attack=attack, initial_weights=weights)


def watch_all(plan, studies, defenses, folder):
    """Trains the first trial's victim on each study's poison, with each defense: prints tables, writes the files."""
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
            poisons = poisons_of(plan, attacked)
            found, norms[study, name] = _watch(attacked, poisons, defenses[name], folder, f"{study}, {name}")
            tables.append(found.assign(study=study, defense=name))
            write_csv(folder / "epochs.csv", pd.concat(tables))
        progress(len(work), len(work), "done")
    table = pd.concat(tables)
    common.say(f"\n{_summary(table).to_string(index=False, float_format='{:.3f}'.format)}")
    figures.draw(folder, table, norms)


def _watch(setting, poisons, choice, folder, title):
    """One training: prints its table; -> (the table, the norms that the first and the last epoch saw)."""
    from tfshape.analysis import figures
    from tfshape.evaluation.watching import watch

    examples, norms = FLAGS.examples or (32 if FLAGS.every == "batch" else None), {}

    def note(epoch, look):
        norms["last epoch" if epoch else "first epoch"] = look.norms

    path = folder / f"artifacts-{figures.slug(title)}.csv"
    table = watch(setting, choice, poisons, FLAGS.every, examples, path, [note])
    size = len(setting.rows) + int((poisons.base < 0).sum())
    common.say(f"\n{title}: {len(poisons)} of {size:,} examples are poison")
    for prefix, words in (("", "before shaping"), ("shaped_", "after shaping")):
        names = [name for name in table if name.startswith("shaped_") == bool(prefix) and name != "epoch"]
        if names:
            shown = table[["epoch", *names]].rename(columns=lambda name: name.replace("shaped_", ""))
            common.say(f"{words}\n{shown.to_string(index=False, float_format='{:.3f}'.format)}")
    return table, norms


def _summary(table):
    """A row a training: means over epochs, and in how many epochs the poison's gradient was the larger."""
    import pandas as pd

    rows = []
    for (study, defense), part in table[table["epoch"] > 0].groupby(["study", "defense"], sort=False):
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
