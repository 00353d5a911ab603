"""Studies of experiments: what trials share is made once, and the rows are those of `ts.evaluate`."""

import json
import os
import pathlib
import shlex

import numpy as np
import pandas as pd
import pytest
import three_classes

import tfshape as ts
from tfshape import studies
from tfshape.studies import cache, commands, files, trial

pytestmark = pytest.mark.one_stack

TIMES = ("seconds", "crafting_seconds")
GRADIENT_MATCHING = "gradient_matching(steps=5, ensemble=1, checkpoints=1, retrain=0)"
DEFENSES = "none,clip(1.0),clip(0.5),clip(0.1),clip(1.0)|noise(0.1),clip(1.0)|noise(1.0),normalize(),clip(2.0)"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return three_classes.write(tmp_path_factory.mktemp("data"), 120, 60)


def experiment(small, **options):
    options = {"trials": 2, "epochs": 2, "batch_size": 24, "learning_rate": 0.05, "model": "lr", **options}
    return ts.Experiment(dataset=small, **options)


def untimed(rows):
    return [{name: value for name, value in row.items() if name not in ("schema", *TIMES)} for row in rows]


def run_here(study):
    """Runs a study's trials in this process. Returns their results by (point, trial)."""
    study.folder.mkdir(exist_ok=True)
    return {
        (number, k): json.loads(json.dumps(trial.run(json.loads(json.dumps(point.config)), k, study.folder)))
        for number, point in enumerate(study.points)
        for k in range(point.trials)
    }


@pytest.mark.parametrize(
    "options",
    [
        {"attack": "label_flip", "budget": 0.3},
        pytest.param(
            {"attack": GRADIENT_MATCHING, "scenario": "finetune", "adaptive": True, "num_poisons": (2, 4)},
            marks=pytest.mark.slow,
        ),
        pytest.param({"attack": "badnets", "model": "mlp", "dataset": "digits", "epochs": 1}, marks=pytest.mark.slow),
    ],
)
def test_the_rows_are_those_of_evaluate(small, tmp_path, options):
    e = experiment(options.pop("dataset", small), **options)
    found = run_here(studies.experiments(tmp_path, [({}, e)]))
    rows = [row for k in range(e.trials) for row in found[0, k]["rows"]]
    assert untimed(rows) == untimed(json.loads(json.dumps(ts.evaluate(e).trials)))
    seeds = {result["seed"] for result in found.values()}
    assert len(seeds) == e.trials


@pytest.mark.slow
def test_eight_defenses_on_ten_targets_craft_ten_poisons(small, tmp_path, monkeypatch):
    calls = []
    attack = ts.attacks.get("gradient_matching")
    craft = attack.craft
    monkeypatch.setattr(attack, "craft", lambda self, problem: calls.append(problem.seed) or craft(self, problem))
    base = experiment(small, attack=GRADIENT_MATCHING, trials=10, epochs=1, controls=False)
    study = studies.experiments(tmp_path, studies.points(base, studies.parse([f"shaping={DEFENSES}"])))
    assert len(study.points) == 8
    found = run_here(study)
    assert len(found) == 80 and len(calls) == len(set(calls)) == 10
    assert sum(result["crafted"] for result in found.values()) == 10
    assert len(list((tmp_path / "cache" / "poisons").iterdir())) == 10
    victims = [row for result in found.values() for row in result["rows"]]
    assert len(victims) == 10 * (1 + 7 * 2)  # undefended training, and it beside each of seven others
    assert len(list((tmp_path / "cache" / "victims").iterdir())) == 80  # each trained once
    files = {result["poisons"][0]["file"] for (_, k), result in found.items() if k == 3}
    assert len(files) == 1
    pictures = cache.read_arrays(tmp_path / "cache" / "pictures" / files.pop())
    assert pictures["poison"].shape == pictures["base"].shape == (6, 12) and pictures["target"].shape == (1, 12)
    assert 0 < np.abs(pictures["poison"] - pictures["base"]).max() <= base.eps + 1e-6


@pytest.mark.slow
def test_a_clean_model_is_trained_once(small, tmp_path, monkeypatch):
    fitted = []
    fit = ts.training.fit
    monkeypatch.setattr(
        ts.models, "fit", lambda *args, **options: fitted.append(args[2].epochs) or fit(*args, **options)
    )
    base = experiment(small, attack=GRADIENT_MATCHING, scenario="finetune", epochs=3, finetune_epochs=1)
    run_here(studies.experiments(tmp_path, studies.points(base, studies.parse(["clip=0.1,1"]))))
    assert fitted.count(3) == 2  # a trial each, not for each clip


