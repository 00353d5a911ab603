"""Datasets by name, and the places where each is looked for."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

from tfshape import calls, checks, files
from tfshape.datasets import cifar, embedded, idx, npz, tfds
from tfshape.datasets.arrays import select, to_dataset
from tfshape.datasets.base import Dataset
from tfshape.registry import FUNCTION, Registry

_EMBEDDED = {
    "fashion_mnist_mini": (embedded.fashion_mnist_mini, 10, (28, 28, 1)),
    "digits": (embedded.digits, 10, (8, 8, 1)),
}
_PUBLISHED = {  # name: (number of classes, shape of an example)
    "fashion_mnist": (10, (28, 28, 1)),
    "mnist": (10, (28, 28, 1)),
    "cifar10": (10, (32, 32, 3)),
    "cifar100": (100, (32, 32, 3)),
    "purchase100": (100, (600,)),
}
_DEBIAN = {"fashion_mnist": ("dataset-fashion-mnist", pathlib.Path("/usr/share/datasets/fashion-mnist"))}
REGISTRY = Registry("dataset", FUNCTION, dict.fromkeys((*_EMBEDDED, *_PUBLISHED), f"{__name__}:load"))
names, register = REGISTRY.names, REGISTRY.register


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    classes: Sequence[int] | None = None,
    download: bool = True,
) -> Dataset:
    """Loads a dataset.

    Args:
      name: one of
        - fashion_mnist_mini: 6,000 + 2,000 images drawn from Fashion-MNIST, in the package;
        - digits: the 8x8 digits of scikit-learn;
        - fashion_mnist, mnist, cifar10, cifar100: looked for in `data_dir`, then among the prepared tfds data, the
          folders of Debian's packages and Keras's cache, then downloaded by tfds;
        - purchase100 (Shokri et al. 2017, arXiv 1610.05820): looked for in `data_dir` and Keras's cache as
          purchase100.npz with features [N, 600] of 0 and 1 and labels [N] from 0 or from 1, or one-hot [N, 100];
        - tfds:NAME, with /CONFIG and :VERSION if need be: any image or tabular classification set of tfds;
        - npz:PATH: a file with x_train, y_train and, if there is one, x_test, y_test, or with features, labels;
        - NAME or NAME(option=value): what a function gives that `register`, or an entry point in the group
          "tfshape.datasets", has added: a `Dataset`, whose arrays are checked as those of files are.
      data_dir: a folder to look in first, with idx files (.gz or not), NAME.npz, CIFAR's own files or a tfds data
        directory; for each, in the folder itself or in a sub-folder of the dataset's name. tfds downloads into it.
        The first two names, npz:PATH and registered functions do not read it.
      classes: ints, the classes to keep, relabelled 0, 1, ... in this order; None keeps all.
      download: False: take what is on this machine and ask no other, as for a name out of a stranger's file; registered
        functions, which may do anything, are refused.

    Files are read without pickle, and none that would take more than 4 GiB when decompressed, or a quarter of this
    machine's memory if that is less; the environment variable TFSHAPE_MAX_FILE_BYTES sets another bound.

    Returns:
      A `Dataset`. Sets without a test part of their own (digits, purchase100, some of tfds and npz) hold out a fixed
      fifth of each class; see `arrays.hold_out`.

    Raises:
      ValueError: an unknown name, a `data_dir` that cannot be read, other classes, damaged files, or, within
        seconds, data that is nowhere: the message says where it was looked for and how to get it.
    """
    if data_dir is not None:
        data_dir = _readable(data_dir)
    kind, _, rest = str(name).partition(":")
    if name in _EMBEDDED:
        source, num_classes, shape = _EMBEDDED[name]
        dataset = to_dataset(name, source(), num_classes, shape)
    elif name in _PUBLISHED:
        arrays, _ = _find(name, name, data_dir, download)
        dataset = to_dataset(name, arrays, *_PUBLISHED[name])
    elif kind == "tfds" and rest:
        tfds.check(rest)
        dataset = to_dataset(name, *_find(name, rest, data_dir, download))
    elif kind == "npz" and rest:
        dataset = to_dataset(name, npz.read(rest))
    else:
        check_name(name)
        checks.require("dataset", download, "one that tfshape itself can read where nothing may be downloaded", name)
        dataset = _registered(name)
    return dataset if classes is None else select(dataset, classes)


def check_name(name: str) -> None:
    """Raises ValueError unless `name` is one that `load` may know; loads nothing."""
    if not is_own(name):
        word = checks.choice("dataset", str(name).partition("(")[0], [*names(), "tfds:NAME", "npz:PATH"])
        checks.require("dataset", not is_own(word), f"{word} without options", name)
        calls.parse("dataset", name)


def is_own(name: str) -> bool:
    """Whether `name` is one of a dataset that tfshape itself reads, and not a registered function."""
    kind, _, rest = str(name).partition(":")
    return name in _EMBEDDED or name in _PUBLISHED or bool(kind in ("tfds", "npz") and rest)


def _registered(name):
    """The `Dataset` of somebody else's function."""
    found = calls.build("dataset", name, REGISTRY)
    checks.require(f"what dataset {name} gives", isinstance(found, Dataset), "a Dataset", type(found).__name__)
    arrays = {"x_train": found.train.x, "y_train": found.train.y, "x_test": found.test.x, "y_test": found.test.y}
    return to_dataset(name, arrays, found.num_classes, tuple(found.input_shape))


