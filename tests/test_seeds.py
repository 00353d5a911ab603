"""Seeds: what a purpose draws never changes, and no other purpose draws the same."""

import numpy as np
import pytest

from tfshape import seeds


def test_purposes_with_a_number_draw_as_they_did_before_they_had_a_name():
    assert seeds.generator(3, "targeted").integers(2**31) == np.random.default_rng([3, 3]).integers(2**31)
    assert seeds.derive("surrogate", 7, 0) == np.random.SeedSequence([0x5A6E, 7, 0]).generate_state(1)[0]


def test_any_other_purpose_is_spelled_in_the_seed():
    assert seeds.derive(1, 0, "victim") == np.random.SeedSequence([1, 0, *b"victim"]).generate_state(1)[0]
    assert len({seeds.derive(1, purpose) for purpose in ("victim", "poison", "influence", "a", "b")}) == 5


def test_seeds_are_python_numbers_of_any_integers():
    assert seeds.derive(np.int64(5), "victim") == seeds.derive(5, "victim")
    assert type(seeds.derive(5)) is int
    with pytest.raises(ValueError, match="non-negative"):
        seeds.derive(-1)
