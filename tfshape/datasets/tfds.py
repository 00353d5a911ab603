"""Image and tabular classification sets of tensorflow-datasets (tfds), prepared on disk or downloaded."""

import http.client
import math
import os
import pathlib
import re
import threading
import urllib.request
from unittest import mock

import numpy as np

from tfshape import checks, files

TIMEOUT = 3.0  # seconds for the first answer of a download host; tfds itself would retry for minutes

_REFERENCE = re.compile(r"(\w+)(/[\w.+-]+)?(:\d+\.\d+\.\d+)?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def default_dir():
    """Where tfds keeps prepared data: TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def check(reference):
    """Raises ValueError unless `reference` reads name, name/config, name:1.2.3 or name/config:1.2.3."""
    checks.require("tfds dataset", _REFERENCE.fullmatch(reference), "NAME[/CONFIG][:VERSION]", reference)


def find(reference, folder):
    """Looks for data that tfds has prepared.

    Args:
      reference: see `check`.
      folder: a tfds data directory, which holds NAME/[CONFIG/]VERSION.

    Returns:
      The path of the newest version, or None.

    Raises:
      ValueError: several configurations are there and `reference` names none.
    """
    path, _, version = reference.partition(":")
    base = pathlib.Path(folder, path)
    found = [
        info.parent
        for depth in ("*", "*/*")
        for info in base.glob(f"{depth}/dataset_info.json")
        if _VERSION.fullmatch(info.parent.name) and version in ("", info.parent.name)
    ]
    configs = sorted({path.parent.name for path in found})
    if len(configs) > 1:
        raise ValueError(f"tfds:{reference} must name one of its configurations in {base}: {', '.join(configs)}")
    return max(found, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def read(folder):
    """Reads prepared data.

    The label is the second of the set's supervised keys, or its only class label. The inputs are the first of the
    supervised keys, or everything else. One image (of fixed size) or one tensor of numbers is taken as it is; of many
    columns those of numbers (classes count by their number) are put side by side in the alphabetical order of their
    names, and text is left out. The test part is the split test, or validation; without either it is held out.

    Args:
      folder: NAME/[CONFIG/]VERSION in a tfds data directory.

    Returns:
      (arrays as `arrays.to_dataset` takes them, the number of classes or None).

    Raises:
      ValueError: not a classification set of images or numbers, damaged files, or more than `files.limit` bytes.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(str(folder))
        inputs, label = columns(builder.info)
        splits = [split for split in ("train", "test", "validation") if split in builder.info.splits][:2]
        if "train" not in splits:
            raise ValueError(f"its splits are {', '.join(builder.info.splits)}, and train is needed")
        features, examples = builder.info.features, sum(builder.info.splits[split].num_examples for split in splits)
        row = sum(np.dtype(features[name].np_dtype).itemsize * math.prod(features[name].shape) for name in inputs)
        files.check_size(folder, row * examples)
        arrays = {}
        for part, split in zip(("train", "test"), splits):
            wanted = tfds.decode.PartialDecoding({name: True for name in (*inputs, label)})
            examples = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, decoders=wanted))
            arrays[f"y_{part}"] = examples[label]
            if len(inputs) == 1 and examples[inputs[0]].ndim > 1:
                arrays[f"x_{part}"] = examples[inputs[0]]
            else:
                flat = [examples[name].reshape(len(examples[label]), -1).astype(np.float64) for name in inputs]
                arrays[f"x_{part}"] = np.concatenate(flat, axis=1)
    except (LookupError, OSError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"tfds data in {folder} cannot be used: {files.reason(error)}") from error
    return arrays, getattr(builder.info.features[label], "num_classes", None)


def columns(info):
    """The names of the input features (list) and of the label of a `tfds.core.DatasetInfo`, chosen as `read` says."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    if not isinstance(info.features, tfds.features.FeaturesDict):
        raise ValueError("its examples have no named features")
    features = dict(info.features.items())
    if info.supervised_keys and len(info.supervised_keys) == 2:
        names, label = tf.nest.flatten(info.supervised_keys[0]), info.supervised_keys[1]
    else:
        labels = [name for name, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
        if len(labels) != 1:
            raise ValueError(f"it must have supervised keys or one class label, and has {len(labels)} class labels")
        label = labels[0]
        names = [name for name in features if name != label]
    if not isinstance(label, str) or features[label].shape or _kind(features[label]) not in ("b", "i", "u"):
        raise ValueError(f"its label {label!r} is not one integer")
    images = [name for name in names if isinstance(features[name], tfds.features.Image)]
    inputs = images or sorted(name for name in names if _kind(features[name]) in ("b", "i", "u", "f"))
    if len(images) > 1 or not inputs:
        raise ValueError(f"it must have one image or columns of numbers, and has {', '.join(features)}")
    if any(None in features[name].shape for name in inputs):
        raise ValueError(f"its {', '.join(inputs)} must have one fixed size, and has {features[inputs[0]].shape}")
    return inputs, label


def _kind(feature):
    """NumPy's letter for the type of a tensor feature, "b", "i", "u" or "f" for numbers; "" for other features."""
    import tensorflow_datasets as tfds

    return np.dtype(feature.np_dtype).kind if isinstance(feature, tfds.features.Tensor) else ""


def download(reference, folder):
    """Downloads and prepares a set by tfds, after a short look whether its host answers at all.

    Args:
      reference: see `check`.
      folder: the tfds data directory to put it in.

    Returns:
      The folder of the prepared version.

    Raises:
      ValueError: tfds does not know it, its host does not answer within `TIMEOUT` seconds, it is not a classification
        set, or the download fails.
    """
    import tensorflow_datasets as tfds

    name = re.split("[/:]", reference)[0]
    try:
        known = tfds.builder_cls(name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"tfds cannot give {name}: {files.reason(error)}") from error
    address = next((url for url in known.url_infos or () if url.startswith("http")), None)
    trouble = address and no_answer(address)
    if trouble:
        raise ValueError(f"no download from {address}: {trouble}")
    # Up to 4.9.6 a new builder asks a Google bucket for facts that it can do without, and where a network keeps it from
    # that, it tries again for minutes.
    no_bucket = mock.patch.object(tfds.core.DatasetInfo, "initialize_from_bucket", lambda self: None)
    try:
        with no_bucket:
            builder = tfds.builder(reference, data_dir=str(folder))
        columns(builder.info)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # tfds lets through whatever its downloader, its parsers and the disk raise
        raise ValueError(f"tfds could not prepare {reference} in {folder}: {files.reason(error)}") from error
    return pathlib.Path(builder.data_dir)


def no_answer(address):
    """Why an address gives no good answer within `TIMEOUT` seconds, or an empty string if it does."""
    outcome = []

    def ask():
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT):
                outcome.append("")
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome.append(files.reason(error))

    # In a thread, for looking up a host name has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return outcome[0] if outcome else f"no answer in {TIMEOUT:g} s"
