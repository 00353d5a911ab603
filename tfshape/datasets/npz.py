"""NumPy archives, read without pickle."""

import pathlib
import zipfile
import zlib

import numpy as np

_SPLIT = ("x_train", "y_train", "x_test", "y_test")


def read(path):
    """The arrays of an npz file.

    Args:
      path: a file with x_train, y_train, x_test and y_test (as Keras caches MNIST), x_train and y_train alone, or
        features and labels (as Purchase-100 is passed around).

    Returns:
      {"x_train", "y_train"} and, if the file has them, {"x_test", "y_test"}.

    Raises:
      ValueError: no such file, a damaged one, other arrays, or arrays of Python objects.
    """
    path = pathlib.Path(path).expanduser()
    try:
        with np.load(path, allow_pickle=False) as file:
            for keys in (_SPLIT, _SPLIT[:2], ("features", "labels")):
                if set(keys) <= set(file.files):
                    return dict(zip(_SPLIT, (file[key] for key in keys)))
            found = ", ".join(file.files) or "nothing"
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} must be a readable npz file without Python objects: {error}") from error
    raise ValueError(f"{path} must hold x_train and y_train, or features and labels; it holds {found}")
