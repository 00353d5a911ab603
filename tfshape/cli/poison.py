"""Writes a poisoned copy of a dataset that any framework can read, and which of its examples are poison.

  bin/poison --transform='flip_labels(rate=0.1)' --output=flipped.tfrecord
  bin/poison --transform='stamp("patch(size=3)", rate=0.05, target_class=7)' --output=trojan.npz
  bin/poison --split=test --transform='stamp_test("patch(size=3)", target_class=7)' --output=triggered.npz
  bin/poison --dataset=cifar10 --transform='replace("poisons.npz")' --output=crafted.tfrecord

Transforms: flip_labels, stamp, stamp_test, insert, replace, perturb; triggers: patch, blend, sinusoid, warp; arguments
as in tfshape.poison, files (poisons, deltas, patterns) by path. Repeat --transform to apply several, in order.

An .npz holds x, y and is_poison. A .tfrecord holds one tf.train.Example an example: x, its raw little-endian bytes in
row-major order, y and is_poison, int64. Beside either stands OUTPUT.json: the indices of the poison in the output,
the shape and dtype of x, and how all of it was made.
"""

import os
import pathlib

from absl import flags

from tfshape import atomic, calls, checks, files, folders, strict_json
from tfshape.cli import common

FLAGS = flags.FLAGS
SCHEMA = 1
TRANSFORMS = ("flip_labels", "stamp", "stamp_test", "insert", "replace", "perturb")

common.define_import()
flags.DEFINE_string("dataset", "fashion_mnist_mini", "dataset: a name, tfds:<name> or npz:<path>")
flags.DEFINE_string("data_dir", None, "folder that holds the dataset (idx.gz, npz or tfds layout)")
flags.DEFINE_list("classes", None, "keep and relabel only these classes: 3,4")
flags.DEFINE_enum("split", "train", ["train", "test"], "which part of the dataset")
flags.DEFINE_multi_string("transform", [], "a call such as 'flip_labels(rate=0.1)'; may be repeated")
flags.DEFINE_string("output", None, "file to write, .tfrecord or .npz")


def main():
    """Loads, poisons and writes what the flags say."""
    allowed = "given at least once, such as --transform='flip_labels(rate=0.1)'"
    checks.require("transform", FLAGS.transform, allowed, FLAGS.transform)
    good = FLAGS.output is not None and FLAGS.output.endswith((".npz", ".tfrecord"))
    checks.require("output", good, "the name of a file that ends in .npz or .tfrecord", FLAGS.output)
    for text in FLAGS.transform:
        checks.choice("transform", calls.parse("transform", text)[0], TRANSFORMS)
    common.check_data()
    common.classes()
    common.check_writable_file("output", FLAGS.output)

    import tensorflow as tf

    from tfshape import datasets, poison
    from tfshape.provenance import provenance

    data = datasets.load(FLAGS.dataset, FLAGS.data_dir, common.classes())
    choices = _transforms(data.num_classes)
    pipeline = poison.Pipeline([calls.build("transform", text, choices) for text in FLAGS.transform])
    poisoned = getattr(data, FLAGS.split).as_dataset().apply(pipeline)
    try:
        with common.progress() as progress:
            x, y, is_poison = _collect(poisoned, progress)
    except tf.errors.InvalidArgumentError as error:  # what only the examples themselves show
        raise ValueError(f"transform={checks.shown(FLAGS.transform)}: {error.message.splitlines()[0]}") from None
    allowed = f"0 to {data.num_classes - 1}"
    checks.require("labels after --transform", y.max() < data.num_classes, allowed, y.max())
    about = {
        "schema": SCHEMA,
        "dataset": FLAGS.dataset,
        "classes": common.classes(),
        "split": FLAGS.split,
        "transforms": pipeline.record,
        **provenance(),
        "num_classes": data.num_classes,
        "num_examples": len(y),
        "x": {"shape": list(x.shape[1:]), "dtype": str(x.dtype)},
        "poison_indices": is_poison.nonzero()[0].tolist(),
    }
    os.makedirs(os.path.dirname(FLAGS.output) or ".", exist_ok=True)
    lock = os.path.join(os.path.dirname(FLAGS.output), f".{os.path.basename(FLAGS.output)}.lock")
    alone = folders.alone(lock, "output", FLAGS.output)  # two files, of one run
    with alone, atomic.replacing(FLAGS.output) as file, atomic.replacing(f"{FLAGS.output}.json") as beside:
        _save(file, x, y, is_poison)
        pathlib.Path(beside).write_text(strict_json.dumps(about), "utf-8")
    name = checks.escaped(FLAGS.output)
    common.say(f"{name}: {len(y)} examples; {is_poison.sum()} are poison, listed in {name}.json")


