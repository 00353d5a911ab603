"""Options: each is checked by the rule that stands beside its default."""

import dataclasses

import pytest

from tfshape import options


@dataclasses.dataclass(frozen=True)
class Some(options.Checked):
    steps: int = options.integer(4, 1)
    side: int = options.integer(2, 1, optional=True)
    rate: float = options.real(0.5, 0, 1, below=True)
    rule: str = options.choice("near", ("near", "far"))
    mirror: bool = options.flag(False)
    free: object = None


def test_defaults_are_those_declared():
    assert dataclasses.asdict(Some()) == {**dataclasses.asdict(Some(4, 2, 0.5, "near", False, None))}
    assert Some(side=None, rate=0, rule="far", mirror=True, free=object()).side is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"steps": None}, "steps must be an integer >= 1, got None"),
        ({"side": 0}, "side must be an integer >= 1, got 0"),
        ({"rate": 1}, "rate must be a number >= 0 and < 1, got 1"),
        ({"rule": "fare"}, "rule must be one of near, far, got 'fare'. Did you mean 'far'"),
        ({"mirror": 1}, "mirror must be one of True, False, got 1"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(values, words):
    with pytest.raises(ValueError, match=words):
        Some(**values)


def test_the_default_is_checked_too_and_inherited_options_are():
    @dataclasses.dataclass(frozen=True)
    class More(Some):
        steps: int = options.integer(0, 1)

    with pytest.raises(ValueError, match="steps"):
        More()
    with pytest.raises(ValueError, match="rate"):
        More(steps=1, rate=2)
