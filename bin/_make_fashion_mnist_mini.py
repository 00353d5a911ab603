"""Makes the embedded data set fashion_mnist_mini.npz out of the real Fashion-MNIST.

    PYTHONPATH=. python bin/_make_fashion_mnist_mini.py --data_dir=/usr/share/datasets/fashion-mnist

`--data_dir` holds the four published idx files, compressed or not (https://github.com/zalandoresearch/fashion-mnist, or
the Debian package dataset-fashion-mnist). 600 training images a class come from the real training part and 200 test
images a class from the real test part, drawn without replacement at seed 2002 and kept in their original order. The
arrays train_index and test_index say which images they are. The same input gives the same file, byte for byte, under
one version of zlib, and the same arrays under all.
"""

import argparse
import io
import pathlib
import zipfile

import numpy as np

from tfshape.datasets import idx

SEED = 2002
NUM_CLASSES = 10
PER_CLASS = {"train": 600, "test": 200}
OUTPUT = pathlib.Path(idx.__file__).with_name("fashion_mnist_mini.npz")


def draw(labels, per_class, generator):
    """Draws `per_class` positions of each class. Returns them sorted, int32 [NUM_CLASSES * per_class]."""
    chosen = []
    for label in range(NUM_CLASSES):
        positions = np.flatnonzero(labels == label)
        if len(positions) < per_class:
            raise ValueError(f"class {label} has {len(positions)} examples, {per_class} are needed")
        chosen.append(generator.permutation(positions)[:per_class])
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def make(data_dir):
    """The arrays of the mini set: x_*, y_* uint8 and *_index int32, for train and test."""
    source = idx.load(data_dir)
    if source is None:
        raise ValueError(f"data_dir must hold the four idx files of Fashion-MNIST, got {str(data_dir)!r}")
    generator = np.random.RandomState(SEED)  # the one NumPy generator whose stream is frozen
    arrays = {}
    for part, per_class in PER_CLASS.items():
        index = draw(source[f"y_{part}"], per_class, generator)
        arrays[f"x_{part}"] = source[f"x_{part}"][index]
        arrays[f"y_{part}"] = source[f"y_{part}"][index]
        arrays[f"{part}_index"] = index
    return arrays


def write(path, arrays):
    """Writes an npz whose bytes do not depend on the time, which `np.savez_compressed` would put in."""
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Makes the embedded data set out of the real Fashion-MNIST.")
    parser.add_argument("--data_dir", required=True, help="folder with the four idx files")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="npz to write (default: %(default)s)")
    flags = parser.parse_args(argv)
    try:
        write(flags.output, make(flags.data_dir))
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
