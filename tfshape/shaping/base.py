"""What every shaper is: a frozen value that spells itself, states its sensitivity, and weighs examples."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfshape import checks, options
from tfshape.registry import Registry

if TYPE_CHECKING:
    import keras

    from .examples import Examples

REGISTRY = Registry("shaper", ("spelling", "weigh", "from_options"))
names, get, register = REGISTRY.names, REGISTRY.get, REGISTRY.register


def least(a, b):
    """The smaller of two bounds, each a float or a scalar tensor."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return min(a, b)
    return tf.minimum(a, b)


class Shaper(options.Plain):
    """One factor of the weight of each example in `update = (sum_i w_i g_i + noise) / B`.

    Subclasses are frozen dataclasses of `tfshape.options`, registered under `spelling`. To write one, override `weigh`,
    `bound` and, if it keeps state, `variables`, `observe` and `advance`.
    """

    spelling = ""
    # Whether w_i is computed from g_i alone (and from values already released): only then is there a sensitivity.
    per_example = True
    # Whether the weights need all rows of the batch at once, so that it cannot be split into microbatches.
    whole_batch = False
    # Whether the weights need inner products of whole gradients, which are not to be had once layers weigh differently.
    directions = False

    @property
    def shapers(self) -> tuple[Shaper, ...]:
        """The elementary shapers, in the order they are applied."""
        return (self,)

    def weigh(self, examples: Examples, state: Any) -> tf.Tensor | None:
        """The factor, [B] or [L, B], for the weights of `examples` (an `Examples`); None for all ones."""
        return None

    def bound(self, previous: Any, state: Any = None) -> Any:
        """The l2 bound on one shaped example, given the bound `previous` (inf: none) before this shaper.

        `state`: this shaper's variables, if it has any; without them the bound is that of the first step.
        """
        return previous

    def noise_for(self, bound: Any) -> Any:
        """The standard deviation of the noise this shaper adds to a sum of examples bounded by `bound` (None: not)."""
        return 0.0

    def spend(self, multiplier: float) -> float:
        """The noise multiplier that is left once what this shaper itself releases is counted."""
        return multiplier

    def variables(self, model: keras.Model) -> dict[str, Any]:
        """The initial values, by name, of the variables in which a shaped `model` keeps this shaper's state."""
        return {}

    def observe(self, examples: Examples, state: Any) -> tf.Tensor | None:
        """A scalar that is summed over the batch and handed to `advance`; None to observe nothing."""
        return None

    def advance(self, state: Any, update: list, observed: tf.Tensor | None, rows: tf.Tensor, normal: tf.Tensor) -> None:
        """Assigns the next step's state.

        update: the step's update, a list like the model's trainable variables. observed: the sum of `observe` over
        the batch. rows: B. normal: one standard normal number, drawn for this shaper and step.
        """

    @property
    def sensitivity(self) -> float | None:
        """The l2 sensitivity of `sum_i w_i g_i` to adding or removing one example; None if it has no bound.

        Replacing one example by another moves the sum by at most twice this. Where the bound moves during
        training (`AdaptiveClip`) this is the bound of the first step.
        """
        bound = math.inf
        for shaper in self.shapers:
            if not shaper.per_example:
                return None
            bound = shaper.bound(bound)
        return bound if math.isfinite(bound) else None

    @property
    def noise_stddev(self) -> float:
        """The standard deviation, per coordinate, of the noise added to the sum (at the first step); 0.0 if none."""
        return self.shapers[-1].noise_for(self.sensitivity)

    @property
    def noise_multiplier(self) -> float | None:
        """What an accountant reads: noise over sensitivity, with everything that is released counted.

        0.0 without noise and None without a sensitivity: both mean epsilon = inf.
        """
        if self.sensitivity is None:
            return None
        multiplier = self.noise_stddev / self.sensitivity
        for shaper in self.shapers:
            multiplier = shaper.spend(multiplier)
        return multiplier

    @property
    def name(self: Any) -> str:
        """The spelling that `parse` reads, such as `clip(1.0)|noise(1.0)`."""
        words = []
        for index, field in enumerate(dataclasses.fields(self)):
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING or value != field.default:
                words.append(f"{value!r}" if index == 0 else f"{field.name}={value!r}")
        return f"{self.spelling}({', '.join(words)})"

    def __str__(self):
        return self.name

    def to_config(self: Any) -> dict[str, Any]:
        """A dict of plain values, from which `from_config` makes an equal shaper."""
        return {"shaper": self.spelling, **dataclasses.asdict(self)}

    def get_config(self) -> dict[str, Any]:
        """The same as `to_config`, under the name by which Keras serialises objects."""
        return self.to_config()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Shaper:
        """The shaper that `to_config` described. Raises ValueError for an unknown name or option."""
        given = dict(config)
        return REGISTRY.get(given.pop("shaper", cls.spelling)).from_options(given)

    @classmethod
    def from_options(cls: Any, options: dict[str, Any]) -> Shaper:
        """The shaper with these keyword options. Raises ValueError for an unknown one or one that is missing."""
        fields = dataclasses.fields(cls)
        names = [field.name for field in fields]
        for key in options:
            if key not in names:
                near = checks.did_you_mean(key, names)
                raise ValueError(f"{cls.spelling} takes {', '.join(names)}, got {checks.shown(key)}{near}")
        for field in fields:
            if field.default is dataclasses.MISSING and field.name not in options:
                raise ValueError(f"{cls.spelling} needs {field.name}")
        return cls(**options)
