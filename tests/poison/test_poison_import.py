"""What a stranger takes along with `tfshape.poison`: TensorFlow, NumPy and nothing else."""

import json
import subprocess
import sys

PROGRAM = """
import json, sys
import numpy, tensorflow
before = set(sys.modules)
import tfshape as ts
ts.poison.flip_labels(rate=0.1, num_classes=3)
data = tensorflow.data.Dataset.from_tensor_slices((numpy.zeros((20, 4, 4, 1), numpy.float32), numpy.arange(20) % 3))
data = data.apply(ts.poison.stamp(ts.poison.warp(), rate=0.1, target_class=1))
assert len(list(data)) == 20
packages = [name for name in set(sys.modules) - before if "site-packages" in str(sys.modules[name].__spec__)]
print(json.dumps({"packages": packages, "ours": [name for name in sys.modules if name.startswith("tfshape")]}))
"""


def test_loads_nothing_but_tensorflow_and_numpy():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "tfshape.poison" in loaded["ours"]
    ours = {name for name in loaded["ours"] if not name.startswith("tfshape.poison")}
    assert ours == {"tfshape", "tfshape.archive", "tfshape.checks", "tfshape.files", "tfshape.graphs", "tfshape.pixels"}
    assert {name.split(".")[0] for name in loaded["packages"]} <= {"tfshape", "tensorflow", "numpy"}
