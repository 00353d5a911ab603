"""What every transform shares: plan on the whole dataset, then edit the chosen elements, a chunk at a time."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfshape import checks
from tfshape.poison import selection
from tfshape.poison.elements import CHUNK_ROWS, STEADY, Layout, map_rows
from tfshape.poison.place import Place, cardinality, keep_order

# poisoned dataset -> the dataset it was made from, for `preview`
ORIGINS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Transform:
    """A function for `dataset.apply(...)`, with a `name` and a `config` for reports.

    Elements are numbered in the order they come in. Which of them are poisoned depends on that number and the seed
    only: not on `num_parallel_calls`, prefetching, the epoch, or what is done to the dataset afterwards. Apply it
    before `.shuffle`, `.repeat`, `.shard` and `.batch`; if the dataset must be sharded or repeated first, say so with
    `on`, and the same elements are poisoned. Shapes and dtypes of the elements stay as they are.

    In a dataset that is shuffled anew each time it is read, the same numbers would be other examples in each epoch. So
    transforms that go by numbers read the first 32 elements four times when they are applied, and refuse a dataset that
    does not give the same ones. In every epoch these 32 are compared again, so that a dataset whose order changes later
    or seldom, such as that of two files, fails there. What neither sees is an order that changes only behind them.

    On a dataset of known cardinality n exactly round(rate * n) elements are poisoned, drawn among the eligible; this
    takes one pass over the dataset's labels if eligibility depends on them. On an unknown or infinite one, each
    eligible element is, with probability `rate`. Different kinds of transform choose independently; give several of one
    kind different seeds, or they choose alike.

    Args, taken by every transform of this package:
      mark: append a scalar bool `is_poison` to tuples (a key of that name to dicts). An element that already has the
        mark keeps it, whatever `mark` is. Keras takes the third part of a tuple for a sample weight, so drop the mark
        before training, `.map(lambda x, y, is_poison: (x, y))`.
      image_key, label_key: where the features and the label stand in elements that are dicts.
      num_parallel_calls: as in `tf.data.Dataset.map`. Order is kept, whatever `Options.deterministic` says.
      check_order: False: do not read the dataset again to see whether it stays the same; for one whose examples change
        but not their order, such as after random augmentation.

    Raises:
      ValueError: when applied, naming the transform, if the elements are batched or of a kind it cannot poison, their
        labels are smoothed, or they are not the same when read again.
      tf.errors.InvalidArgumentError: in iteration, where the elements show that only then.
    """

    def __init__(
        self,
        name: str,
        config: dict[str, Any],
        plan: Callable | None,
        mark: bool = False,
        image_key: str = "image",
        label_key: str = "label",
        num_parallel_calls: int = tf.data.AUTOTUNE,
        check_order: bool = True,
        by_index: bool = True,
    ) -> None:
        self.name, self.config, self._plan = name, config, plan
        self.checks_order = (
            checks.choice(f"{name}: check_order", checks.scalar(check_order), (True, False)) and by_index
        )
        self.mark, self.image_key, self.label_key = mark, image_key, label_key
        self.num_parallel_calls = num_parallel_calls

    def __repr__(self):
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.config.items())})"

    def __call__(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        return self.on(dataset)(dataset)

    def on(self, whole: tf.data.Dataset) -> Bound:
        """This transform with its elements chosen on `whole`, for a dataset that was sharded or repeated before.

        part = whole.shard(4, 1).repeat()
        part = part.apply(transform.on(whole).shard(4, 1).repeat())  # whole.apply(transform).shard(4, 1).repeat()
        """
        return Bound(self, whole)

    @property
    def record(self) -> dict[str, Any]:
        """`config` as JSON values."""
        return json.loads(json.dumps(self.config))

    def on_arrays(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the transform makes of a dataset of the examples of two arrays, without a pipeline.

        Args:
          x: features [N, ...]. y: labels [N], or one-hot [N, num_classes].

        Returns:
          (x, y, is_poison): new arrays, the last bool [N].

        Raises:
          ValueError: as for a dataset, or the transform is not one that edits examples in place.
        """
        if self._plan is None:
            raise ValueError(f"{self.name}: a transform on arrays must edit examples in place, got one that adds some")
        whole = tf.data.Dataset.from_tensor_slices((x, y))
        layout = self.layout(whole)
        layout.labels = layout.class_of(y)
        choose, edit = self._plan(layout, whole)
        index = np.arange(len(y))
        poisoned = np.ones(len(y), bool) if choose is None else np.asarray(choose(index, tf.constant(y)))
        x, y, rows = np.array(x), np.array(y), np.flatnonzero(poisoned)
        for start in range(0, len(rows), CHUNK_ROWS):
            now = rows[start : start + CHUNK_ROWS]
            x[now], y[now] = map(np.asarray, edit(tf.constant(index[now]), tf.constant(x[now]), tf.constant(y[now])))
        return x, y, poisoned

    def layout(self, dataset: tf.data.Dataset) -> Any:
        return Layout(dataset, self.name, self.image_key, self.label_key)

    def apply_at(self, dataset: tf.data.Dataset, whole: tf.data.Dataset, place: Any) -> tf.data.Dataset:
        """Poisons `dataset`, whose element number j is number `place.index(j)` of `whole`."""
        layout = self.layout(whole)
        assert self._plan is not None, "a transform without a plan has an apply_at of its own"
        choose, edit = self._plan(layout, whole)
        steady = layout.steady(whole) if self.checks_order else None  # after a pass for labels, which may fill a cache

        def visit(number, element):
            index, x, y = place.index(number), element[layout.x_at], element[layout.y_at]
            with tf.control_dependencies([] if steady is None else [steady(index, x, y)]):
                x, y = tf.identity(x), tf.identity(y)
            if choose is None:
                return layout.rebuild(element, *edit(index, x, y), tf.ones_like(index, tf.bool), self.mark)
            poisoned = choose(index, y)
            rows = tf.where(poisoned)

            def edited():
                new_x, new_y = edit(*(tf.gather_nd(part, rows) for part in (index, x, y)))
                return tf.tensor_scatter_nd_update(x, rows, new_x), tf.tensor_scatter_nd_update(y, rows, new_y)

            new_x, new_y = tf.cond(tf.reduce_any(poisoned), edited, lambda: (x, y))
            return layout.rebuild(element, new_x, new_y, poisoned, self.mark)

        return map_rows(keep_order(dataset), visit, self.num_parallel_calls)