def test_poison_depends_on_what_it_should(small, tmp_path):
    def crafted(**changes):
        e = experiment(small, **{"attack": "label_flip", "budget": 0.3, "trials": 1, "controls": False, **changes})
        results = run_here(studies.experiments(tmp_path, [({}, e)]))
        return results[0, 0]["crafted"]

    assert crafted() == 1
    assert crafted(sampling="shuffle", delta=1e-3, defense="clip(1.0),spectral_signatures") == 0
    assert crafted(num_poisons=36) == 0  # the same count as the budget's
    assert [crafted(**change) for change in ({"seed": 1}, {"budget": 0.2}, {"epochs": 1})] == [1, 1, 1]


@pytest.mark.slow
def test_saved_poison_is_a_trial_a_file(small, tmp_path):
    e = experiment(small, attack="label_flip", budget=0.3)
    ts.evaluate(e, tmp_path / "evaluated")
    saved = experiment(small, poisons=str(tmp_path / "evaluated" / "poisons"), trials=9)
    study = studies.experiments(tmp_path / "study", [({}, saved)])
    assert study.points[0].trials == 2 and len(set(study.points[0].inputs)) == 2
    rows = [row for result in run_here(study).values() for row in result["rows"]]
    kept = ("accuracy", "class_accuracy", "defense", "data", "trial", "num_poisons")
    evaluated = json.loads(json.dumps(ts.evaluate(e).trials))
    assert [[row[name] for name in kept] for row in rows] == [[row[name] for name in kept] for row in evaluated]


def test_the_files_of_a_study_of_experiments(small, tmp_path):
    base = experiment(small, attack="label_flip", budget=0.3)
    study = studies.experiments(tmp_path, studies.points(base, studies.parse(["clip=0.1,1"])))
    found = run_here(study)
    with studies.Store(tmp_path, create=True) as store:
        keys = store.plan(study)
        store.note(function=study.function)
        store.save(finished=[(key, 1.0, result) for key, result in zip(keys, found.values())])
        files.write(tmp_path, store)
    frame, victims = pd.read_csv(tmp_path / "results.csv"), pd.read_csv(tmp_path / "victims.csv")
    assert frame["defense"].tolist() == ["none", "clip(0.1)|noise(1.0)", "clip(1.0)|noise(1.0)"]
    assert frame["grid.clip"].isna().tolist() == [True, False, False]
    assert len(victims) == len(pd.read_parquet(tmp_path / "victims.parquet")) == 2 * 2 * 2 * 2
    alone = ts.evaluate(study_experiment(frame, 2)).frame()
    assert frame["accuracy"][2] == pytest.approx(alone["accuracy"][1]) and frame["trials"].eq(2).all()
    assert len(pd.read_csv(tmp_path / "trials.csv")) == 4


def study_experiment(frame, row):
    """The experiment of a row's command, read as `bin/evaluate` reads it."""
    flags = dict(flag[2:].split("=", 1) for flag in shlex.split(frame["command"][row])[1:])
    axes = studies.parse([f"{name}={value}" for name, value in flags.items() if name != "trials"])
    ((_, e),) = studies.points(ts.Experiment(trials=int(flags["trials"])), axes)
    return e


def test_commands_quote_what_a_shell_would_read():
    e = ts.Experiment(attack="label_flip", shaping="clip(1.0)|noise(0.1)", num_poisons=(1, 5), controls=False)
    assert commands.command(e) == (
        "bin/evaluate --attack=label_flip --num_poisons=1,5 '--shaping=clip(1.0)|noise(0.1)' --controls=false"
    )
    assert commands.command(ts.Experiment(scenario="finetune")) == "bin/evaluate --scenario=finetune"


@pytest.mark.slow
def test_ray_and_local_workers_give_the_same_rows(small, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is an extra")
    monkeypatch.setenv(
        "PYTHONPATH", str(pathlib.Path(ts.__file__).parents[1]) + os.pathsep + os.environ.get("PYTHONPATH", "")
    )
    grid = studies.points(experiment(small, attack="label_flip", budget=0.3), studies.parse(["noise=0,1"]))
    rows = {}
    for name, runner in (("local", studies.Local(workers=2)), ("ray", studies.OnRay(workers=2))):
        study = studies.experiments(tmp_path / name, grid)
        assert studies.run(study, runner)["done"] == 4
        with studies.Store(study.folder) as store:
            rows[name] = [(p, k, untimed(result["rows"])) for p, k, result in store.results()]
            keys = [row["key"] for row in store.trials()]
        rows[f"{name} keys"] = keys
    assert rows["local"] == rows["ray"] and rows["local keys"] == rows["ray keys"]
