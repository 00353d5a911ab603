"""perturb."""

import numpy as np
import pytest
import tensorflow as tf
from poison_helpers import arrays, dataset, images, same, unknown

from tfshape import poison


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("by", ["sample", "class"])
def test_perturb(dtype, by, rng):
    x, y = images(50, dtype=dtype)
    scale = 255 if dtype == np.uint8 else 1
    deltas = rng.uniform(-0.3, 0.3, (50 if by == "sample" else 4, 6, 5, 2)) * scale
    new_x, new_y, mark = arrays(dataset(x, y).apply(poison.perturb(deltas, by=by, mark=True)))
    expected = np.clip(x + (deltas if by == "sample" else deltas[y]), 0, scale)
    assert new_x.dtype == dtype and mark.all() and same([new_y], [y])
    tolerance = {np.uint8: 0.5001, np.float32: 1e-6, np.float64: 1e-12}[dtype]
    assert np.abs(new_x - expected).max() <= tolerance


@pytest.mark.parametrize("by", ["sample", "class"])
def test_examples_without_a_delta_are_untouched(by, rng):
    x, y = images(50)
    x[:, 0, 0, 0] = -0.0
    deltas = rng.uniform(0.1, 0.3, (50 if by == "sample" else 4, 6, 5, 2))
    deltas[::2] = 0
    new_x, _, mark = arrays(dataset(x, y).apply(poison.perturb(deltas, by=by, mark=True)))
    assert np.array_equal(mark, (np.arange(50) if by == "sample" else y) % 2 == 1)
    assert same([new_x[~mark]], [x[~mark]]) and (new_x[mark] != x[mark]).any((1, 2, 3)).all()


def test_rows_are_not_clipped_unless_asked():
    x = np.full((4, 3), 50, np.float32)
    deltas = np.full((4, 3), 7.5)
    assert arrays(dataset(x, np.arange(4)).apply(poison.perturb(deltas)))[0].max() == 57.5
    assert arrays(dataset(x, np.arange(4)).apply(poison.perturb(deltas, value_range=(0, 55))))[0].max() == 55


def test_datasets_and_labels_it_has_no_deltas_for():
    x, y = images(20)
    with pytest.raises(ValueError, match=r"perturb: the dataset must have the 19 examples .* got 20"):
        dataset(x, y).apply(poison.perturb(x[:19]))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(unknown(dataset(x, y)).apply(poison.perturb(0.1 * (1 - x[:19]))))
    assert len(arrays(unknown(dataset(x, y)).apply(poison.perturb(np.zeros_like(x))))[1]) == 20
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be from 0 to 1, as there are deltas"):
        list(dataset(x, y).apply(poison.perturb(x[:2], by="class")))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"deltas": np.zeros((3, 4, 4, 2))}, r"deltas must be for features \(6, 5, 2\), got \(4, 4, 2\)"),
        ({"deltas": np.full((3, 6, 5, 2), np.nan)}, "deltas must be finite numbers .N, .input_shape., got float64"),
        ({"deltas": [["a"]]}, "deltas must be finite numbers .*, got <U1"),
        ({"deltas": np.zeros((0, 6, 5, 2))}, "deltas must be finite numbers .N, .input_shape., got float64"),
        ({"deltas": np.zeros((3, 6, 5, 2)), "by": "index"}, "by must be one of sample, class, got 'index'"),
        ({"deltas": np.zeros((3, 6, 5, 2)), "value_range": (2, 1)}, "value_range must be .*, got .2, 1."),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"perturb: .*{message}"):
        dataset(*images(3)).apply(poison.perturb(**arguments))
