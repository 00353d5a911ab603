"""The one form of messages, and numbers of every kind."""

import math

import numpy as np
import pytest

from tfshape import checks

INTEGERS = [3, np.int8(3), np.uint64(3), np.array(3)]
REALS = [0.5, np.float16(0.5), np.float32(0.5), np.float64(0.5), np.array(0.5, "f4")]


@pytest.mark.parametrize("value", INTEGERS, ids=lambda value: type(value).__name__)
def test_integers_of_numpy_are_integers(value):
    got = checks.integer("steps", value, 1, 3)
    assert got == 3 and type(got) is int
    assert checks.real("noise", value) == 3.0


@pytest.mark.parametrize("value", REALS, ids=lambda value: type(value).__name__)
def test_numbers_of_numpy_are_numbers(value):
    got = checks.real("noise", value, 0, 1)
    assert got == 0.5 and type(got) is float


@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", None, 1j, [1], np.array([1]), 0, 4, np.nan])
def test_what_is_no_integer_from_1_to_3(value):
    with pytest.raises(ValueError, match=r"^steps must be an integer from 1 to 3, got "):
        checks.integer("steps", value, 1, 3)


@pytest.mark.parametrize("value", [True, np.False_, "0.5", None, 1j, math.nan, math.inf, np.float32("inf"), 0, 10**400])
def test_what_is_no_number_above_0(value):
    with pytest.raises(ValueError, match=r"^noise must be a number > 0, got "):
        checks.real("noise", value, 0, above=True)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({}, "a finite number"),
        ({"low": 0}, "a number >= 0"),
        ({"low": 0, "high": 1, "above": True}, "a number > 0 and <= 1"),
        ({"high": 1, "below": True}, "a number < 1"),
    ],
)
def test_a_message_says_the_interval(bounds, words):
    with pytest.raises(ValueError, match=rf"^eps must be {words}, got nan$"):
        checks.real("eps", math.nan, **bounds)


def test_choices_name_the_nearest():
    assert checks.choice("mode", "flip", ["flip", "stamp"]) == "flip"
    with pytest.raises(ValueError, match=r"^mode must be one of flip, stamp, got 'filp'. Did you mean 'flip'\?$"):
        checks.choice("mode", "filp", ["flip", "stamp"])
    with pytest.raises(ValueError, match=r"^mode must be one of flip, stamp, got 7$"):
        checks.choice("mode", 7, ["flip", "stamp"])


def test_values_are_shown_short_and_without_control_characters():
    assert checks.shown(np.float32(1)) == "1.0"
    assert checks.shown("a\x1b[2J\u202eb\nc") == "'a\\x1b[2J\\u202eb\\nc'"
    assert len(checks.shown("x" * 10**6)) <= checks.LONGEST + 1
    assert len(checks.shown(list(range(10**4)))) <= checks.LONGEST + 1
    assert checks.shown(10**10000) == "an integer of 33220 bits"
    assert checks.escaped("a\ud800b") == "a\\ud800b"
