"""The layers of a model and the variables each of them owns."""

import keras
import tensorflow as tf


def raw(variable):
    """The `tf.Variable` behind a Keras variable (Keras 3 wraps it, Keras 2 does not)."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def tensor(variable, dtype=None):
    """The present value of a variable, as a tensor."""
    value = tf.convert_to_tensor(raw(variable))
    return value if dtype is None else tf.cast(value, dtype)


def children(layer):
    """The layers held by `layer`: attributes, lists, tuples and dicts of them, and the `layers` of a model."""
    found: dict[int, keras.layers.Layer] = {}

    def scan(value):
        if isinstance(value, keras.layers.Layer):
            found.setdefault(id(value), value)
        elif isinstance(value, (list, tuple)):
            for item in value:
                scan(item)
        elif isinstance(value, dict):
            for item in value.values():
                scan(item)

    if isinstance(layer, keras.Model):
        scan(list(layer.layers))
    for value in list(vars(layer).values()):
        scan(value)
    found.pop(id(layer), None)
    return [child for child in found.values() if not isinstance(child, keras.metrics.Metric)]


def tree(model):
    """Every layer reachable from `model`, itself first, each once."""
    seen, queue = {id(model): model}, [model]
    for layer in queue:
        for child in children(layer):
            if id(child) not in seen:
                seen[id(child)] = child
                queue.append(child)
    return queue


def own_variables(layer, wanted):
    """The variables of `wanted` (id -> variable) that belong to `layer` and to no layer inside it."""
    inner = {id(v) for child in children(layer) for v in child.weights}
    return [v for v in _unique(layer.weights) if id(v) in wanted and id(v) not in inner]


def all_variables(layer, wanted):
    """The variables of `wanted` that belong to `layer` or to a layer inside it."""
    return [v for v in _unique(layer.weights) if id(v) in wanted]


def _unique(variables):
    return list({id(v): v for v in variables}.values())
