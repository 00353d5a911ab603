"""What draws nothing at random gives the same numbers on both stacks: those that stand in stacks.json, to 1e-5.

`python tests/examples/stack_numbers.py > tests/examples/stacks.json` writes them anew.
"""

import json
import pathlib

import numpy as np
import pytest
import stack_numbers

SAVED = json.loads((pathlib.Path(__file__).parent / "stacks.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def found():
    return stack_numbers.numbers()


def test_nothing_is_missing(found):
    assert found.keys() == SAVED.keys()


@pytest.mark.parametrize("name", SAVED)
def test_numbers_are_those_of_the_other_stack(name, found):
    assert found[name].keys() == SAVED[name].keys()
    for key, wanted in SAVED[name].items():
        scale = np.max(np.abs(wanted))
        np.testing.assert_allclose(found[name][key], wanted, rtol=1e-5, atol=1e-5 * scale, err_msg=f"{name}, {key}")
