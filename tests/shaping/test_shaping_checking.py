"""`ts.check` lists every finding of a model at once, as data and as text, and raises for none."""

import json

import keras
import numpy as np
import pytest
from shaping_helpers import (
    CROSS_ENTROPY,
    BatchMean,
    MixesItself,
    RunningMean,
    attention,
    batch,
    contrastive,
    dense_model,
    sequences,
)

import tfshape as ts

L = keras.layers


def kinds(found):
    return [(finding.kind, finding.layer, finding.blocks) for finding in found.findings]


def test_a_good_model_is_ok_and_stays_as_it_is(rng):
    x, y = batch(rng, 6)
    model = dense_model()
    before = model.get_weights()
    found = ts.check(model, CROSS_ENTROPY, x, y)
    assert found.ok and not found.findings
    assert [(layer.layer_class, layer.rule, layer.slow, layer.parameters) for layer in found.layers] == [
        ("Dense", "dense", False, 25),
        ("Dense", "dense", False, 18),
    ]
    assert str(found).splitlines()[0] == f"{model.name} can be shaped."
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


class Bad(keras.Model):
    """Nearly everything that can be wrong."""

    def __init__(self):
        super().__init__(name="bad")
        self.first, self.last, self.unused = (
            L.Dense(5, name="first"),
            L.Dense(3, name="last"),
            L.Dense(2, name="unused"),
        )
        self.mean, self.normal, self.running = (
            BatchMean(name="mean"),
            L.BatchNormalization(name="bn"),
            RunningMean(name="run"),
        )

    def build(self, shape):
        self.unused.build((None, 4))
        self.first.build((None, 4))
        for layer in (self.mean, self.normal, self.running, self.last):
            layer.build((None, 5))
        self.built = True

    def call(self, inputs, training=None):
        hidden = self.running(self.normal(self.mean(self.first(inputs)), training=training))
        return self.last(hidden)

    def train_step(self, data):
        return {}


def test_everything_is_listed_at_once(rng):
    x, y = batch(rng, 8)
    found = ts.check(Bad(), contrastive, x, y)
    assert not found.ok
    blocking = {(kind, layer) for kind, layer, blocks in kinds(found) if blocks}
    assert {
        ("own_training", "bad"),
        ("mixes_rows", "mean"),
        ("mixes_rows", "bn"),
        ("loss_mixes_rows", None),
    } <= blocking
    assert not {layer for kind, layer in blocking if kind == "mixes_rows"} & {"first", "run", "last", "bad"}
    by_layer = {finding.layer: finding for finding in found.findings if finding.kind == "mixes_rows"}
    assert (by_layer["bn"].layer_class, by_layer["bn"].rule) == ("BatchNormalization", "normalization")
    text = str(found)
    assert text.startswith("bad cannot be shaped: ")
    assert all(finding.message in text for finding in found.findings)
    assert json.loads(json.dumps(found.to_dict()))["ok"] is False


def test_each_kind(rng):
    x, y = batch(rng, 8)

    class Unused(MixesItself):
        def build(self, shape):
            self.first.build((None, 4)), self.last.build((None, 3))
            self.built = True

        def call(self, inputs):
            return self.first(inputs)[:, :3]

    found = ts.check(Unused(), CROSS_ENTROPY, x, y)
    assert kinds(found) == [("no_gradient", "last", False)] and found.ok
    found = ts.check(keras.Sequential([keras.Input([4]), RunningMean(name="run"), L.Dense(3)]), CROSS_ENTROPY, x, y)
    assert kinds(found) == [("keeps_state", "run", True)]
    found = ts.check(MixesItself(), CROSS_ENTROPY, x, y)
    assert kinds(found) == [("mixes_rows", "outer", True)]
    assert kinds(ts.check(dense_model(), contrastive, x, y)) == [("loss_mixes_rows", None, True)]
    assert kinds(ts.check(dense_model(), CROSS_ENTROPY, x[:1], y[:1])) == [("not_examined", None, False)]
    x[3] = np.nan
    assert kinds(ts.check(dense_model(), CROSS_ENTROPY, x, y)) == [("not_finite", None, False)]
    found = ts.check(ts.shape(dense_model(), ts.shaping.Clip(1.0)), CROSS_ENTROPY, x, y)
    assert [kind for kind, *_ in kinds(found)] == ["already_shaped"]


@pytest.mark.parametrize(
    "loss, words",
    [
        ("nonsense", "loss must be a Keras loss by name"),
        (None, "loss must be given"),
        (lambda t, p: 1.0, "gives a scalar"),
        (lambda t, p: 1 / 0, "division by zero"),
    ],
)
def test_a_loss_that_cannot_be_used(rng, loss, words):
    found = ts.check(dense_model(), loss, *batch(rng, 6))
    assert not found.ok and any(finding.kind == "refused" and words in finding.message for finding in found.findings)


def test_input_that_does_not_fit_is_a_finding(rng):
    found = ts.check(dense_model(), CROSS_ENTROPY, *batch(rng, 6, (5,)))
    assert not found.ok and "cannot be called on x" in found.findings[0].message
    assert "\n" not in found.findings[0].message


def test_layers_without_a_rule_are_named_as_slow(rng):
    found = ts.check(attention(), CROSS_ENTROPY, *sequences(rng))
    assert found.ok
    rules = {layer.layer_class: (layer.rule, layer.slow) for layer in found.layers}
    assert rules["Embedding"] == ("embedding", False) and rules["LayerNormalization"] == ("normalization", False)
    recurrent = keras.Sequential([keras.Input([5]), L.Reshape([5, 1]), L.SimpleRNN(3, name="loop"), L.Dense(3)])
    found = ts.check(recurrent, CROSS_ENTROPY, *batch(rng, 6, (5,)))
    assert kinds(found) == [("slow_path", "loop", False)]
    assert "loop" in str(found) and "(slow)" in str(found)
