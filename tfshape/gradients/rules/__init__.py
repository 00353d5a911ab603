"""One rule a family of layers: what to note in the forward pass, and which part to make of it."""

from typing import TypeVar

import keras

from tfshape.gradients import layers as layers_lib
from tfshape.gradients.rules import base, convolution, dense, embedding, fallback, normalization

_Rule = TypeVar("_Rule", bound=type[base.Rule])
_RULES: list[type[base.Rule]] = [dense.Rule, dense.EinsumRule, convolution.Rule, embedding.Rule, normalization.Rule]
_WHOLE = (keras.layers.RNN, keras.layers.TimeDistributed)


def register(rule: _Rule) -> _Rule:
    """Adds a `rules.base.Rule` for layers of your own, asked before all others; a decorator of its class."""
    _RULES.insert(0, rule)
    return rule


def unit(layer, wanted, whole):
    """The unit that records `layer`, or None if it owns none of the variables `wanted` (id -> variable)."""
    if whole or isinstance(layer, _WHOLE):
        variables = layers_lib.all_variables(layer, wanted)
        return fallback.Unit(layer, variables, whole=True) if variables else None
    variables = layers_lib.own_variables(layer, wanted)
    if not variables:
        return None
    for rule in _RULES:
        if rule.matches(layer) and all(any(v is w for w in rule.known(layer)) for v in variables):
            return rule(layer, variables)
    return fallback.Unit(layer, variables, whole=False)


def loose(model, variables, owned, unit):
    """The model's unit that also has those of `variables` that no layer owns alone, beside those it has as `unit`."""
    mine = [v for v in variables if id(v) not in owned]
    return fallback.Unit(model, mine + ([] if unit is None else unit.variables), whole=unit is not None and unit.whole)


def refuse(layer, kwargs):
    """ValueError if calling `layer` with `kwargs` would make one example's output depend on the others."""
    names = {kind.__name__ for kind in type(layer).__mro__}
    training = kwargs.get("training")
    training = training is not None and (not isinstance(training, (bool, int)) or bool(training))
    if names & {"BatchNormalization", "BatchNormalizationBase"} and layer.trainable and training:
        raise ValueError(
            f"layer {layer.name} ({type(layer).__name__}) in training mode mixes the examples of a batch, so they have "
            "no gradients of their own; use GroupNormalization or LayerNormalization, or freeze it: trainable=False"
        )
    if names & {"MixUp", "CutMix"} and training:
        raise ValueError(
            f"layer {layer.name} ({type(layer).__name__}) mixes the examples of a batch, so they have no gradients of "
            "their own; apply it to the data before the model"
        )
