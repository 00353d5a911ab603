"""Composition, records and pictures."""

import json

import numpy as np
import pytest
from poison_helpers import arrays, dataset, images, same_elements

from tfshape import poison

X, Y = images(80, (8, 8, 3))
FLIP = poison.flip_labels(0.1, 4, seed=1, mapping={3: 1}, mark=True)
STAMP = poison.stamp(poison.blend(X[0], 0.3), 0.1, 2, seed=2, value_range=(0, 1))
NOISE = poison.perturb(0.1 * (1 - X))
CRAFTED = poison.Poisons(x=X[:3], y=[0, 1, 2], base=[5, 6, 7], num_examples=80, attack="mine", config={"steps": 3})


def test_a_pipeline_is_repeated_apply():
    clean = dataset(X, Y)
    pipeline = poison.Pipeline([FLIP, STAMP, NOISE, poison.insert(CRAFTED)])
    one_by_one = clean.apply(FLIP).apply(STAMP).apply(NOISE).apply(poison.insert(CRAFTED))
    assert same_elements(clean.apply(pipeline), one_by_one)
    nested = poison.Pipeline([FLIP, STAMP])(clean).apply(poison.Pipeline([NOISE, poison.insert(CRAFTED)]))
    assert same_elements(nested, one_by_one)


def test_names_and_record_are_json():
    pipeline = poison.Pipeline([FLIP, ("trojan", STAMP), FLIP, NOISE, poison.replace(CRAFTED)])
    assert pipeline.names == ["flip_labels_1", "trojan", "flip_labels_2", "perturb", "replace"]
    record = json.loads(json.dumps(pipeline.record))
    assert [entry["name"] for entry in record] == pipeline.names
    assert [entry["transform"] for entry in record] == ["flip_labels", "stamp", "flip_labels", "perturb", "replace"]
    assert record[0]["config"] == {"rate": 0.1, "num_classes": 4, "seed": 1, "mapping": {"3": 1}, "classes": None}
    assert record[1]["config"]["trigger"]["pattern"]["shape"] == [8, 8, 3]
    assert len(record[1]["config"]["trigger"]["pattern"]["sha256"]) == 64
    assert record[4]["config"] == {"attack": "mine", "num_poisons": 3, "seed": 0, "attack_config": {"steps": 3}}
    assert repr(pipeline).startswith("Pipeline([flip_labels(rate=0.1, ")


@pytest.mark.parametrize(
    "transforms, message",
    [
        ([], "transforms must be at least one, got"),
        ([lambda data: data], "transforms must be each a Transform or a pair"),
        ([("a", FLIP, 1)], "transforms must be each a Transform or a pair"),
        ([(1, FLIP)], "transforms must be each a Transform or a pair"),
        ([("a", FLIP), ("a", STAMP)], "names must be distinct, got"),
    ],
)
def test_bad_pipelines(transforms, message):
    with pytest.raises(ValueError, match=f"Pipeline: .*{message}"):
        poison.Pipeline(transforms)


def test_unknown_options_of_a_transform():
    with pytest.raises(TypeError, match="marks"):
        poison.flip_labels(0.1, 4, marks=True)


@pytest.mark.parametrize(
    "shape, one_hot", [((8, 8, 1), False), ((8, 8, 3), True), ((8, 8, 2), False), ((8, 8), False), ((9,), False)]
)
def test_preview_draws_clean_poison_and_difference(shape, one_hot, tmp_path):
    x, y = images(80, shape)
    clean = dataset(x, np.eye(4, dtype=np.float32)[y] if one_hot else y)
    poisoned = clean.apply(poison.stamp(poison.patch(2), 0.1, 2, mark=True))
    first = np.flatnonzero(arrays(poisoned)[2])
    figure = poison.preview(poisoned, num=3)
    axes = np.array(figure.axes).reshape(3, 3)
    assert [axis.get_title() for axis in axes[0]] == [f"#{i}: {y[i]}" for i in first[:3]]
    assert [axis.get_title() for axis in axes[1]] == ["→ 2"] * 3
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["clean", "poison", "difference"]
    if len(shape) == 1:
        drawn = [axis.lines[0].get_ydata() for axis in axes[:, 0]]
        np.testing.assert_allclose(drawn[2], drawn[1] - drawn[0])
        np.testing.assert_allclose(drawn[0], x[first[0]])
    elif shape[2:] != (2,):
        drawn = [np.asarray(axis.images[0].get_array()) for axis in axes[:, 0]]
        assert (drawn[2][:6, :6] == 0.5).all() and (drawn[2][6:, 6:] != 0.5).any()
        np.testing.assert_allclose(drawn[0], x[first[0]].reshape(drawn[0].shape))
    figure.savefig(tmp_path / "preview.png")
    assert (tmp_path / "preview.png").read_bytes()[:4] == b"\x89PNG"


def test_preview_of_a_pipeline_shows_what_was_inserted():
    poisoned = dataset(X, Y).apply(poison.Pipeline([poison.flip_labels(0.02, 4), poison.insert(CRAFTED)]))
    titles = [axis.get_title() for axis in poison.preview(poisoned, num=20).axes]
    assert len(titles) == 3 * 5 and titles[2:5] == ["#80: new", "#81: new", "#82: new"]


def test_preview_with_the_clean_set_given():
    clean = dataset(X, Y)
    poisoned = clean.apply(STAMP).prefetch(2)
    with pytest.raises(ValueError, match=r"preview: clean must be the clean dataset, .*, got None"):
        poison.preview(poisoned)
    assert len(poison.preview(poisoned, clean=clean, num=2).axes) == 6
    with pytest.raises(ValueError, match="preview: the dataset holds no poison"):
        poison.preview(clean.prefetch(1), clean=clean)
    with pytest.raises(ValueError, match="preview: num must be an integer >= 1, got 0"):
        poison.preview(poisoned, clean=clean, num=0)
