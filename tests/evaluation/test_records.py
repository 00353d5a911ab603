"""Records of victims: what JSON has of them, and what is no record."""

import json
import math

import numpy as np
import pytest
from test_results_files import row

import tfshape as ts
from tfshape import strict_json
from tfshape.evaluation.records import VictimRecord, defenses, pairs

TARGETED = {"target_index": None, "true_label": 1, "intended_label": 2, "predicted_label": 2, "success": True}


@pytest.mark.parametrize(
    "more",
    [
        {},
        TARGETED,
        {"success": 0.25, "engine": "fast", "attack": "foreign", "count": None, "crafting_seconds": 2},
        {"dropped": 9, "dropped_poison": 3, "poison": 5, "certified_accuracy": 0.5},
    ],
)
def test_a_record_is_its_json_and_back(more):
    found = {**row(), **more}
    record = VictimRecord.from_dict(found)
    assert record.to_dict() == found and list(record.to_dict())[-2:] == ["count", "crafting_seconds"]
    assert VictimRecord.from_dict(json.loads(strict_json.dumps(found))) == record
    with pytest.raises(AttributeError):
        record.accuracy = 1.0


def test_other_keys_are_ignored_and_scalars_are_numbers():
    record = VictimRecord.from_dict(row(later=3, accuracy=np.float64(0.5), num_poisons=np.int64(5), epsilon="inf"))
    assert "later" not in record.to_dict() and record.epsilon == math.inf
    assert type(record.accuracy) is float and type(record.num_poisons) is int


WRONG = {
    **{"trial": None, "num_poisons": 1.5, "num_examples": True, "defense": 3, "data": None, "sampling": 1},
    **{"accuracy": "much", "delta": None, "epsilon": "9", "seconds": False, "count": "5", "engine": 1, "inserted": 0},
    **{"dropped": 0.5, "poison": "1", "intended_label": "cat", "certified_accuracy": True, "success": "yes"},
    **{"class_accuracy": [0.5, "x"], "crafting_seconds": "1"},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named(name):
    with pytest.raises(ValueError, match=f"^it is not the row of a victim: {name}$"):
        VictimRecord.from_dict({**row(), name: WRONG[name]})


@pytest.mark.parametrize("name", sorted({*row()} - {"crafting_seconds"}))
def test_what_is_missing_is_named(name):
    found = row()
    del found[name]
    with pytest.raises(ValueError, match=f"^it is not the row of a victim: {name}$"):
        VictimRecord.from_dict(found)


def test_a_defense_sees_the_undefended_on_as_many_poisons_in_pairs():
    rows = [row(trial, count, name) for trial in (0, 1, 2) for count in (5, 9) for name in ("none", "clip(1.0)")]
    victims = [VictimRecord.from_dict(found) for found in rows if (found["trial"], found["defense"]) != (1, "none")]
    found = defenses(ts.Experiment(), victims)
    assert [(d.first.count, d.first.defense) for d in found] == [(c, n) for c in (5, 9) for n in ("none", "clip(1.0)")]
    for defense in found:
        assert {victim.count for victim in (*defense.victims, *defense.undefended)} == {defense.first.count}
        both = pairs(defense.victims, defense.undefended)
        assert [(ours.trial, theirs.trial) for ours, theirs in both] == [(0, 0), (2, 2)]
        assert all(theirs.defense == "none" for _, theirs in both)
