"""A Keras callback that ends training before a privacy budget is spent."""

from __future__ import annotations

from typing import Any

import keras

from tfshape import checks
from tfshape.privacy.accounting import steps_for
from tfshape.privacy.training import Training


class Budget(keras.callbacks.Callback):
    """Stops `fit` after the last step that keeps epsilon within a budget, and says what was spent.

    Args:
        epsilon: the budget, > 0.
        noise_multiplier, batch_size, num_examples, delta, sampling, options: as in `ts.privacy.epsilon`.

    Attributes:
        max_steps: how many steps the budget pays for, in all fits that this callback is handed to.
        steps: how many were taken.

    Raises:
        ValueError: for a value out of range, or a budget that does not pay for one step; when a fit begins with a spent
            budget; and for a model compiled with steps_per_execution > 1, which cannot be stopped between its steps.
    """

    def __init__(
        self,
        epsilon: float,
        noise_multiplier: float,
        batch_size: int,
        num_examples: int,
        delta: float,
        sampling: str = "poisson",
        **options: Any,
    ) -> None:
        super().__init__()
        self.max_steps = steps_for(epsilon, noise_multiplier, batch_size, num_examples, delta, sampling, **options)
        checks.require("epsilon", self.max_steps > 0, "a budget that pays for a step (or, shuffled, an epoch)", epsilon)
        self.steps, self._delta = 0, delta
        self._run = lambda: Training(noise_multiplier, batch_size, num_examples, self.steps, sampling, **options)

    @property
    def epsilon(self) -> float:
        """What was spent so far, at the callback's delta."""
        return self._run().epsilon(self._delta)

    def on_train_begin(self, logs: dict | None = None) -> None:
        together: Any = getattr(self.model, "steps_per_execution", None) or getattr(
            self.model, "_steps_per_execution", 1
        )
        checks.integer("steps_per_execution", int(together), 1, 1)
        left = self.steps < self.max_steps
        checks.require("steps", left, f"fewer than the {self.max_steps} the budget pays for", self.steps)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.steps += 1
        if self.steps >= self.max_steps:
            self.model.stop_training = True
