"""From arrays as they are published to a `Dataset`: floats in [0, 1], classes from 0, a channel axis."""

import numpy as np

from tfshape import checks, pixels
from tfshape.datasets.base import Dataset, Split

TEST_SHARE = 0.2


def to_dataset(name, arrays, num_classes=None, input_shape=None):
    """Checks and converts the arrays of one classification task.

    Args:
      name: the dataset's name, also for messages.
      arrays: {"x_train", "y_train", "x_test", "y_test"}; the test pair may be missing, and then `hold_out` makes it.
        x: [N, height, width], [N, height, width, channels] or [N, features], numbers.
        y: integers [N] or [N, 1], or one-hot [N, K].
      num_classes: K when it is known; otherwise the training labels must be 0 .. K-1, each present.
      input_shape: what the shape of an example must be, when it is known.

    Returns:
      A `Dataset`. x is kept when all of it lies in [0, 1], whatever its dtype. Otherwise images of bytes are divided by
      255, and a table is scaled column by column with the minimum and maximum of the training rows, test values
      clipped.

    Raises:
      ValueError: arrays that cannot be this.
    """
    arrays = {key: np.asarray(value) for key, value in arrays.items()}
    for part in ("train", "test") if "x_test" in arrays else ("train",):
        arrays[f"y_{part}"] = _labels(name, arrays[f"y_{part}"])
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if len(x) != len(y) or not len(x):
            raise ValueError(f"dataset {name} must have one label an example, got {len(x)} examples, {len(y)} labels")
        if x.ndim not in (2, 3, 4) or not (np.issubdtype(x.dtype, np.number) or x.dtype == bool):
            raise ValueError(f"dataset {name} must hold images or rows of numbers, got {x.dtype} {x.shape}")
        if not np.all(np.isfinite(x)):
            raise ValueError(f"dataset {name} must hold finite numbers, got NaN or infinity")
        arrays[f"x_{part}"] = x[..., None] if x.ndim == 3 else x
    if num_classes is None:
        num_classes = _count_classes(name, arrays["y_train"])
    if "x_test" not in arrays:
        arrays = hold_out(arrays["x_train"], arrays["y_train"])
    shape = arrays["x_train"].shape[1:]
    if arrays["x_test"].shape[1:] != shape or input_shape not in (None, shape):
        raise ValueError(
            f"dataset {name} must have examples of one shape, {input_shape or shape}, "
            f"got {shape} for training and {arrays['x_test'].shape[1:]} for test"
        )
    top = max(arrays["y_train"].max(), arrays["y_test"].max())
    if top >= num_classes:
        raise ValueError(f"dataset {name} must have labels from 0 to {num_classes - 1}, got {top}")
    x_train, x_test = _scale(name, arrays["x_train"], arrays["x_test"])
    train, test = Split(x_train, arrays["y_train"]), Split(x_test, arrays["y_test"])
    return Dataset(name, train, test, int(num_classes), tuple(map(int, shape)))


def hold_out(x, y):
    """A fixed, class by class test part of `TEST_SHARE`, for sets published in one piece.

    Each class is permuted at seed 0 and its last fifth, rounded down, held out; both parts keep the original order.

    Returns:
      {"x_train", "y_train", "x_test", "y_test"}.

    Raises:
      ValueError: so few examples that no class has one to hold out.
    """
    generator = np.random.RandomState(0)  # the one NumPy generator whose stream is frozen
    test = np.zeros(len(y), bool)
    for label in np.unique(y):
        positions = generator.permutation(np.flatnonzero(y == label))
        test[positions[len(positions) - int(TEST_SHARE * len(positions)) :]] = True
    if not test.any():
        raise ValueError(f"data without a test part must have 5 examples of some class at least, got {len(y)} in all")
    return {"x_train": x[~test], "y_train": y[~test], "x_test": x[test], "y_test": y[test]}


def select(dataset, classes):
    """The examples of some classes, relabelled by their position in `classes`, in their original order.

    Args:
      dataset: a `Dataset`.
      classes: at least two different ints from 0 to num_classes - 1.

    Raises:
      ValueError: other classes.
    """
    allowed = f"at least 2 different integers from 0 to {dataset.num_classes - 1}"
    try:
        chosen = np.asarray(classes)
    except ValueError:  # ragged
        checks.fail("classes", allowed, classes)
    if chosen.ndim != 1 or chosen.size < 2 or not np.issubdtype(chosen.dtype, np.integer):
        checks.fail("classes", allowed, classes)
    if len(np.unique(chosen)) < chosen.size or chosen.min() < 0 or chosen.max() >= dataset.num_classes:
        checks.fail("classes", allowed, classes)
    relabel = np.full(dataset.num_classes, -1, np.int32)
    relabel[chosen] = np.arange(chosen.size)

    def subset(split, part):
        y = relabel[split.y]
        if not np.all(np.isin(np.arange(chosen.size), y)):
            raise ValueError(
                f"classes must each have examples, got {checks.shown(classes)} of which some have no {part} ones"
            )
        return Split(split.x[y >= 0], y[y >= 0])

    train, test = subset(dataset.train, "training"), subset(dataset.test, "test")
    return Dataset(dataset.name, train, test, int(chosen.size), dataset.input_shape)


def _labels(name, y):
    if y.ndim == 2 and y.shape[1] > 1:
        if not (np.all(np.isin(y, (0, 1))) and np.all(y.sum(axis=1) == 1)):
            raise ValueError(
                f"dataset {name} must have one-hot labels when they have two axes, got {y.dtype} {y.shape}"
            )
        y = y.argmax(axis=1)
    y = y.reshape(-1) if y.ndim == 2 else y
    if y.ndim != 1 or not (np.issubdtype(y.dtype, np.integer) or y.dtype == bool):
        raise ValueError(f"dataset {name} must have labels that are integers from 0, got {y.dtype} {y.shape}")
    if y.size and not (y.min() >= 0 and y.max() <= np.iinfo(np.int32).max):
        raise ValueError(
            f"dataset {name} must have labels that are integers from 0 to 2147483647, got {y.min()} to {y.max()}"
        )
    return y.astype(np.int32)


def _count_classes(name, y):
    present = np.unique(y)
    if len(present) < 2 or not np.array_equal(present, np.arange(len(present))):
        raise ValueError(
            f"dataset {name} must have training labels 0 to K-1, each present and K at least 2, "
            f"got {len(present)} different ones from {present[0]} to {present[-1]}"
        )
    return len(present)


def _scale(name, train, test):
    low, high = min(train.min(), test.min()), max(train.max(), test.max())
    kind = train.dtype if train.dtype == test.dtype else f"{train.dtype} and {test.dtype}"
    white = pixels.white(kind, high) if train.ndim > 2 else 1
    if low >= 0 and high <= white:
        return train.astype(np.float32) / white, test.astype(np.float32) / white
    if train.ndim > 2:
        raise ValueError(
            f"dataset {name} must hold images of bytes (uint8), or of numbers in [0, 1], "
            f"got {kind} from {low:g} to {high:g}"
        )
    low = train.min(axis=0).astype(np.float64)
    span = train.max(axis=0).astype(np.float64) - low
    span[span == 0] = 1
    return tuple(np.clip((part - low) / span, 0, 1).astype(np.float32) for part in (train, test))
