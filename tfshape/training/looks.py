"""Looks at a model through its training: about twenty, dense at first, where it learns most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

COUNT = 20


def stride(steps: int) -> int:
    """Between how many of the `steps` of a training a look is possible: a divisor, so that as many run at once."""
    return max(count for count in range(1, max(1, min(32, steps // (2 * COUNT))) + 1) if steps % count == 0)


def moments(steps: int) -> list[int]:
    """After how many steps to look; the last is the end of training.

    Example:
        >>> moments(460)[:4], moments(460)[-3:], len(moments(460))
        ([10, 20, 30, 40], [310, 380, 460], 17)
    """
    unit = stride(steps)
    return sorted({unit * round(count) for count in np.geomspace(1, steps // unit, COUNT)})


class Looks(keras.callbacks.Callback):
    """Calls `look(steps done, model)` at the `moments` of a training.

    Args:
      looked_at: the model to give; it may be inside of the one that trains.
      steps: of the whole training.
      at_once: how many run between two calls of this.
      look: the function.
    """

    def __init__(self, looked_at: Any, steps: int, at_once: int, look: Callable[[int, Any], object]) -> None:
        super().__init__()
        self._looked_at, self._at_once, self._look = looked_at, at_once, look
        self._done, self._moments = 0, moments(steps)

    def on_train_batch_end(self, batch, logs=None):
        self._done += self._at_once
        if self._moments and self._done >= self._moments[0]:
            self._moments.pop(0)
            self._look(self._done, self._looked_at)
