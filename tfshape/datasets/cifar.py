"""CIFAR-10 and CIFAR-100 in the layouts of their authors (https://www.cs.toronto.edu/~kriz/cifar.html)."""

import io
import pathlib
import pickletools

import numpy as np

from tfshape import files

_ROW = 3 * 32 * 32
_OPCODES = 1_000_000  # of a pickle; the largest of the authors has some 200,000
# Label bytes before each binary row, and the key of the labels in the python version. CIFAR-100 puts a coarse label
# first; the fine one is the class.
_LABEL_BYTES = {"cifar10": 1, "cifar100": 2}
_LABEL_KEY = {"cifar10": "labels", "cifar100": "fine_labels"}
_PARTS = {
    "cifar10": {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
    "cifar100": {"train": ["train"], "test": ["test"]},
}
_FOLDERS = {
    "cifar10": ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-10-batches-py-target/cifar-10-batches-py"),
    "cifar100": ("cifar-100-binary", "cifar-100-python", "cifar-100-python-target/cifar-100-python"),
}


def load(name, folder):
    """The arrays x_train, y_train, x_test, y_test (uint8) of cifar10 or cifar100, or None if the files are not there.

    Looks in `folder` and in the sub-folders that the authors' archives, unpacked by hand or by Keras, make in it.
    Raises ValueError if a file is damaged or larger than `files.limit`.
    """
    for candidate in ("", *_FOLDERS[name]):
        for suffix, read in ((".bin", read_binary), ("", read_python)):
            files = {
                part: [pathlib.Path(folder, candidate, stem + suffix) for stem in stems]
                for part, stems in _PARTS[name].items()
            }
            if all(path.is_file() for paths in files.values() for path in paths):
                arrays = {}
                for part, paths in files.items():
                    pairs = [read(path, name) for path in paths]
                    arrays[f"x_{part}"] = np.concatenate([x for x, _ in pairs])
                    arrays[f"y_{part}"] = np.concatenate([y for _, y in pairs])
                return arrays
    return None


def read_binary(path, name):
    """Images [N, 32, 32, 3] and labels [N], uint8, of one file of the binary version."""
    skip = _LABEL_BYTES[name]
    data = np.frombuffer(files.read_bytes(path), np.uint8)
    if not data.size or data.size % (skip + _ROW):
        raise ValueError(f"{path} is not a whole file of the binary version of {name}")
    rows = data.reshape(-1, skip + _ROW)
    return _images(rows[:, skip:]), rows[:, skip - 1]


def read_python(path, name):
    """Images [N, 32, 32, 3] and labels [N], uint8, of one file of the python version, which is a pickle.

    Unpickling a file can run any program in it. This only lists its opcodes, runs none, and takes the two constants
    that it needs: the one long string, which is the pixels, and the integers that follow the key of the labels.
    """
    wrong = f"{path} is not a whole file of the python version of {name}"
    pixels, in_labels = b"", False
    labels: list[int] = []
    stream = io.BytesIO(files.read_bytes(path))  # of which a constant gets what is there, not what it asks for
    try:
        for count, (opcode, value, _) in enumerate(pickletools.genops(stream)):
            if count == _OPCODES:
                raise ValueError(f"it has more than {_OPCODES} opcodes")
            if isinstance(value, (str, bytes)):
                text = value.encode("latin-1") if isinstance(value, str) else value
                in_labels = text == _LABEL_KEY[name].encode()
                pixels = max(pixels, text, key=len)
            elif in_labels and isinstance(value, int) and opcode.name in ("BININT", "BININT1", "BININT2", "INT"):
                labels.append(value)
    except Exception as error:  # pickletools raises several kinds on hostile bytes
        raise ValueError(f"{wrong}: {files.reason(error)}") from None
    if not labels or len(pixels) != len(labels) * _ROW or min(labels) < 0 or max(labels) > 255:
        raise ValueError(wrong)
    return _images(np.frombuffer(pixels, np.uint8).reshape(-1, _ROW)), np.array(labels, np.uint8)


def _images(rows):
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
