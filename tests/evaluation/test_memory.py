"""A process that trains many victims does not grow."""

import forked
import pytest

COUNT = """
import gc, sys
import tfshape as ts

data = ts.datasets.load("digits")
recipe = ts.models.Recipe(epochs=1, batch_size=64)

def graphs():
    gc.collect()
    return sum(type(found).__name__ == "FuncGraph" for found in gc.get_objects())

def train(seed):
    model = ts.models.build(sys.argv[1], data.input_shape, data.num_classes, seed=seed)
    shaping = ts.shaping.dp_sgd(1.0, 0.1) if sys.argv[2] == "shaped" else None
    model = ts.shape(model, shaping, batch_size=64, seed=seed)
    ts.models.fit(model, data.train.as_dataset().take(128), recipe, seed)

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

options = dict(attack="label_flip", budget=0.2, dataset="digits", epochs=1, batch_size=512)
ts.evaluate(ts.Experiment(model=model, defense=defense, trials=trials, **options), progress=note)
print((seen[trials] - seen[skipped]) / (trials - skipped) / 2**20)
"""


@pytest.mark.parametrize("shaped", ["plain", "shaped"])
def test_the_graph_of_a_training_is_freed(tmp_path, shaped):
    done = forked.code(tmp_path, COUNT, "lr", shaped)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 0
