"""The indiscriminate table of Hong et al. 2020 (arXiv 2002.11497, section 6.2), trained again: see `ABOUT`."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import pandas as pd

from tfshape import attacks, checks, datasets, models, poison, privacy, shaping, studies, training
from tfshape.evaluation import statistics
from tfshape.reproductions.markdown import markdown

FUNCTION = "tfshape.reproductions.indiscriminate:run"
RECIPE = training.Recipe("adam", 0.01, batch_size=300, epochs=40)
RATES = (0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.2, 0.3, 0.4)
NOISES = (0.25, 0.025, 0.00025)
DEFENSES = (
    "none",
    *(f"clip({clip:g})" for clip in (0.1, 1, 2, 4, 8)),
    *(f"clip(4)|noise({noise:g})" for noise in NOISES),
)
DELTA = 1e-5
PUBLISHED = {  # (attack, rate, defense): best epoch's accuracy, one run each; the authors' results/ipoisoning
    ("clean", 0.0, "none"): 0.954,
    ("label_flip", 0.1, "clip(0.1)"): 0.9545,
    ("label_flip", 0.1, "clip(8)"): 0.951,
    ("label_flip", 0.3, "clip(8)"): 0.945,
    ("label_flip", 0.4, "clip(4)"): 0.9435,
    ("slab", 0.05, "clip(8)"): 0.933,
    ("slab", 0.1, "clip(0.1)"): 0.9315,
    ("slab", 0.1, "clip(2)"): 0.9295,
    ("slab", 0.1, "clip(4)"): 0.9355,
    ("slab", 0.1, "clip(4)|noise(0.25)"): 0.9285,
    ("slab", 0.1, "clip(4)|noise(0.025)"): 0.9365,
    ("slab", 0.2, "clip(8)"): 0.9085,
    ("slab", 0.3, "clip(2)"): 0.7935,
    ("slab", 0.4, "clip(0.1)"): 0.6925,
    ("slab", 0.4, "clip(8)"): 0.787,
}
TOLERANCE = {"clean": 0.01, "label_flip": 0.01, "slab": 0.03}
ABOUT = (
    "FashionMNIST-3/4 (dresses and coats), a tenth of the training set held out; softmax regression with two logits,\n"
    "Adam 0.01, batches of 300, 40 epochs; poison is added to the training set. Random label flips are copies of\n"
    "training examples with the other label, drawn anew for each seed; slab poison is the same for all seeds."
)
SLAB = {"refits": 3, "steps": 60}
WHY = (
    "Theirs: one run each, stopped at the first epoch that reaches 0.954, so that no best lies far above it; slab\n"
    "poison is read from files made by another program (quantile 65) and clipped to [0, 1] on reading, which can\n"
    "carry it out of its filters. Ours: all 40 epochs; slab poison made anew, all of it in [0, 1] and, as it is used,\n"
    "inside filters about the class means that clean data and poison have together. The means are what matters: with\n"
    "the true ones of the clean data, `slab()`, 40% leaves 0.887 under clip 0.1 and 0.905 under clip 8 (seed 0). What\n"
    "theirs does beyond ours at 30% and 40% we lay to the clipping; their files are not at hand."
)


def study(folder, dataset="fashion_mnist", data_dir=None, trials=5, rates=RATES):
    """The `Study` of the table.

    Args:
        folder: where it lives.
        dataset, data_dir: as `ts.datasets.load` takes them; classes 3 and 4 are used.
        trials: int >= 2, trainings of each cell, each of a seed.
        rates: shares of poison, each in (0, 1], of the clean training set.

    Raises:
        ValueError: a value outside these, or data that cannot be had.
    """
    trials = checks.integer("trials", trials, 2, 100_000)
    rates = tuple(checks.real("rates", rate, 0, 1, above=True) for rate in rates)
    data, points = studies.study.fingerprint(_clean(dataset, data_dir)), []
    for attack, rate in [("clean", 0.0), *((attack, rate) for rate in rates for attack in ("label_flip", "slab"))]:
        values = {"attack": attack, "rate": rate}
        group = values if attack == "slab" else None  # whose trials share their poison
        points.append(
            studies.Point({**values, "dataset": dataset, "data_dir": data_dir}, trials, values, (data,) * trials, group)
        )
    return studies.Study(folder, tuple(points), FUNCTION)


def run(config, trial, folder):
    """Trains a victim under each of `DEFENSES` on one poison; `trial` is the seed. See `Study.function`."""
    clean = _clean(config["dataset"], config["data_dir"])
    attack, rate, train = config["attack"], config["rate"], clean.train
    fact = None
    if attack != "clean":
        poisons = _poisons(attack, rate, clean, trial, folder)
        x, y = np.concatenate([train.x, poisons.x]), np.concatenate([train.y, poisons.y])
        train = datasets.Split(x, y)
        if attack == "slab":
            kept = {name: poisons.config[name] for name in ("quantile", "passes", "loss_bound")}
            fact = {"rate": rate, "num_poisons": len(poisons), **kept}
    victims = [models.build("lr", train.x.shape[1:], clean.num_classes, seed=trial) for _ in DEFENSES]
    shapers, seeds = [shaping.parse(name) for name in DEFENSES], [trial] * len(DEFENSES)
    paths = training.stacking.train(victims, shapers, RECIPE, seeds, (train.x, train.y), "shuffle", clean.test)
    about = {"attack": attack, "rate": rate, "seed": trial, "num_examples": len(train)}
    rows = [
        {**about, "defense": name, "last": float(path[-1]), "best": float(path.max())}
        for name, path in zip(DEFENSES, paths.T)
    ]
    return {"rows": rows, "slab": fact}


@functools.lru_cache(maxsize=1)
def _clean(dataset, data_dir):
    return held_out(datasets.load(dataset, data_dir, classes=(3, 4)))


def held_out(dataset):
    """The dataset without a tenth of the training examples of each class, drawn at seed 0."""
    generator, train = np.random.default_rng(0), dataset.train
    keep = []
    for label in range(dataset.num_classes):
        rows = generator.permutation(np.flatnonzero(train.y == label))
        keep.append(rows[len(rows) // 10 :])
    rows = np.sort(np.concatenate(keep))
    return dataclasses.replace(dataset, train=datasets.Split(train.x[rows], train.y[rows]))


def _poisons(attack, rate, dataset, seed, folder):
    """The `Poisons` of one training, all of them to be added: slab poison is that of seed 0 for all seeds."""

    def craft():
        problem = attacks.Problem(dataset, "lr", RECIPE, round(rate * len(dataset.train)), seed)
        return attacks.get(attack)(**(SLAB if attack == "slab" else {})).craft(problem)

    if attack != "slab":
        return craft()
    seed, key = 0, [FUNCTION, studies.study.fingerprint(dataset), attack, rate, SLAB]
    load, save = poison.Poisons.load, lambda path, poisons: poisons.save(path)
    return studies.cache.Cache(f"{folder}/cache").get("poisons", key, craft, save, load)[0]


def read(folder):
    """What a study of this table has found so far: pandas.DataFrames of its victims and of its slab poison."""
    with studies.Store(folder) as store:
        found = [result for _, _, result in store.results()]
    slab = {fact["rate"]: fact for fact in (result["slab"] for result in found) if fact is not None}
    return pd.DataFrame([row for result in found for row in result["rows"]]), pd.DataFrame([*slab.values()])


def summarise(trials):
    """One row a cell: pandas.DataFrame of attack, rate, defense, mean and 95% interval of the last and the best epoch's
    accuracy, epsilon under both samplings, the published accuracy and the difference of our best to it."""
    found = []
    for (attack, rate, defense), cell in trials.groupby(["attack", "rate", "defense"], sort=False):
        row = {"attack": attack, "rate": rate, "defense": defense, "seeds": len(cell)}
        for which in ("last", "best"):
            row[which] = cell[which].mean()
            row[f"{which}_low"], row[f"{which}_high"] = statistics.mean_interval(cell[which])
        row["num_examples"] = int(cell["num_examples"].iloc[0])
        for name, sampling in (("epsilon", "shuffle"), ("epsilon_if_poisson", "poisson")):
            row[name] = _epsilon(defense, row["num_examples"], sampling)
        row["published"] = PUBLISHED.get((attack, rate, defense), math.nan)
        row["difference"] = row["best"] - row["published"]
        found.append(row)
    return pd.DataFrame(found)


@functools.lru_cache(maxsize=256)
def _epsilon(defense, num_examples, sampling):
    shaper = shaping.parse(defense)
    noise = 0.0 if shaper is None else shaper.noise_multiplier or 0.0
    steps = RECIPE.epochs * (num_examples // RECIPE.batch_size)
    return privacy.epsilon(noise, RECIPE.batch_size, num_examples, steps, DELTA, sampling=sampling)


def report(folder):
    """A study of this table as Markdown: the published numbers beside ours, every cell, slab beside flips, epsilon."""
    trials, slab = read(folder)
    cells = summarise(trials)
    parts = [
        ABOUT,
        f"Test accuracy, mean ± half of the 95% interval of {cells['seeds'].max()} seeds.",
        f"Beside the published numbers:\n\n{markdown(_beside(cells))}\n\n{WHY}",
        f"Best epoch, which is what the authors report:\n\n{markdown(_grid(cells, 'best'))}",
        f"Last epoch:\n\n{markdown(_grid(cells, 'last'))}",
        f"Slab beside as many random flips, undefended; {_kept(slab)}:\n\n{markdown(_slab(cells, slab))}",
        f"Epsilon at delta {DELTA:g} of clip 4, batches being shuffled (and if they were Poisson-sampled); of all\n"
        f"others it is inf:\n\n{markdown(_epsilons(cells))}",
    ]
    return "\n\n".join(parts)


def _grid(cells, which):
    shown = cells.assign(cell=[_span(row, which) for _, row in cells.iterrows()])
    shown["defense"] = shown["defense"].str.replace("clip(4)|noise", "4|noise", regex=False)
    order = list(dict.fromkeys(shown["defense"]))
    shown = shown.pivot(index=["attack", "rate"], columns="defense", values="cell")[order].reset_index()
    return shown.assign(rate=shown["rate"].map("{:.0%}".format))


def _span(row, which):
    return f"{row[which]:.4f}±{(row[f'{which}_high'] - row[f'{which}_low']) / 2:.4f}"


def _beside(cells):
    rows = cells[cells["published"].notna()]
    shown = rows[["attack", "rate", "defense", "published"]].copy()
    shown["rate"] = rows["rate"].map("{:.0%}".format)
    for which in ("best", "last"):
        shown[f"ours, {which}"] = [_span(row, which) for _, row in rows.iterrows()]
    shown["best - published"] = rows["difference"].map("{:+.4f}".format)
    limits = rows["attack"].map(TOLERANCE)
    shown["allowed"] = limits.map("{:.2f}".format)
    shown["within"] = np.where(rows["difference"].abs() <= limits, "yes", "**no**, see below")
    return shown


def _slab(cells, slab):
    bare = cells[cells["defense"] == "none"].set_index(["attack", "rate"])
    clean, shown = bare.loc[("clean", 0.0)], []
    for fact in slab.itertuples():
        row = {
            "rate": f"{fact.rate:.0%}",
            "poisons": fact.num_poisons,
            "pass both filters": f"{fact.passes:.1%}",
            "hinge loss bound": f"{fact.loss_bound:.3f}",
        }
        for which in ("best", "last"):
            lost = {name: clean[which] - bare.loc[(name, fact.rate)][which] for name in ("slab", "label_flip")}
            row[f"slab loses, {which}"] = f"{lost['slab']:.4f}"
            row[f"flips lose, {which}"] = f"{lost['label_flip']:.4f}"
        shown.append(row)
    return pd.DataFrame(shown)


def _kept(slab):
    if not len(slab):
        return "no slab poison"
    return f"filters keep {slab['quantile'].iloc[0]:.0%} of each clean class, about the means of clean data and poison"


def _epsilons(cells):
    noisy = cells[np.isfinite(cells["epsilon"])].drop_duplicates(["rate", "defense"])
    both = [f"{row.epsilon:.4g} ({row.epsilon_if_poisson:.4g})" for row in noisy.itertuples()]
    shown = (
        noisy.assign(both=both).pivot(index=["rate", "num_examples"], columns="defense", values="both").reset_index()
    )
    return shown.assign(rate=shown["rate"].map("{:.0%}".format))
