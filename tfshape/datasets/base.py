"""What every loader returns: `Dataset`, made of two `Split`s of NumPy arrays."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One part of a dataset.

    Attributes:
      x: float32 [N, *input_shape] in [0, 1].
      y: int32 [N], classes from 0.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self):
        return len(self.y)

    def as_dataset(self) -> tf.data.Dataset:
        """An unbatched `tf.data.Dataset` of (x [*input_shape] float32, y [] int32) in order, of known cardinality."""
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((self.x, self.y))


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A classification task with its published division into training and test examples.

    Attributes:
      name: the name it was loaded by.
      train, test: `Split`s.
      num_classes: int.
      input_shape: the shape of one example: (height, width, channels) or (features,).
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    input_shape: tuple
