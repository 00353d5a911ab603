"""Named classification data as NumPy arrays and tf.data.

    ds = ts.datasets.load("fashion_mnist_mini")
    ds.train.x, ds.train.y, ds.num_classes, ds.input_shape
    ds.train.as_dataset()

Importing this package needs NumPy only; TensorFlow, tensorflow-datasets and scikit-learn come when they are used.
"""

from tfshape.datasets.base import Dataset, Split
from tfshape.datasets.registry import load, names

__all__ = ["Dataset", "Split", "load", "names"]
