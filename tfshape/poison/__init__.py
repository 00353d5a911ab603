"""Poison for anyone's tf.data pipeline: transforms for `dataset.apply(...)`, and crafted poison as a file.

    data = data.apply(ts.poison.flip_labels(rate=0.05, num_classes=10))
    data = data.apply(ts.poison.stamp(ts.poison.patch(size=3), rate=0.05, target_class=7))

Needs TensorFlow and NumPy only (and matplotlib for `preview`).
"""

from tfshape.poison.backdoor import stamp, stamp_test
from tfshape.poison.crafted import insert, replace
from tfshape.poison.labels import flip_labels
from tfshape.poison.noise import perturb
from tfshape.poison.pipeline import Pipeline
from tfshape.poison.poisons import Poisons
from tfshape.poison.preview import preview
from tfshape.poison.transform import Transform
from tfshape.poison.triggers import Trigger, blend, patch, sinusoid, warp

__all__ = [
    "Pipeline",
    "Poisons",
    "Transform",
    "Trigger",
    "blend",
    "flip_labels",
    "insert",
    "patch",
    "perturb",
    "preview",
    "replace",
    "sinusoid",
    "stamp",
    "stamp_test",
    "warp",
]