class Bound:
    """A transform whose elements are chosen on `whole`; `shard` and `repeat` repeat what was done to the dataset."""

    def __init__(self, transform, whole, place=None):
        self.transform, self.whole = transform, whole
        self.place = Place(cardinality(whole)) if place is None else place

    def shard(self, num_shards, index):
        """Says that the dataset was sharded: `.shard(num_shards, index)`."""
        return Bound(self.transform, self.whole, self.place.shard(num_shards, index))

    def repeat(self, count=None):
        """Says that the dataset was repeated: `.repeat(count)`; how often makes no difference."""
        return Bound(self.transform, self.whole, self.place.repeat())

    def __call__(self, dataset):
        if dataset.element_spec != self.whole.element_spec:
            whole = checks.shown(self.whole.element_spec)
            allowed = f"those of the dataset in on(whole), {whole}"
            checks.fail(f"{self.transform.name}: the elements", allowed, dataset.element_spec)
        poisoned = self.transform.apply_at(dataset, self.whole, self.place)
        ORIGINS[poisoned] = dataset
        compared = self.transform.checks_order or STEADY.get(dataset, 0) is None
        if self.whole is dataset and dataset in STEADY and compared:
            STEADY[poisoned] = None
        return poisoned


def chooser(layout, whole, rate, seed, eligible=None):
    """A function of indices [b] and labels [b, ...] to bool [b]: which elements of `whole` the seed chooses.

    `eligible` is a function of classes (int64 tensor) to bool, or None for all.
    """
    size, who = cardinality(whole), layout.who

    def by_coin(index, y):
        chosen = selection.coin(who, rate, seed, index)
        return chosen if eligible is None else chosen & eligible(layout.class_of(y))

    def make_table():
        labels = None if eligible is None else eligible(layout.all_labels(whole, size))
        return selection.exact(who, rate, seed, size, labels)

    if isinstance(size, int):
        if size < 0:
            return by_coin
        table = make_table()
        return lambda index, y: tf.gather(table, index)
    table = tf.cond(size < 0, lambda: tf.zeros([0], tf.bool), make_table)
    return lambda index, y: tf.cond(size < 0, lambda: by_coin(index, y), lambda: tf.gather(table, index))
