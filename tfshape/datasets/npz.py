"""NumPy archives, read without pickle."""

import os
import pathlib

from tfshape import files

_SPLIT = ("x_train", "y_train", "x_test", "y_test")


def read(path):
    """The arrays of an npz file.

    Args:
      path: a file with x_train, y_train, x_test and y_test (as Keras caches MNIST), x_train and y_train alone, or
        features and labels (as Purchase-100 is passed around); compressed or not, of at most `files.limit` bytes when
        decompressed.

    Returns:
      {"x_train", "y_train"} and, if the file has them, {"x_test", "y_test"}.

    Raises:
      ValueError: no such file, a damaged one, other arrays, larger ones, or arrays of Python objects.
    """
    path = pathlib.Path(path).expanduser()
    try:
        with files.open_regular(path) as file:
            arrays = files.read_arrays(file, lambda found: [f"{key}.npy" for key in _keys(path, found)])
    except LookupError as error:
        raise ValueError(error.args[0]) from None
    except Exception as error:  # zipfile and NumPy raise a dozen kinds on hostile bytes
        why = (isinstance(error, OSError) and error.strerror) or files.reason(error)
        raise ValueError(f"{path} must be a readable npz file without Python objects: {why}") from None
    return dict(zip(_SPLIT, (arrays[key] for key in _keys(path, [f"{key}.npy" for key in arrays]))))


def _keys(path, found):
    names = [os.path.splitext(name)[0] for name in found]
    for keys in (_SPLIT, _SPLIT[:2], ("features", "labels")):
        if set(keys) <= set(names):
            return keys
    held = files.reason(", ".join(names)) if names else "nothing"
    raise LookupError(f"{path} must hold x_train and y_train, or features and labels; it holds {held}")
