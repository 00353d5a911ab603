"""Run by test_distribution.py, alone, on two devices, or as one of two workers that TF_CONFIG names; the leader prints
one JSON line.
"""

import json
import sys

import numpy as np
import tensorflow as tf

import tfshape as ts
from tfshape.evaluation import run, victims
from tfshape.training import distribution


def main():
    distribute = sys.argv[1] or None
    if distribute == "mirrored":
        (device,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = distribution.strategy(distribute)
    assert strategy is None or strategy.num_replicas_in_sync == 2
    defense = "clip(0.5),clip(0.5)|noise(2.0)"
    recipe = {"model": "lr", "optimizer": "sgd", "learning_rate": 1.0, "batch_size": 50, "epochs": 2}
    more = {"attack": "label_flip", "trials": 1, "sampling": "poisson", "defense": defense, "distribute": distribute}
    experiment = ts.Experiment(**recipe, **more)
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.1, (500, 30, 30, 1)).astype(np.float32)
    y = rng.integers(0, 3, 500).astype(np.int32)
    split = ts.datasets.Split(x, y)
    plan = run.plan(experiment, ts.datasets.Dataset("random", split, split, 3, (30, 30, 1)))
    setting = plan.settings[0]

    def change(name, x):
        model = setting.new_victim()
        before = model.get_weights()[0]
        victims.train(setting, plan.defenses[name].shaper, model, x, y)
        return (model.get_weights()[0] - before).ravel().tolist()

    found = {
        "undefended": change("none", x),
        "clip": change("clip(0.5)", x),
        # black images move no weight of the kernel: what does is noise
        "noise": change("clip(0.5)|noise(2.0)", np.zeros_like(x)),
    }
    choice, poisons = plan.defenses["clip(0.5)|noise(2.0)"], setting.craft(25)[0]
    row = victims.train_and_measure(setting, choice, "control", poisons)
    found["epsilon"], found["sampling"] = row["epsilon"], row["sampling"]
    if distribution.leads(distribute):
        json.dump(found, sys.stdout)


main()
