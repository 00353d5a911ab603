"""Grids as a user spells them."""

import pytest

import tfshape as ts
from tfshape.studies import grid


def test_every_combination_with_the_last_axis_fastest():
    axes = grid.parse(["delta=0.1,0.2", "shaping=none,dp_sgd(clip=1.0, noise=0.1)", "num_poisons=1,5"])
    found = grid.points(ts.Experiment(trials=3), axes)
    assert len(found) == 8
    assert [values["num_poisons"] for values, _ in found] == [1, 5] * 4
    assert [values["delta"] for values, _ in found] == [0.1] * 4 + [0.2] * 4
    assert found[2][1] == ts.Experiment(trials=3, delta=0.1, shaping="dp_sgd(clip=1.0, noise=0.1)", num_poisons=1)
    assert grid.points(ts.Experiment(), {}) == [({}, ts.Experiment())]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("adaptive=true,no", (True, False)),
        ("epsilon=none,3", (None, 3.0)),
        ("knowledge=none,black_box", (None, "black_box")),
        ("shaping=none,clip(1)", ("none", "clip(1)")),
        (
            "attack=label_flip,gradient_matching(steps=5, ensemble=1)",
            ("label_flip", "gradient_matching(steps=5, ensemble=1)"),
        ),
        ("batch_size=64", (64,)),
        ("eps=0.1,1e-2", (0.1, 0.01)),
    ],
)
def test_values_have_the_type_of_their_attribute(text, values):
    (found,) = grid.parse([text]).values()
    assert found == values and [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    "texts",
    [
        ["noise"],
        ["noise="],
        ["noise=a"],
        ["noise=0,,1"],
        ["noise=1,1.0"],
        ["nose=1"],
        ["trials=1,2"],
        ["batch_size=1.5"],
        ["adaptive=maybe"],
        ["noise=0", "noise=1"],
    ],
)
def test_what_is_not_a_grid_is_refused_in_a_line(texts):
    with pytest.raises(ValueError, match=r"^grid.*( must be .*, got |allowed is)") as error:
        grid.parse(texts)
    assert "\n" not in str(error.value)


def test_a_value_that_no_experiment_can_have():
    with pytest.raises(ValueError, match=r"^noise must be .*, got -1.0$"):
        grid.points(ts.Experiment(), grid.parse(["noise=0,-1"]))
