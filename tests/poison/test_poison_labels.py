"""flip_labels."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from poison_helpers import arrays, dataset, images, same

from tfshape import poison


@settings(max_examples=25)
@given(
    n=st.integers(0, 150),
    rate=st.floats(0, 1),
    seed=st.integers(0, 2**32),
    num_classes=st.integers(2, 6),
    mapping=st.sampled_from(["uniform", "pairwise"]),
    one_hot=st.booleans(),
)
def test_exactly_the_rounded_share_changes_and_nothing_else(n, rate, seed, num_classes, mapping, one_hot):
    x, y = images(n, (7, 2, 1), num_classes)
    written = np.eye(num_classes, dtype=np.float32)[y] if one_hot else y
    flipped = dataset(x, written).apply(poison.flip_labels(rate, num_classes, seed, mapping, mark=True))
    assert flipped.cardinality() == n
    if n == 0:
        assert list(flipped) == []
        return
    new_x, new, mark = arrays(flipped)
    labels = new.argmax(-1) if one_hot else new
    assert np.array_equal(labels != y, mark) and mark.sum() == round(rate * n)
    assert same([new_x, new[~mark]], [x, written[~mark]])
    assert labels.min() >= 0 and labels.max() < num_classes
    if one_hot:
        assert np.array_equal(new.sum(-1), np.ones(n))
    if mapping == "pairwise":
        assert np.array_equal(labels[mark], (y[mark] + 1) % num_classes)


def test_uniform_reaches_every_other_class_evenly():
    y = np.repeat(np.arange(5), 2000).astype(np.int32)
    new = arrays(dataset(np.zeros((10_000, 1), np.float32), y).apply(poison.flip_labels(1.0, 5, seed=3)))[1]
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (y, new), 1)
    assert np.diag(counts).sum() == 0
    off = counts[~np.eye(5, dtype=bool)]
    assert ((off - 500) ** 2 / 500).sum() < 15 + 6 * np.sqrt(2 * 15)


def test_mapping_and_classes_restrict_who_is_eligible():
    x, y = images(400, (2,))
    _, new, mark = arrays(dataset(x, y).apply(poison.flip_labels(0.1, 4, mapping={3: 1, 0: 2}, mark=True)))
    assert mark.sum() == 40 and set(zip(y[mark], new[mark])) == {(3, 1), (0, 2)}
    _, new, mark = arrays(dataset(x, y).apply(poison.flip_labels(0.1, 4, mapping={3: 1, 0: 2}, classes=0, mark=True)))
    assert mark.sum() == 40 and set(zip(y[mark], new[mark])) == {(0, 2)}
    _, new, mark = arrays(dataset(x, y).apply(poison.flip_labels(0.2, 4, classes=[1, 2], mark=True)))
    assert mark.sum() == 80 and set(y[mark]) == {1, 2}


def test_too_few_eligible():
    x, y = images(100, (2,))
    with pytest.raises(ValueError, match=r"flip_labels: rate=0.9 .*90 of 100, but only \d+ are"):
        dataset(x, y).apply(poison.flip_labels(0.9, 4, classes=1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, np.bool_])
def test_label_dtypes(dtype):
    x, y = images(60, (2,), 2)
    flipped = dataset(x, y.astype(dtype)).apply(poison.flip_labels(0.5, 2))
    assert flipped.element_spec[1] == tf.TensorSpec([], dtype)
    assert (arrays(flipped)[1].astype(int) != y).sum() == 30


def test_labels_in_a_column_as_keras_datasets_have_them():
    x, y = images(60, (4, 4, 3))
    flipped = dataset(x, y[:, None]).apply(poison.flip_labels(0.5, 4))
    assert flipped.element_spec[1].shape == (1,)
    assert (arrays(flipped)[1][:, 0] != y).sum() == 30


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_classes": 1}, "num_classes must be an integer >= 2, got 1"),
        ({"num_classes": 2.5}, "num_classes must be an integer >= 2, got 2.5"),
        ({"mapping": "other"}, "mapping must be 'uniform', 'pairwise' or a dict .* got 'other'"),
        ({"mapping": {}}, "mapping must be .*, got {}"),
        ({"mapping": {1: 1}}, "mapping must be a dict to other classes, got {1: 1}"),
        ({"mapping": {1: 4}}, "mapping must be an integer from 0 to 3, got 4"),
        ({"classes": []}, r"classes must be at least one class, or None for all, got \[\]"),
        ({"classes": [4]}, "classes must be an integer from 0 to 3, got 4"),
        ({"mapping": {1: 2}, "classes": [3]}, r"classes must be some class that mapping={1: 2} changes, got \(3,\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"flip_labels: .*{message}"):
        poison.flip_labels(**{"rate": 0.1, "num_classes": 4, **arguments})


def test_one_hot_labels_of_another_width():
    with pytest.raises(ValueError, match="num_classes must be 3 as the one-hot labels have, got 4"):
        dataset(np.zeros((5, 2), np.float32), np.eye(3)[[0, 1, 2, 0, 1]]).apply(poison.flip_labels(0.1, 4))


def test_a_label_beyond_num_classes_is_not_flipped_silently():
    flipped = dataset(np.zeros((5, 2), np.float32), np.arange(5)).apply(poison.flip_labels(1.0, 3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not below num_classes"):
        list(flipped)
