"""What every source goes through: types, scales, labels, the held-out fifth, subsets of classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfshape.datasets.arrays import hold_out, select, to_dataset


def arrays(x_train, y_train, x_test=None, y_test=None):
    parts = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    return {key: np.asarray(value) for key, value in parts.items() if value is not None}


def test_bytes_become_floats_with_a_channel():
    x = np.array([[[0, 51], [102, 255]]] * 4, np.uint8)
    ds = to_dataset("d", arrays(x, [0, 1, 0, 1], x[:2], [1, 0]))
    assert ds.train.x.shape == (4, 2, 2, 1) and ds.input_shape == (2, 2, 1)
    assert ds.train.x.dtype == np.float32 and ds.train.y.dtype == np.int32
    np.testing.assert_allclose(ds.train.x[0, ..., 0], [[0, 0.2], [0.4, 1]])
    assert (len(ds.train), len(ds.test), ds.num_classes, ds.name) == (4, 2, 2, "d")
    assert all(type(size) is int for size in ds.input_shape)


def test_floats_in_the_unit_interval_are_kept(rng):
    x = rng.random((6, 3, 3, 2))
    ds = to_dataset("d", arrays(x, [0, 1, 2] * 2, x, [0, 1, 2] * 2))
    np.testing.assert_array_equal(ds.train.x, x.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, bool, np.float16])
@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 1), (9,)])
def test_zeros_and_ones_are_kept_whatever_their_dtype(dtype, shape, rng):
    x = rng.integers(0, 2, (8, *shape)).astype(dtype)
    ds = to_dataset("d", arrays(x, [0, 1] * 4, x[:2], [1, 0]))
    for split, part in ((ds.train, x), (ds.test, x[:2])):
        np.testing.assert_array_equal(split.x.reshape(part.shape), part)


def test_bytes_are_told_by_both_parts():
    """A test part, or a training part, that happens to be dark is scaled like the other."""
    dark, light = np.ones((2, 2, 2), np.uint8), np.full((2, 2, 2), 255, np.uint8)
    for train, test in ((dark, light), (light, dark)):
        ds = to_dataset("d", arrays(train, [0, 1], test, [0, 1]))
        np.testing.assert_allclose(ds.train.x[..., 0], train / 255)
        np.testing.assert_allclose(ds.test.x[..., 0], test / 255)


def test_tables_are_scaled_by_the_training_rows():
    train = [[-2, 5, 7], [2, 5, 9], [0, 5, 8]]
    test = [[1, 6, 100], [-5, 4, 8]]
    ds = to_dataset("d", arrays(train, [0, 1, 1], test, [0, 1]))
    np.testing.assert_allclose(ds.train.x, [[0, 0, 0], [1, 0, 1], [0.5, 0, 0.5]])
    np.testing.assert_allclose(ds.test.x, [[0.75, 1, 1], [0, 0, 0.5]])
    assert ds.input_shape == (3,)


def test_binary_tables_are_kept():
    x = np.array([[0, 1], [1, 1], [0, 0]], np.uint8)
    ds = to_dataset("d", arrays(x, [0, 1, 1], x, [0, 1, 1]))
    np.testing.assert_array_equal(ds.train.x, x)


@pytest.mark.parametrize("y", [[[0], [2], [1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], np.array([0, 2, 1], np.uint8)])
def test_labels_in_columns_and_one_hot(y):
    ds = to_dataset("d", arrays(np.eye(3), y, np.eye(3), y))
    np.testing.assert_array_equal(ds.train.y, [0, 2, 1])
    assert ds.train.y.dtype == np.int32 and ds.num_classes == 3


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((np.zeros((3, 2)), [0, 1]), "one label an example"),
        ((np.zeros((0, 2)), np.zeros(0, int)), "one label an example"),
        ((np.zeros(3), [0, 1, 1]), "images or rows of numbers"),
        ((np.array([["a"], ["b"]]), [0, 1]), "images or rows of numbers"),
        (([[np.nan], [1.0]], [0, 1]), "finite"),
        (([[np.inf], [1.0]], [0, 1]), "finite"),
        ((np.zeros((2, 1)), [0.0, 1.0]), "labels that are integers from 0"),
        ((np.zeros((2, 1)), [-1, 1]), "labels that are integers from 0"),
        ((np.zeros((2, 1)), [[1, 1], [0, 1]]), "one-hot"),
        ((np.zeros((2, 1)), [1, 2]), "0 to K-1"),
        ((np.zeros((2, 1)), [0, 0]), "0 to K-1"),
        ((np.zeros((2, 1)), [0, 1], np.zeros((1, 1)), [2]), "labels from 0 to 1, got 2"),
        ((np.zeros((2, 1)), [0, 1], np.zeros((2, 2)), [0, 1]), "one shape"),
        ((np.full((2, 3, 3), 255.0), [0, 1], np.zeros((2, 3, 3)), [0, 1]), "in .0, 1., got float64 from 0 to 255"),
        ((np.full((2, 3, 3), -1, np.int8), [0, 1], np.zeros((2, 3, 3)), [0, 1]), "got int8 and float64 from -1 to 0"),
        ((np.zeros((2, 1)), [0, 2**32]), "integers from 0 to 2147483647, got 0 to 4294967296"),
        ((np.zeros((2, 1)), np.array([1, 2**64 - 1], np.uint64)), "got 1 to 18446744073709551615"),
    ],
)
def test_what_cannot_be_a_dataset(parts, words):
    with pytest.raises(ValueError, match=words) as error:
        to_dataset("odd", arrays(*parts))
    assert "odd" in str(error.value) and "\n" not in str(error.value)


def test_known_shape_and_classes_are_kept_to():
    x = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"\(28, 28, 1\)"):
        to_dataset("mnist", arrays(x, [0, 1], x, [0, 1]), 10, (28, 28, 1))
    with pytest.raises(ValueError, match="labels from 0 to 9, got 10"):
        to_dataset("mnist", arrays(x, [0, 10], x, [0, 1]), 10)
    assert to_dataset("mnist", arrays(x, [0, 1], x, [0, 1]), 10).num_classes == 10


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_hold_out_takes_a_fifth_of_each_class(labels):
    y = np.array(labels)
    x = np.arange(len(y))[:, None]
    if max(np.bincount(y)) < 5:
        with pytest.raises(ValueError, match="5 examples of some class"):
            hold_out(x, y)
        return
    parts = hold_out(x, y)
    assert sorted([*parts["x_train"][:, 0], *parts["x_test"][:, 0]]) == list(range(len(y)))
    for part in ("train", "test"):
        index = parts[f"x_{part}"][:, 0]
        assert np.all(np.diff(index) > 0)
        np.testing.assert_array_equal(y[index], parts[f"y_{part}"])
    np.testing.assert_array_equal(np.bincount(parts["y_test"], minlength=5), np.bincount(y, minlength=5) // 5)
    np.testing.assert_array_equal(hold_out(x, y)["x_test"], parts["x_test"])


def test_hold_out_is_not_simply_the_end():
    parts = hold_out(np.arange(100), np.zeros(100, int))
    assert parts["x_test"].tolist() != list(range(80, 100))


@pytest.fixture
def four(rng):
    y = np.array([0, 1, 2, 3] * 5)
    return to_dataset("four", arrays(rng.random((20, 3)), y, rng.random((20, 3)), y[::-1]))


def test_select_relabels_in_the_given_order(four):
    ds = select(four, (3, 1))
    np.testing.assert_array_equal(ds.train.y, [1, 0] * 5)
    np.testing.assert_array_equal(ds.test.y, [0, 1] * 5)
    np.testing.assert_array_equal(ds.train.x, four.train.x[1::2])
    assert ds.num_classes == 2 and ds.train.y.dtype == np.int32


@pytest.mark.parametrize("classes", [(), (1,), (1, 1), (0, 4), (-1, 0), (0.0, 1.0), 3, ("0", "1"), ((0, 1), (2,))])
def test_other_classes(classes, four):
    with pytest.raises(ValueError, match="classes must be at least 2 different integers from 0 to 3") as error:
        select(four, classes)
    assert repr(classes) in str(error.value)


def test_a_class_without_examples(four):
    empty = to_dataset("d", {"x_train": four.train.x, "y_train": four.train.y, "x_test": [[0, 0, 0]], "y_test": [1]})
    with pytest.raises(ValueError, match="no test ones"):
        select(empty, (1, 2))


def test_as_dataset_gives_every_example_in_order(four):
    data = four.train.as_dataset()
    assert int(data.cardinality()) == 20
    pairs = list(data.as_numpy_iterator())
    np.testing.assert_array_equal(np.stack([x for x, _ in pairs]), four.train.x)
    np.testing.assert_array_equal(np.stack([y for _, y in pairs]), four.train.y)
    assert pairs[0][0].dtype == np.float32 and pairs[0][1].dtype == np.int32