def _transforms(num_classes):
    """The transforms by name, as a flag can write them: files by path, triggers as calls, marks always on."""
    from tfshape import poison

    triggers = {"patch": poison.patch, "sinusoid": poison.sinusoid, "warp": poison.warp}

    def blend(pattern="noise", **options):
        return poison.blend(pattern if pattern == "noise" else _array("pattern", pattern), **options)

    def target(value):
        return checks.integer("target_class", value, 0, num_classes - 1)

    def read(text):
        return calls.build("trigger", str(text), {**triggers, "blend": blend})

    def flip_labels(rate, num_classes=num_classes, **options):
        return poison.flip_labels(rate, num_classes, mark=True, **options)

    def stamp(trigger, rate, target_class, **options):
        return poison.stamp(read(trigger), rate, target(target_class), mark=True, **options)

    def stamp_test(trigger, target_class, **options):
        return poison.stamp_test(read(trigger), target(target_class), mark=True, **options)

    def insert(poisons):
        return poison.insert(poison.Poisons.load(poisons), mark=True)

    def replace(poisons):
        return poison.replace(poison.Poisons.load(poisons), mark=True)

    def perturb(deltas, **options):
        return poison.perturb(_array("deltas", deltas), mark=True, **options)

    functions = flip_labels, stamp, stamp_test, insert, replace, perturb
    for name, function in zip(TRANSFORMS, functions):
        function.__qualname__ = name  # what a message about its arguments says
    return dict(zip(TRANSFORMS, functions))


def _array(argument, path):
    """An .npy file of numbers: mapped, not read, so that a header cannot claim more than the file has."""
    import numpy as np

    try:
        with files.open_regular(path):
            return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy raises several kinds on hostile bytes
        why = getattr(error, "strerror", None) or files.reason(error)
        raise ValueError(f"{argument} must be an .npy file of numbers, got {checks.shown(path)}: {why}") from None


def _collect(dataset, progress):
    """All elements of a dataset of (x, y, is_poison), stacked."""
    import numpy as np

    total, parts, count = int(dataset.cardinality()), [], 0
    for part in dataset.batch(256).as_numpy_iterator():
        parts.append(part)
        count += len(part[1])
        progress(count, max(total, count), "poisoning")
    if not parts:
        checks.fail("transform", "one that leaves examples", FLAGS.transform)
    return [np.concatenate(part) for part in zip(*parts)]


def _save(path, x, y, is_poison):
    import numpy as np
    import tensorflow as tf

    if FLAGS.output.endswith(".npz"):
        with open(path, "wb") as file:
            np.savez(file, x=x, y=y, is_poison=is_poison)
        return
    little = x.astype(x.dtype.newbyteorder("<"), copy=False)
    with tf.io.TFRecordWriter(path) as writer:
        for image, label, mark in zip(little, y, is_poison):
            features = {
                "x": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
                "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)])),
                "is_poison": tf.train.Feature(int64_list=tf.train.Int64List(value=[int(mark)])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def run():
    """Entry point of `bin/poison` and `tfshape-poison`."""
    common.run(main)
