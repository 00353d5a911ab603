"""What every transform shares: plan on the whole dataset, then edit the chosen elements, a chunk at a time."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfshape.poison import selection
from tfshape.poison.elements import Layout, map_rows
from tfshape.poison.place import Place, cardinality, keep_order

# poisoned dataset -> the dataset it was made from, for `preview`
ORIGINS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Transform:
    """A function for `dataset.apply(...)`, with a `name` and a `config` for reports.

    Elements are numbered in the order they come in. Which of them are poisoned depends on that number and the seed
    only: not on `num_parallel_calls`, prefetching, the epoch, or what is done to the dataset afterwards. Apply it
    before `.shuffle`, `.repeat`, `.shard` and `.batch`; if the dataset must be sharded or repeated first, say so with
    `on`, and the same elements are poisoned. Shapes and dtypes of the elements stay as they are.

    On a dataset of known cardinality n exactly round(rate * n) elements are poisoned, drawn among the eligible; this
    takes one pass over the dataset's labels if eligibility depends on them. On an unknown or infinite one, each
    eligible element is, with probability `rate`. Different kinds of transform choose independently; give several of one
    kind different seeds, or they choose alike.

    Args, taken by every transform of this package:
      mark: append a scalar bool `is_poison` to tuples (a key of that name to dicts). An element that already has the
        mark keeps it, whatever `mark` is.
      image_key, label_key: where the features and the label stand in elements that are dicts.
      num_parallel_calls: as in `tf.data.Dataset.map`. Order is kept, whatever `Options.deterministic` says.

    Raises, when applied:
      ValueError: naming the transform, if the elements are batched or of a kind it cannot poison.
    """

    def __init__(
        self,
        name: str,
        config: dict[str, Any],
        plan: Callable,
        mark: bool = False,
        image_key: str = "image",
        label_key: str = "label",
        num_parallel_calls: int = tf.data.AUTOTUNE,
    ) -> None:
        self.name, self.config, self._plan = name, config, plan
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

    def layout(self, dataset: tf.data.Dataset) -> Any:
        return Layout(dataset, self.name, self.image_key, self.label_key)

    def apply_at(self, dataset: tf.data.Dataset, whole: tf.data.Dataset, place: Any) -> tf.data.Dataset:
        """Poisons `dataset`, whose element number j is number `place.index(j)` of `whole`."""
        layout = self.layout(whole)
        choose, edit = self._plan(layout, whole)

        def visit(number, element):
            x, y = element[layout.x_at], element[layout.y_at]
            index = place.index(number)
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
            raise ValueError(
                f"{self.transform.name}: the elements are {dataset.element_spec}, expected those of the dataset in "
                f"on(whole), {self.whole.element_spec}"
            )
        poisoned = self.transform.apply_at(dataset, self.whole, self.place)
        ORIGINS[poisoned] = dataset
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
