"""Names that have moved are still found where they were, with a warning that says where they are."""

import pytest

import tfshape as ts

MOVED = [
    ("attacks", "starting_model", "training"),
    ("defenses", "DeepPartitionAggregation", "certificates"),
    *(("models", name, "training") for name in ("Recipe", "fit")),
    *(("privacy", name, "certificates") for name in ("certified_poisons", "poisoning_bound", "poisoning_ceiling")),
]


@pytest.mark.parametrize(("old", "name", "new"), MOVED)
def test_moved_names_warn(old, name, new):
    words = f"tfshape.{old}.{name} is deprecated; write tfshape.{new}.{name}"
    with pytest.warns(DeprecationWarning, match=words) as told:
        found = getattr(getattr(ts, old), name)
    assert found is getattr(getattr(ts, new), name)
    assert told[0].filename == __file__
