"""Per-example gradients of Keras models without materialising them.

    g = tfshape.gradients.per_example(model, loss, x, y)
    g.norms, g.dot(direction), g.gram(), g.weighted_sum(weights), g.materialize()

Imports no other room of the package. `register` is that of `tfshape.registry.Registry`: it adds a `rules.base.Rule` for
layers of your own, which is asked before all others; entry points: "tfshape.rules".
"""

from tfshape.gradients import layers, patch, record, rules, scaling
from tfshape.gradients.losses import per_example_losses
from tfshape.gradients.per_example import PerExample, per_example
from tfshape.gradients.rules import register

__all__ = [
    "PerExample",
    "layers",
    "patch",
    "per_example",
    "per_example_losses",
    "record",
    "register",
    "rules",
    "scaling",
]
