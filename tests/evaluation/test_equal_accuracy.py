"""Planted defenses, trained: one that only trains for fewer steps is not credited, one that drops the poison is."""

import dataclasses

import numpy as np
import pytest
from matplotlib import image

import tfshape as ts
from tfshape import reporting

pytestmark = pytest.mark.one_stack


@dataclasses.dataclass(frozen=True)
class StopsEarly(ts.defenses.NoDefense):
    name = "stops_early"

    def _train(self, build, x, y, num_classes, recipe, seed):
        return super()._train(build, x, y, num_classes, dataclasses.replace(recipe, epochs=2), seed)


@dataclasses.dataclass(frozen=True)
class KnowsTrigger(ts.defenses.Filter):
    name = "knows_trigger"

    def _keep(self, build, x, y, num_classes, recipe, seed):
        return (np.asarray(ts.poison.patch(2)(x)) != x).any(axis=(1, 2, 3))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    for kind in (StopsEarly, KnowsTrigger):
        ts.defenses.register(kind)
    options = {"budget": 0.03, "dataset": "digits", "model": "mlp", "epochs": 6, "batch_size": 64, "trials": 20}
    defense = "stops_early,knows_trigger"
    return ts.evaluate(
        ts.Experiment(attack="badnets(size=2)", defense=defense, **options), tmp_path_factory.mktemp("planted")
    )


def test_training_less_is_no_defense_and_dropping_the_poison_is_one(results):
    frame = results.frame().set_index("defense")
    assert frame["asr"]["none"] > 0.8 and np.isnan(frame["beyond_accuracy"]["none"])
    early, drop = frame.loc["stops_early"], frame.loc["knows_trigger"]
    assert early["asr"] < frame["asr"]["none"] - 0.5 and early["accuracy"] < frame["accuracy"]["none"] - 0.03
    assert early["beyond_accuracy_low"] < 0 < early["beyond_accuracy_high"] and early["beyond_accuracy_p"] > 0.2
    assert abs(early["beyond_accuracy"]) < 0.05
    assert drop["detection_recall"] == 1 and drop["asr"] < 0.05
    assert drop["beyond_accuracy_high"] < -0.5 and drop["beyond_accuracy_p"] < 1e-4


def test_the_verdict_says_so(results):
    helped = {finding.defense: finding.helps for finding in results.verdict.findings}
    assert helped == {"stops_early": False, "knows_trigger": True}
    words = str(results.verdict)
    assert "these defenses help: knows_trigger (0.0" in words and "can be shown for stops_early (0." in words


def test_checkpoints_are_of_undefended_victims_and_end_with_the_training(results):
    for record in results.records:
        looked_at = record.defense == "none" and record.data == "poison"
        assert (record.checkpoints is not None) == looked_at
        if looked_at:
            steps = 6 * (record.num_examples // 64)
            assert record.checkpoints[-1] == [steps, record.accuracy, record.success]
            assert 12 <= len(record.checkpoints) <= 20
    loaded = ts.evaluation.Results.load(results.directory)
    assert loaded.records == results.records and str(loaded.verdict) == str(results.verdict)


def test_the_curve_is_drawn_and_the_report_begins_with_the_verdict(results, tmp_path):
    curve = results.curve()
    assert curve["step"].is_monotonic_increasing and (curve["success_low"] <= curve["success"]).all()
    wide = image.imread(reporting.draw(results.directory)).shape[1]
    assert wide > 2.5 * 0.95 * 150 * len(results.frame())  # three panels
    material = reporting.read(results.directory)
    material.summary["verdict"] = str(results.verdict)
    html, text, _ = reporting.write(material, tmp_path)
    sentence = str(results.verdict).split(".")[0]
    assert sentence in html.read_text("utf-8").partition("<nav")[0] and sentence in text.read_text("utf-8")[:400]


def test_results_of_an_earlier_version_have_no_curve(results):
    old = ts.evaluation.Results(results.experiment)
    old.records = [dataclasses.replace(record, checkpoints=None) for record in results.records]
    assert old.curve().empty and old.frame()["beyond_accuracy"].isna().all()
    assert "Nothing can be compared at equal accuracy for stops_early and knows_trigger." in str(old.verdict)
