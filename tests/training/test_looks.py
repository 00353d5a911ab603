"""When a training is looked at."""

import pytest

from tfshape.training import looks


@pytest.mark.parametrize("steps", [1, 2, 7, 44, 46, 460, 467, 940, 1880, 20_000, 23_430])
def test_moments_are_about_twenty_dense_at_first_and_end_with_the_training(steps):
    found, unit = looks.moments(steps), looks.stride(steps)
    assert steps % unit == 0 and 1 <= unit <= 32
    assert all(step % unit == 0 for step in found) and found[-1] == steps and found[0] == unit
    gaps = [after - before for before, after in zip(found, found[1:])]
    assert min(len(found), 21) == len(found)
    assert all(after >= before - unit for before, after in zip(gaps, gaps[1:]))  # they are rounded
    assert len(found) >= min(steps // unit, 12)
