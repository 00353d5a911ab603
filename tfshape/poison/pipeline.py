"""Several transforms as one, with a record of them for a report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tfshape import checks
from tfshape.poison.transform import Transform

if TYPE_CHECKING:
    import tensorflow as tf


class Pipeline:
    """Applies transforms one after the other: `data.apply(Pipeline([flip_labels(...), stamp(...)]))`.

    Args:
      transforms: `Transform`s, or pairs (name, `Transform`); names are distinct, by default the transforms' own,
        numbered where they repeat.

    Attributes:
      names: list of str. transforms: list of `Transform`.
      record: a list of {"name", "transform", "config"}, JSON values only, for a report to say what was done.

    Raises:
      ValueError: the list is empty, holds something else, or names repeat.
    """

    def __init__(self, transforms: Iterable) -> None:
        pairs = [pair if isinstance(pair, tuple) else (None, pair) for pair in transforms]
        if not pairs:
            checks.fail("Pipeline: transforms", "at least one", pairs)
        for pair in pairs:
            good = len(pair) == 2 and isinstance(pair[1], Transform) and isinstance(pair[0], (str, type(None)))
            checks.require("Pipeline: transforms", good, "each a Transform or a pair (name, Transform)", pair)
        self.transforms = [transform for _, transform in pairs]
        own = [transform.name for transform in self.transforms]
        self.names = []
        for at, (name, transform) in enumerate(pairs):
            number = own[: at + 1].count(transform.name)
            numbered = transform.name if own.count(transform.name) == 1 else f"{transform.name}_{number}"
            self.names.append(numbered if name is None else name)
        checks.require("Pipeline: names", len(set(self.names)) == len(self.names), "distinct", self.names)

    def __repr__(self):
        return f"Pipeline([{', '.join(map(repr, self.transforms))}])"

    def __call__(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        for transform in self.transforms:
            dataset = transform(dataset)
        return dataset

    def on(self, whole: tf.data.Dataset) -> BoundPipeline:
        """As `Transform.on`: elements chosen on `whole`, for a dataset that was sharded or repeated before."""
        bound = []
        for transform in self.transforms:
            bound.append(transform.on(whole))
            whole = transform(whole)
        return BoundPipeline(bound)

    @property
    def record(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "transform": transform.name, "config": transform.record}
            for name, transform in zip(self.names, self.transforms)
        ]


class BoundPipeline:
    """As `Bound`, for a pipeline."""

    def __init__(self, bound):
        self.bound = bound

    def shard(self, num_shards, index):
        """Says that the dataset was sharded: `.shard(num_shards, index)`."""
        return BoundPipeline([transform.shard(num_shards, index) for transform in self.bound])

    def repeat(self, count=None):
        """Says that the dataset was repeated: `.repeat(count)`."""
        return BoundPipeline([transform.repeat(count) for transform in self.bound])

    def __call__(self, dataset):
        for transform in self.bound:
            dataset = transform(dataset)
        return dataset
