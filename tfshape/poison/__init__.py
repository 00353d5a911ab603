"""Poison for anyone's tf.data pipeline: transforms for `dataset.apply(...)`, and crafted poison as a file.

    data = data.apply(ts.poison.flip_labels(rate=0.05, num_classes=10))

Needs TensorFlow and NumPy only.
"""

from tfshape.poison.crafted import insert, replace
from tfshape.poison.labels import flip_labels
from tfshape.poison.poisons import Poisons
from tfshape.poison.transform import Transform

__all__ = ["Poisons", "Transform", "flip_labels", "insert", "replace"]
