"""Keras callbacks for training that is shaped or watched; all write what `TensorBoard`, `CSVLogger` and `History` show.

    epsilon = ts.callbacks.Epsilon(model.shaping.noise_multiplier, 256, len(x), delta=1e-5, sampling="shuffle")
    model.fit(x, y, batch_size=256, callbacks=[epsilon, keras.callbacks.TensorBoard("logs")])

`Budget` ends training when a budget is spent, `GradientArtifacts` watches magnitude and orientation of gradients.
"""

from __future__ import annotations

from typing import Any

import keras

from tfshape import privacy
from tfshape.analysis import GradientArtifacts
from tfshape.privacy import Budget

__all__ = ["Budget", "Epsilon", "GradientArtifacts"]


class Epsilon(keras.callbacks.Callback):
    """Adds `epsilon`, spent so far in all fits it is handed to, to the logs of each epoch.

    Callbacks that shall see it, such as `TensorBoard`, come behind it in the list.

    noise_multiplier (None: no sensitivity, epsilon = inf), batch_size, num_examples, delta, sampling and options as in
    `ts.privacy.epsilon`. Raises ValueError for a value out of range.
    """

    def __init__(
        self,
        noise_multiplier: float | None,
        batch_size: int,
        num_examples: int,
        delta: float,
        sampling: str = "poisson",
        **options: Any,
    ) -> None:
        super().__init__()
        self.steps = 0
        self._spent = lambda steps: privacy.epsilon(
            noise_multiplier or 0.0, batch_size, num_examples, steps, delta, sampling, **options
        )
        self._spent(1)  # a bad value is refused here, not after the first epoch

    @property
    def epsilon(self) -> float:
        """What was spent so far."""
        return float(self._spent(self.steps)) if self.steps else 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.steps += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["epsilon"] = self.epsilon
