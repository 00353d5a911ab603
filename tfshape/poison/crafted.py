"""Putting crafted poison into a dataset."""

import numpy as np
import tensorflow as tf

from tfshape.poison.poisons import Poisons
from tfshape.poison.transform import Transform, cardinality, keep_order


def insert(poisons, **element):
    """Appends every crafted example, with its label, to the end of the dataset (whatever its `base` says).

    Args:
      poisons: `Poisons`, of the dtype and shape of the dataset's features; `poisons.astype` converts.
      **element: `mark`, `image_key`, `label_key`, `num_parallel_calls`, as in `Transform`.

    A sample weight is 1. Dicts may hold nothing but the image, the label and the mark.

    Returns: a `Transform`.
    Raises:
      ValueError: when applied, if the dataset is infinite, or its elements cannot hold the poison.
    """
    return _Insert("insert", _config(poisons), None, **element)._with(poisons)


class _Insert(Transform):
    def _with(self, poisons):
        self._poisons = poisons
        return self

    def apply_at(self, dataset, whole, place):
        layout, poisons = self.layout(whole), self._poisons
        x, y = _tables(layout, poisons)
        if any(kind == "repeat" for kind, *_ in place.steps) or cardinality(dataset) == tf.data.INFINITE_CARDINALITY:
            raise ValueError("insert: nothing comes after the end of a repeated dataset; apply it before .repeat")
        rest = layout.others()
        extra = [part for part in rest if part != 2] if not layout.is_dict else rest
        if extra:
            raise ValueError(f"insert: poison has no value for {extra}; keep only the image and the label")

        def clean(*parts):
            parts = parts[0] if layout.is_dict else parts
            return layout.rebuild(parts, parts[layout.x_at], parts[layout.y_at], tf.constant(False), self.mark)

        def crafted(number):
            parts = {layout.x_at: x[number], layout.y_at: layout.label_as(y[number])}
            if layout.mark_at is not None:
                parts[layout.mark_at] = tf.constant(True)
            for part in rest:
                parts[part] = tf.ones(layout.spec[part].shape, layout.spec[part].dtype)
            parts = parts if layout.is_dict else tuple(parts[at] for at in range(len(parts)))
            return layout.rebuild(parts, parts[layout.x_at], parts[layout.y_at], tf.constant(True), self.mark)

        numbers = tf.data.Dataset.range(len(poisons))
        if place.steps:
            numbers = _numbers_of_place(numbers, cardinality(whole), place)
        tail = numbers.map(crafted, self.num_parallel_calls, deterministic=True)
        if self.mark and layout.mark_at is None:
            dataset = dataset.map(clean, self.num_parallel_calls, deterministic=True)
        return keep_order(dataset).concatenate(tail)


def _numbers_of_place(numbers, size, place):
    """The poisons that whole.apply(insert).shard(...) would hold: poison k is its element number size + k."""
    if isinstance(size, int) and size < 0:
        raise ValueError("insert: the cardinality of `whole` must be finite and known")
    for _, num_shards, index in place.steps:
        offset, size = size, (size - index + num_shards - 1) // num_shards
        numbers = numbers.enumerate().filter(lambda j, _, o=offset, n=num_shards, i=index: (o + j) % n == i)
        numbers = numbers.map(lambda _, number: number)
    return numbers


def replace(poisons, **element):
    """Swaps base examples for the ones crafted from them, by index; labels become the poisons' labels.

    Args:
      poisons: `Poisons` whose `base` are distinct and >= 0; the dataset has `poisons.num_examples` examples, in the
        order that `base` refers to.
      **element: `mark`, `image_key`, `label_key`, `num_parallel_calls`, as in `Transform`.

    Returns: a `Transform`.
    Raises:
      ValueError: bases missing or repeated; when applied, a dataset of another size, or elements that cannot hold it.
    """
    config = _config(poisons)
    base = poisons.base
    if (base < 0).any():
        raise ValueError(f"replace: {int((base < 0).sum())} poisons have no base example (-1); use insert for those")
    if len(np.unique(base)) != len(base):
        raise ValueError("replace: several poisons share a base example, expected distinct ones")
    slots = np.full(poisons.num_examples, -1, np.int64)
    slots[base] = np.arange(len(base))

    def plan(layout, whole):
        x, y = _tables(layout, poisons)
        size = cardinality(whole)
        if isinstance(size, int) and size not in (poisons.num_examples, tf.data.UNKNOWN_CARDINALITY):
            raise ValueError(
                f"replace: the dataset has {'endless' if size < 0 else size} examples, the poisons' base examples are "
                f"numbered in a set of {poisons.num_examples}; apply it to that set, before .repeat or .shard"
            )
        with tf.init_scope():
            table = tf.constant(slots)
        return (
            lambda index, _: table[index] >= 0,
            lambda index, *_: (x[table[index]], layout.label_as(y[table[index]])),
        )

    return Transform("replace", config, plan, **element)


def _config(poisons):
    if not isinstance(poisons, Poisons):
        raise ValueError(f"poisons={type(poisons).__name__}, expected a tfshape.poison.Poisons")
    return {"attack": poisons.attack, "num_poisons": len(poisons), "seed": poisons.seed, **poisons.config}


def _tables(layout, poisons):
    """The poisons as tensors that fit the dataset's elements."""
    spec, who = layout.x_spec, layout.who
    if not spec.shape.is_compatible_with(poisons.x.shape[1:]):
        raise ValueError(f"{who}: poisons have shape {list(poisons.x.shape[1:])}, the dataset's elements {spec.shape}")
    if spec.dtype.is_floating != (poisons.x.dtype == np.float32) or spec.dtype not in (
        tf.uint8,
        tf.float16,
        tf.bfloat16,
        tf.float32,
        tf.float64,
    ):
        raise ValueError(
            f"{who}: poisons are {poisons.x.dtype}, the dataset's elements {spec.dtype.name}; "
            "convert the poisons with poisons.astype('uint8' or 'float32') or the dataset"
        )
    for label in np.unique(poisons.y):
        layout.check_label("poisons.y", int(label))
    with tf.init_scope():
        return tf.cast(tf.constant(poisons.x), spec.dtype), tf.constant(poisons.y, tf.int64)
