"""Runs an experiment: trial by trial, every victim on the same poison."""

from __future__ import annotations

from tfshape import attacks, calls, datasets, models, poison
from tfshape.evaluation import victims
from tfshape.evaluation.experiment import require
from tfshape.evaluation.provenance import provenance
from tfshape.evaluation.results import Results


def evaluate(experiment, output_dir=None, progress=None):
    """Runs all trials of an experiment.

    In each trial the attack crafts its poison once; every defense (none, and the experiment's) then trains one victim
    on it and, as a control, one on the same examples unperturbed. All victims of a trial share their seed.

    Args:
        experiment: a `ts.Experiment`.
        output_dir: where results are written as they come (see `Results`), and continued from if an earlier run of the
            same experiment was interrupted; None keeps them in memory.
        progress: called as `progress(done, total, words)` before each piece of work, and after the last.

    Returns:
        `Results`.

    Raises:
        ValueError: for a value that is not allowed; nothing has been written then.
        OSError: if `output_dir` cannot be written; before any work is done.
    """
    attack = make_attack(experiment.attack)
    recipe = victims.recipe(experiment)
    defenses = victims.defenses(experiment)
    require("model", experiment.model, experiment.model in models.names(), ", ".join(models.names()))
    dataset = datasets.load(experiment.dataset, data_dir=experiment.data_dir, classes=experiment.classes)
    if attack.kind == "targeted":
        attacks.check_target_rule(experiment.target_rule, dataset)
    num_poisons = experiment.count(len(dataset.train))
    size = len(dataset.train)
    require("batch_size", recipe.batch_size, recipe.batch_size <= size, f"1 to the {size} training examples")
    models.build(experiment.model, dataset.input_shape, dataset.num_classes)
    results = Results(experiment, output_dir, provenance())
    kinds = ("poison", "control") if experiment.controls else ("poison",)
    work = [(name, data) for name in defenses for data in kinds]
    total = experiment.trials * (1 + len(work))
    note = progress or (lambda done, total, words: None)
    for trial in range(experiment.trials):
        done = trial * (1 + len(work))
        label = f"trial {trial + 1} of {experiment.trials}"
        if all(results.find(trial, name, data) for name, data in work):
            continue
        setting = victims.Setting(experiment, dataset, attack, num_poisons, trial)
        note(done, total, f"{label}: crafting")
        poisons, seconds = _crafted(setting, results.directory)
        for step, (name, data) in enumerate(work, 1):
            if results.find(trial, name, data) is None:
                note(done + step, total, f"{label}: training {name} on {data}")
                row = victims.train_and_measure(setting, name, defenses[name], data, poisons)
                results.add({**row, "crafting_seconds": seconds})
    note(total, total, "done")
    for name, shaping in defenses.items():
        results.statements[name] = victims.statement(experiment, shaping, size)
    return results


def make_attack(text):
    """The attack that `"name"` or `"name(option=value)"` spells. Raises ValueError for an unknown name or option."""
    return calls.build("attack", text, {name: attacks.get(name) for name in attacks.names()})


def _crafted(setting, directory):
    """The trial's poison and the seconds it took; read from `directory` if an interrupted run left it there."""
    path = None if directory is None else directory / "poisons" / f"trial-{setting.trial:03}.npz"
    if path is not None and path.exists():
        return poison.Poisons.load(path), None
    poisons, seconds = setting.craft()
    if path is not None:
        path.parent.mkdir(exist_ok=True)
        poisons.save(path)
    return poisons, seconds