def _readable(data_dir):
    try:
        path = pathlib.Path(data_dir).expanduser()
        checks.require("data_dir", os.fspath(data_dir), "the path of a folder", data_dir)
        os.scandir(path).close()
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # a file; NUL; no path; nobody's home folder
        why = getattr(error, "strerror", None) or files.reason(error)
        raise ValueError(f"data_dir must be a folder that can be read, got {checks.shown(data_dir)}: {why}") from None
    return path


def _find(name, reference, data_dir, download):
    """(arrays, number of classes or None) from the first place that has them, else ValueError with all the places."""
    has_files, has_tfds = name in _PUBLISHED, name != "purchase100"
    keras_cache = pathlib.Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets"
    debian_package, debian_folder = _DEBIAN.get(name, (None, None))
    places = []  # (what to call it, folder, whether to look for files, whether to look for prepared tfds data)
    if data_dir is not None:
        places.append(("files and tfds data", data_dir, has_files, has_tfds))
    if has_tfds:
        places.append(("prepared tfds data", tfds.default_dir(), False, True))
    if debian_package:
        places.append((f"Debian's {debian_package}", debian_folder, True, False))
    if has_files:
        places.append(("Keras's cache", keras_cache, True, False))
    for _, folder, published, prepared in places:
        found = _read_files(name, folder) if published else None
        if found is not None:
            return found, None
        prepared = tfds.find(reference, folder) if prepared else None
        if prepared is not None:
            return tfds.read(prepared)
    tried = [f"{what} in {folder}" for what, folder, _, _ in places]
    if has_tfds and not download:
        tried.append("no download")
    elif has_tfds:
        try:
            prepared = tfds.download(reference, data_dir or tfds.default_dir())
        except ValueError as error:
            tried.append(f"download by tfds ({error})")
        else:
            return tfds.read(prepared)
    raise ValueError(f"dataset {name} was not found; tried {'; '.join(tried)}. {_how_to_get(name, debian_package)}")


def _read_files(name, folder):
    """The arrays of a published set from files in a folder, or None."""
    for candidate in (folder, folder / name, folder / name.replace("_", "-")):
        found = None
        try:
            if name in ("mnist", "fashion_mnist"):
                found = idx.load(candidate)
            elif name in ("cifar10", "cifar100"):
                found = cifar.load(name, candidate)
            if found is None and (candidate / f"{name}.npz").is_file():
                found = npz.read(candidate / f"{name}.npz")
        except OSError as error:
            raise ValueError(f"{error.filename or candidate} cannot be read: {files.reason(error.strerror)}") from None
        if found is not None:
            return _from_zero(found) if name == "purchase100" else found
    return None


def _from_zero(arrays):
    """Purchase-100 as its authors publish it counts its classes from 1."""
    y = arrays["y_train"]
    counted_from_one = y.ndim == 1 and y.size and y.min() == 1 and y.max() == 100
    return {key: y - 1 if key == "y_train" else value for key, value in arrays.items()} if counted_from_one else arrays


def _how_to_get(name, debian_package):
    if name == "purchase100":
        return (
            "To get it: make purchase100.npz with features [N, 600] and labels [N] out of the data at "
            "https://github.com/privacytrustlab/datasets and name its folder with --data_dir"
        )
    ways = []
    if debian_package:
        ways.append(f"install Debian's package {debian_package}")
    if name in _PUBLISHED:
        ways.append(f"name a folder with its published files or {name}.npz with --data_dir")
    ways.append("run tfds build elsewhere and name a copy of that tfds data directory with --data_dir")
    return f"To get it: {', or '.join(ways)}, or try again with a network that reaches the download"
