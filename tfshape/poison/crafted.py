"""Putting crafted poison into a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfshape import pixels
from tfshape.poison.elements import in_order, map_rows, plain
from tfshape.poison.place import cardinality, check_size, keep_order, shard_size
from tfshape.poison.poisons import Poisons
from tfshape.poison.transform import Transform
from tfshape.poison.values import lift


def insert(poisons: Poisons, **element: Any) -> Transform:
    """Appends every crafted example, with its label, to the end of the dataset, whatever its `base` says.

    A sample weight is 1. Dicts may hold nothing but the image, the label and the mark.

    Args:
      poisons: `Poisons` of the dtype and shape of the dataset's features (`poisons.astype` converts).
      **element: `mark`, `image_key`, `label_key`, `num_parallel_calls`, as in `Transform`.

    Returns: a `Transform`.
    Raises:
      ValueError: when applied, if the dataset is infinite, or its elements cannot hold the poison.
    """
    return _Insert(poisons, **element)


class _Insert(Transform):
    def __init__(self, poisons, **element):
        super().__init__("insert", _config("insert", poisons), None, **element)
        self._poisons = poisons

    def apply_at(self, dataset, whole, place):
        layout = self.layout(whole)
        x, y = _tables(layout, self._poisons)
        size = cardinality(dataset)
        endless = isinstance(size, int) and size == tf.data.INFINITE_CARDINALITY
        if endless or any(step[0] == "repeat" for step in place.steps):
            raise ValueError("insert: nothing can follow a dataset that repeats; apply it before .repeat")
        others = layout.others()
        if others and layout.is_dict:
            raise ValueError(f"insert: poison has no value for {others}; keep only the image and the label")

        def craft(number):
            crafted = {layout.x_at: tf.gather(x, number), layout.y_at: layout.label_as(tf.gather(y, number))}
            crafted.update({at: tf.ones([1, *layout.spec[at].shape], layout.spec[at].dtype) for at in others})
            if layout.mark_at is not None:
                crafted[layout.mark_at] = tf.constant([True])
            return as_marked(crafted if layout.is_dict else tuple(crafted[at] for at in sorted(crafted)), True)

        def as_marked(elements, poisoned):
            x, y = elements[layout.x_at], elements[layout.y_at]
            return layout.rebuild(elements, x, y, tf.fill(tf.shape(x)[:1], poisoned), self.mark)

        numbers = _numbers(len(self._poisons), cardinality(whole), place)
        tail = in_order(numbers, plain(lambda number: craft(number[None])), self.num_parallel_calls).unbatch()
        if self.mark and layout.mark_at is None:
            dataset = map_rows(dataset, lambda _, elements: as_marked(elements, False), self.num_parallel_calls)
        return keep_order(dataset).concatenate(tail)


def _numbers(count, size, place):
    """Which poisons belong here: poison k is element size + k of the whole, and a shard holds some of those."""
    numbers = np.arange(count, dtype=np.int64)
    if place.steps and not (isinstance(size, int) and size >= 0):
        raise ValueError("insert: whole in on(whole).shard(...) must have a finite, known cardinality, got another")
    for _, num_shards, index in place.steps:
        numbers = numbers[(index - size) % num_shards :: num_shards]
        size = shard_size(size, num_shards, index)
    return tf.data.Dataset.from_tensor_slices(numbers)


def replace(poisons: Poisons, **element: Any) -> Transform:
    """Swaps base examples for those crafted from them, by index; labels become the poisons' labels.

    Args:
      poisons: `Poisons` whose `base` are distinct and >= 0. The dataset has `poisons.num_examples` examples, in the
        order that `base` refers to; their dtype and shape are the poisons' (`poisons.astype` converts).
      **element: `mark`, `image_key`, `label_key`, `num_parallel_calls`, as in `Transform`.

    Returns: a `Transform`.
    Raises:
      ValueError: bases missing or repeated; when applied, a dataset of another size, or elements that cannot hold it.
    """
    config, base = _config("replace", poisons), poisons.base
    if (base < 0).any():
        count = np.count_nonzero(base < 0)
        raise ValueError(f"replace: each poison must have a base example, got {count} poisons with base -1")
    if len(np.unique(base)) != len(base):
        raise ValueError("replace: base examples must be distinct, got several poisons that share one")
    slots = np.full(poisons.num_examples, -1, np.int64)
    slots[base] = np.arange(len(base))

    def plan(layout, whole):
        x, y = _tables(layout, poisons)
        check_size("replace", whole, poisons.num_examples)
        table = lift(slots)

        def edit(index, _, old):
            slot = tf.gather(table, index)
            with tf.control_dependencies([layout.class_of(old)]):
                return tf.gather(x, slot), layout.label_as(tf.gather(y, slot))

        return lambda index, _: tf.gather(table, index) >= 0, edit

    return Transform("replace", config, plan, **element)


def _config(who, poisons):
    if not isinstance(poisons, Poisons):
        raise ValueError(f"{who}: poisons must be a tfshape.poison.Poisons, got {type(poisons).__name__}")
    return {
        "attack": poisons.attack,
        "num_poisons": len(poisons),
        "seed": poisons.seed,
        "attack_config": poisons.config,
    }


def _tables(layout, poisons):
    """The poisons as tensors that fit the dataset's elements."""
    spec, who = layout.x_spec, layout.who
    if not spec.shape.is_compatible_with(poisons.x.shape[1:]):
        raise ValueError(f"{who}: the poisons must have shape {spec.shape}, got {list(poisons.x.shape[1:])}")
    if spec.dtype != tf.uint8 if poisons.x.dtype == np.uint8 else not spec.dtype.is_floating:
        raise ValueError(
            f"{who}: the poisons and the dataset must be both uint8 or both float, got {poisons.x.dtype} and "
            f"{spec.dtype.name}; poisons.astype converts between [0, 1] and [0, 255]"
        )
    largest = layout.largest()
    if largest is not None and spec.shape.rank > 1 and len(poisons):
        whites = [pixels.white(spec.dtype, value) for value in (largest, poisons.x.max(initial=0))]
        if whites == [1, 255]:
            raise ValueError(
                f"{who}: the poisons must hold only 0 and 1 as the dataset's images do, got {poisons.x.max()}; "
                "convert the dataset to [0, 255] or [0, 1]"
            )
    for label in np.unique(poisons.y):
        layout.check_label("poisons.y", int(label))
    return tf.cast(lift(poisons.x), spec.dtype), lift(poisons.y.astype(np.int64))
