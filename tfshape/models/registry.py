"""Models by name: `names`, `get`, `register`, `build`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tfshape import checks
from tfshape.registry import FUNCTION, Registry

if TYPE_CHECKING:
    import keras

_OWN = {**dict.fromkeys(("lr", "mlp", "cnn", "small_cnn"), "small"), "resnet20": "resnet"}  # the module of each
REGISTRY = Registry("model", FUNCTION, {name: f"tfshape.models.{module}:{name}" for name, module in _OWN.items()})
names, get = REGISTRY.names, REGISTRY.get


def register(build: Any, name: Any = None) -> Any:
    """Adds an architecture of your own, for victims and for the surrogates of attacks; a decorator of its builder.

    An installed package's entry point in the group "tfshape.models" does the same.

    Args:
      build: function (input_shape, num_classes, seed) -> an untrained `keras.Model` of logits. Its initial weights
        must depend on the seed alone; attacks on features need the layer before the last to be named "features".
      name: str, the name to add it under; None: that of the function.

    Returns:
      `build`.

    Raises:
      ValueError: a name that is taken or is no identifier, or what is no function.
    """
    if isinstance(build, str):
        warnings.warn("write register(build, name), not register(name, build)", DeprecationWarning, stacklevel=2)
        build, name = name, build
    return REGISTRY.register(build, name)


def build(name: str, input_shape: Sequence[int], num_classes: int, seed: int = 0) -> keras.Model:
    """Builds an untrained classifier.

    Args:
      name: one of `names()`: lr (multinomial logistic regression), mlp (two hidden layers of 256), cnn
        (conv16-conv32-maxpool-fc256; Hong et al., arXiv 2002.11497), small_cnn (conv16-maxpool-conv32-maxpool-fc64),
        resnet20 (He et al., arXiv 1512.03385, with group normalisation).
      input_shape: the shape of one example, without the batch: (height, width, channels) or (features,).
      num_classes: int >= 2.
      seed: int >= 0. The same seed gives the same initial weights; every layer draws from a seed of its own.

    Returns:
      A functional `keras.Model` from [B, *input_shape] to logits [B, num_classes]. The layer whose output feeds the
      last one is named "features".

    Raises:
      ValueError: an unknown name, a bad size or seed, or an input shape that the family cannot take.
    """
    builder = get(name)
    try:
        shape = tuple(checks.integer("input_shape", size, 1) for size in input_shape)
    except (TypeError, ValueError):
        shape = ()
    checks.require("input_shape", shape, "integers >= 1, without the batch axis", input_shape)
    num_classes = checks.integer("num_classes", num_classes, 2)
    seed = checks.integer("seed", seed, 0)
    return builder(shape, num_classes, seed) if name in _OWN else _foreign(name, builder, shape, num_classes, seed)


def _foreign(name: str, builder: Callable[..., Any], shape: tuple[int, ...], num_classes: int, seed: int) -> Any:
    """The model of somebody else's function. Raises ValueError for an error of it, and for what is no such model."""
    import keras

    try:
        model = builder(shape, num_classes, seed)
        whole = isinstance(model, keras.Model)
        found = (tuple(model.input_shape), tuple(model.output_shape)) if whole else type(model).__name__
    except Exception as error:
        raise ValueError(f"model {name} cannot be built: {type(error).__name__}: {error}") from error
    good = found == ((None, *shape), (None, num_classes))
    allowed = f"a keras.Model from inputs {(None, *shape)} to logits {(None, num_classes)}"
    checks.require(f"what model {name} builds", good, allowed, found)
    return model


def layer_seeds(seed):
    """An endless stream of unlike 31-bit seeds, one for each layer, that depends on `seed` (int >= 0) alone."""
    import numpy as np

    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    return iter(lambda: int(generator.randint(2**31)), None)


def require_image(name, input_shape, smallest):
    """Raises ValueError unless `input_shape` is (height, width, channels) with sides of at least `smallest`."""
    good = len(input_shape) == 3 and min(input_shape[:2]) >= smallest
    allowed = f"(height, width, channels) with sides of at least {smallest} for model {name}"
    checks.require("input_shape", good, allowed, input_shape)
