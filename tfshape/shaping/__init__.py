"""Gradient shaping: weights for per-example gradients, noise, and the Keras model that trains with them.

    model = ts.shape(model, ts.shaping.dp_sgd(clip=1.0, noise=1.0))
    model.compile("adam", loss="sparse_categorical_crossentropy")
    model.fit(x, y)

| shaper          | w_i                                     | sensitivity                                  |
|-----------------|-----------------------------------------|----------------------------------------------|
| Clip            | min(1, C/‖g_i‖)                         | C                                            |
| Normalize       | C/(‖g_i‖ + γ)                           | C                                            |
| PerLayerClip    | min(1, C/(√L ‖g_il‖)) for each layer l  | C                                            |
| AdaptiveClip    | min(1, C_t/‖g_i‖), C_t follows a quantile | C_t; its noisy count is a release of its own |
| Orient          | less where cos(g_i, reference) is small | that of the chain before it with `momentum`, else None |
| GeometricMedian, Krum, Trim | from the Gram matrix        | None                                         |
| GaussianNoise   | 1, and noise on the sum                 | that of the chain before it                  |

`names`, `get` and `register` are those of `tfshape.registry.Registry`; entry points: "tfshape.shapers".
All sensitivities are for adding or removing one example; replacing one moves the sum by at most twice as much.
"""

from typing import TYPE_CHECKING

from tfshape import lazy

from . import noise
from .base import Shaper, get, names, register
from .chain import Chain, GaussianNoise, dp_sgd
from .checking import Checked, check
from .clipping import AdaptiveClip, Clip, Normalize, PerLayerClip
from .examples import Examples
from .model import ShapedModel, shape
from .probe import Finding
from .robust import GeometricMedian, Krum, Orient, Trim
from .spelling import parse

__all__ = [
    "AdaptiveClip",
    "Chain",
    "Checked",
    "Clip",
    "Examples",
    "Finding",
    "GaussianNoise",
    "GeometricMedian",
    "Krum",
    "Normalize",
    "Orient",
    "PerLayerClip",
    "ShapedModel",
    "Shaper",
    "Trim",
    "check",
    "dp_sgd",
    "get",
    "names",
    "noise",
    "parse",
    "register",
    "shape",
    "tensorflow_privacy",
]

if TYPE_CHECKING:
    from tfshape.shaping import tensorflow_privacy
else:
    __getattr__ = lazy.getter(__name__, {"tensorflow_privacy": ""})
