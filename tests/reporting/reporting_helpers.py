"""A small study's files, as bin/sweep writes them, made without training."""

import json
import math

import numpy as np
import pandas as pd

HOSTILE = "<b>clip</b>&(1.0)"  # a defense's name that a page must not take for markup


def row(point, count, defense, asr, accuracy, epsilon=math.inf, **more):
    def interval(name, value, half):
        return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}

    found = {
        "point": point,
        "grid.num_poisons": count,
        "grid.target_rule": "random",
        **dict.fromkeys(["attack", "dataset", "model", "scenario", "knowledge", "target_rule"], "name"),
        "attack": "gradient_matching",
        **{"num_poisons": count, "num_examples": 6000, "eps": 0.1, "defense": defense, "engine": "fast"},
        **{"trials": 10, "control_trials": 10},
        **interval("accuracy", accuracy, 0.01),
        **interval("control_accuracy", accuracy + 0.01, 0.02),
        **interval("asr", asr, 0.3),
        **interval("control_asr", 0.0, 0.2),
        **{"successes": 10 * asr, "control_successes": 0},
        **dict.fromkeys(["adaptive_asr", "adaptive_asr_low", "adaptive_asr_high", "adaptive_successes"], math.nan),
        **{"worst_class_accuracy": 0.5, "ceiling": 0.9, "sampling": "poisson", "delta": 1e-5},
        **{"epsilon": epsilon, "epsilon_if_poisson": epsilon},
        **{"seconds": 1.5, "command": f"bin/evaluate '--shaping={defense}' --num_poisons={count}"},
    }
    return {**found, **more}


def write_study(folder, images=True):
    """Writes a study of two numbers of poisons, four defenses and one failed trial."""
    folder.mkdir(parents=True)
    defenses = [("none", 0.9, 0.83, math.inf), (HOSTILE, 0.6, 0.8, math.inf), ("clip(1.0)|noise(1.0)", 0.2, 0.7, 2.9)]
    defenses.append(("clip(1.0)|noise(9.0)", 0.1, 0.6, 0.3))
    rows = [
        row(point, count, name, max(0.0, asr - (0.5 if count == 10 else 0)), accuracy, epsilon)
        for count in (10, 100)
        for point, (name, asr, accuracy, epsilon) in enumerate(defenses)
    ]
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    costs = [
        {"defense": name, "attacker": "", "median_cost": cost, "most": 100, "withstood": held, "targets": 10}
        for (name, *_), cost, held in zip(defenses, (55.0, 100.0, math.inf, math.inf), (1, 4, 8, 9))
    ]
    pd.DataFrame(costs).to_csv(folder / "costs.csv", index=False)
    victims = [
        {"point": p, "trial": t, "count": 10, "defense": d[0], "data": "poison", "accuracy": 0.1 * t, "success": t > 1}
        for p, d in enumerate(defenses)
        for t in range(3)
    ]
    pd.DataFrame(victims).to_csv(folder / "victims.csv", index=False)
    trials = [{"point": p, "trial": t, "status": "done", "error": None} for p in range(4) for t in range(3)]
    trials[-1].update(status="failed", error="ValueError: <script>alert(1)</script> is not a target")
    pd.DataFrame(trials).to_csv(folder / "trials.csv", index=False)
    poisons = [{"point": 0, "count": count, "adapted": None, "file": f"f{count}", "trial": 0} for count in (10, 100)]
    pd.DataFrame(poisons).to_csv(folder / "poisons.csv", index=False)
    looks = [
        {**p, "epoch": e, "norm_ratio": 1.5, "magnitude_ratio": 2.0, "cosine": -0.2, "share": 0.7}
        for p in poisons
        for e in (0, 1)
    ]
    pd.DataFrame(looks).to_csv(folder / "artifacts.csv", index=False)
    versions = {"tfshape": "0.1.0", "tensorflow": "2.15.1", "tensorflow-privacy": None}
    (folder / "config.json").write_text(json.dumps({"versions": versions, "git": "abc", "platform": "Linux"}))
    (folder / "cache" / "pictures").mkdir(parents=True)
    shape = (3, 8, 8, 1) if images else (3, 5)
    base = np.random.default_rng(0).uniform(0.2, 0.8, shape).astype(np.float32)
    for count in (10, 100):
        arrays = {
            "poison": base + np.float32(0.1),
            "base": base,
            "poison_label": np.arange(3),
            "base_label": np.array([0, 1, -1]),
            "target": base[:1],
            "target_label": np.array([4]),
            "intended_label": np.array([5]),
        }
        with open(folder / "cache" / "pictures" / f"f{count}", "wb") as file:
            np.savez(file, **arrays)
    return folder
