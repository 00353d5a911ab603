"""Named classification data as NumPy arrays and tf.data.

    ds = ts.datasets.load("fashion_mnist_mini")
    ds.train.x, ds.train.y, ds.num_classes, ds.input_shape
    ds.train.as_dataset()

`names` and `register` are those of `tfshape.registry.Registry`; entry points: "tfshape.datasets".

Importing this package needs NumPy only; TensorFlow, tensorflow-datasets and scikit-learn come when they are used.
"""

from tfshape.datasets.base import Dataset, Split
from tfshape.datasets.registry import check_name, is_own, load, names, register

__all__ = ["Dataset", "Split", "check_name", "is_own", "load", "names", "register"]
