"""One victim trained on two devices, or by two processes on loopback, is the one of a single device, and as private."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfshape as ts
from tfshape.evaluation import run
from tfshape.privacy.sampling import SAMPLERS
from tfshape.training import distribution

WHY = "Keras 3's fit does not take batches that replicas have shared out"
KERAS_2 = keras.__version__.startswith("2.")
needs_keras_2 = pytest.mark.skipif(not KERAS_2, reason=WHY)
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def start(command, task=None, ports=()):
    """A process, and worker number `task` of those that listen on `ports`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if task is not None:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": task}})
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], env=environment, stdout=pipe, stderr=pipe, text=True)


def ends(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return output


def free_ports():
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


@pytest.fixture(scope="module")
def found():
    script, ports = str(HERE / "distributed.py"), free_ports()
    two = [start([script, "multi_worker"], task, ports) for task in range(2)]
    one = ends(start([script, ""]))
    outputs = [ends(process) for process in two]
    assert outputs[1] == ""
    mirrored = ends(start([script, "mirrored"]))
    return {"alone": json.loads(one), "mirrored": json.loads(mirrored), "multi_worker": json.loads(outputs[0])}


@needs_keras_2
@pytest.mark.slow
@pytest.mark.parametrize("distribute", ["mirrored", "multi_worker"])
@pytest.mark.parametrize("name", ["undefended", "clip"])
def test_two_train_the_weights_of_one(found, distribute, name):
    """Shuffled, and on Poisson-sampled batches under clipping: members and padding are the same."""
    one, two = (np.array(found[how][name]) for how in ("alone", distribute))
    assert np.abs(one).max() > 0.01
    np.testing.assert_allclose(two, one, atol=1e-5)


@needs_keras_2
@pytest.mark.slow
@pytest.mark.parametrize("distribute", ["alone", "mirrored", "multi_worker"])
def test_the_noise_of_both_has_the_variance_of_one(found, distribute):
    z = np.array(found[distribute]["noise"]) * 50 / (0.5 * 2.0 * np.sqrt(20))
    low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], z.size)
    assert low < (z**2).sum() < high
    assert stats.kstest(z, "norm").pvalue > 1e-4


@needs_keras_2
@pytest.mark.slow
@pytest.mark.parametrize("distribute", ["mirrored", "multi_worker"])
def test_epsilon_and_sampling_are_those_of_one(found, distribute):
    for name in ("epsilon", "sampling"):
        assert found[distribute][name] == found["alone"][name]
    assert found["alone"]["sampling"] == "poisson" and found["alone"]["epsilon"] < 100


class Strategy:
    """As many replicas on as many machines, whose datasets come as a list."""

    def __init__(self, replicas, machines):
        self.num_replicas_in_sync, self._machines = replicas, machines

    def distribute_datasets_from_function(self, make):
        contexts = [tf.distribute.InputContext(self._machines, i, 4) for i in range(self._machines)]
        return [list(make(context).as_numpy_iterator()) for context in contexts]


@pytest.mark.parametrize("scheme", ["shuffle", "poisson", "balls_in_bins"])
@pytest.mark.parametrize("machines", [1, 2, 4])
def test_replicas_share_the_rows_of_every_batch(scheme, machines):
    data = tf.data.Dataset.from_tensor_slices((np.arange(90.0), np.arange(90)))
    whole = list(SAMPLERS[scheme](data, 12, 2, 5)[0].as_numpy_iterator())
    parts, steps = distribution.sampler(Strategy(4, machines), scheme)(data, 12, 2, 5)
    assert steps == 90 // 12
    here = 4 // machines
    for step, batch in enumerate(whole):
        shares = [parts[replica // here][step * here + replica % here] for replica in range(4)]
        x, y, *weight = (np.concatenate(arrays) for arrays in zip(*shares))
        kept = weight[0] > 0 if weight else np.ones(len(x), bool)
        expected = batch[0] if scheme == "shuffle" else batch[0][batch[2] > 0]
        assert sorted(x[kept]) == sorted(expected) and (x == y).all()
        counts = [int((share[2] > 0).sum()) if weight else len(share[0]) for share in shares]
        assert max(counts) - min(counts) <= 1 and len({len(share[0]) for share in shares}) == 1
    assert len(parts[0]) == len(whole) * here


def test_batches_that_replicas_cannot_share_are_refused():
    data = tf.data.Dataset.from_tensor_slices((np.arange(90.0), np.arange(90)))
    with pytest.raises(ValueError, match=r"^batch_size must be a multiple of the 4 replicas, got 10$"):
        distribution.sampler(Strategy(4, 2), "shuffle")(data, 10, 1, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"distribute": "horovod"}, "distribute must be one of mirrored, multi_worker, got 'horovod'"),
        ({"distribute": "mirrored", "engine": "tensorflow_privacy"}, "distribute must be None with engine"),
        ({"distribute": "mirrored", "defense": "geometric_median(), clip(1)"}, "each replica sees"),
        ({"distribute": "mirrored", "defense": "spectral_signatures"}, "each replica sees"),
    ],
)
def test_what_cannot_be_distributed_is_refused(options, words):
    with pytest.raises(ValueError, match=r"^distribute must be ") as caught:
        run.plan(ts.Experiment(attack="label_flip", model="lr", **options))
    assert words in str(caught.value)


@pytest.mark.skipif(KERAS_2, reason="Keras 2 can be distributed")
def test_keras_3_is_refused():
    with pytest.raises(ValueError, match=r"^distribute must be None on Keras 3.*, got 'mirrored'$"):
        ts.evaluate(ts.Experiment(attack="label_flip", model="lr", distribute="mirrored"))


@needs_keras_2
def test_workers_need_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=r"^distribute must be .*TF_CONFIG.*, got 'multi_worker'$"):
        ts.evaluate(ts.Experiment(attack="label_flip", model="lr", distribute="multi_worker"))


@needs_keras_2
@pytest.mark.slow
def test_evaluate_by_two_workers_has_the_accuracy_of_one_and_goes_on(tmp_path):
    flags = ["-m", "tfshape", "evaluate", "--attack=label_flip", "--budget=0.2", "--model=lr", "--epochs=3"]
    flags += ["--noise=0.5", "--quiet"]
    ports = free_ports()

    def two(folder, trials):
        more = [f"--trials={trials}", "--distribute=multi_worker", f"--output_dir={folder}"]
        return [ends(process) for process in [start([*flags, *more], task, ports) for task in range(2)]]

    one = tmp_path / "one"
    ends(start([*flags, "--trials=4", f"--output_dir={one}"]))
    assert two(tmp_path / "two", 4)[1] == ""
    rows = [
        sorted(
            (json.loads(line) for line in (tmp_path / name / "trials.jsonl").read_text().splitlines()),
            key=lambda row: (row["trial"], row["defense"], row["data"]),
        )
        for name in ("one", "two")
    ]
    names = [sorted(path.name for path in (tmp_path / name / "poisons").iterdir()) for name in ("one", "two")]
    assert names[0] == names[1] and len(names[0]) == 4
    assert len(rows[0]) == len(rows[1]) == 16
    for mine, theirs in zip(*rows):
        assert [mine[name] for name in ("trial", "defense", "data", "epsilon")] == [
            theirs[name] for name in ("trial", "defense", "data", "epsilon")
        ]
        assert theirs["accuracy"] == pytest.approx(mine["accuracy"], abs=0.02 if mine["defense"] == "none" else 0.15)
    path = tmp_path / "two" / "trials.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))  # as a kill leaves it
    assert len(two(tmp_path / "two", 4)) == 2
    assert len(path.read_text().splitlines()) == len(lines) == 16
