"""A process that trains many victims does not grow."""

import forked
import pytest

COUNT = """
import gc, sys
import tfshape as ts

data = ts.datasets.load("digits")
recipe = ts.training.Recipe(epochs=1, batch_size=64)

def graphs():
    gc.collect()
    return sum(type(found).__name__ == "FuncGraph" for found in gc.get_objects())

def train(seed):
    model = ts.models.build(sys.argv[1], data.input_shape, data.num_classes, seed=seed)
    shaping = ts.shaping.dp_sgd(1.0, 0.1) if sys.argv[2] == "shaped" else None
    model = ts.shape(model, shaping, batch_size=64, seed=seed, probe=False)
    ts.training.fit(model, data.train.as_dataset().take(128), recipe, seed)

train(0)
before = graphs()
train(1)
train(2)
print(graphs() - before)
"""
GROWTH = """
import sys
import tfshape as ts
from tfshape.studies.worker import memory

model, defense, trials, skipped = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
seen = {}

def note(done, total, words):
    seen.setdefault(done * trials // total, memory())

options = {"attack": "label_flip", "budget": 0.2, "dataset": "digits", "epochs": 1, "batch_size": 512}
ts.evaluate(ts.Experiment(model=model, defense=defense, trials=trials, **options), progress=note)
print((seen[trials] - seen[skipped]) / (trials - skipped) / 2**20)
"""


@pytest.mark.parametrize("shaped", ["plain", "shaped"])
def test_the_graph_of_a_training_is_freed(tmp_path, shaped):
    done = forked.code(tmp_path, COUNT, "lr", shaped)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 0


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lr", "mlp"])
def test_memory_is_flat_over_many_trials(tmp_path, model):
    done = forked.code(tmp_path, GROWTH, model, "clip(1)|noise(0.1)", 300, 100)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 0.1, "megabytes per trial"


WORKER = """
import json, sys
from tfshape.evaluation import Experiment
from tfshape.studies import worker

e = Experiment(attack="label_flip", budget=0.2, dataset="digits", epochs=1, batch_size=512, model="lr",
               shaping="clip(1)|noise(0.1)", trials=300)
held = []
for trial in range(300):
    task = {"function": "tfshape.studies.trial:run", "folder": "study", "config": e.of_a_trial(), "trials": [trial]}
    (reply,) = worker.execute(task)
    assert "error" not in reply, reply
    held.append(worker.memory())
print((held[-1] - held[99]) / 200 / 2**20)
"""


@pytest.mark.slow
def test_memory_of_a_worker_is_flat(tmp_path):
    done = forked.code(tmp_path, WORKER)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 0.1, "megabytes per trial"
