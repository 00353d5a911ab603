"""Runs a function of a model again and again as if for the first time, for the probe of what mixes rows."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..gradients import layers as layers_lib

# Operations that draw random numbers from a state of their own, which nothing can set back.
_DRAWS = ("Random", "TruncatedNormal", "ParameterizedTruncatedNormal", "Multinomial")


class Replay:
    """Calls `function(*tensors)` in a graph, each time with the same random numbers; all variables stay as they are.

    `changed`: the variables that the last call assigned to, as a dict from their ids to their new values.
    """

    def __init__(self, function: Any, model: Any) -> None:
        self._function, self._model = function, model
        self._graph: Any = None
        self.changed: dict[int, Any] = {}

    def __call__(self, *tensors: Any) -> Any:
        tensors = tuple(tf.convert_to_tensor(tensor) for tensor in tensors)
        if self._graph is None:
            self._graph = self._trace(tensors)
            self._draws = any(node.op.startswith(_DRAWS) for node in _nodes(self._graph.graph.as_graph_def()))
        # operations with a state of their own start over only in a new graph
        graph = self._trace(tensors) if self._draws else self._graph
        variables = [*graph.variables, *variables_of(layers_lib.tree(self._model), metrics=True)]
        variables = list({id(variable): variable for variable in variables}.values())
        before = [tf.identity(variable) for variable in variables]
        try:
            return tf.nest.map_structure(lambda tensor: tensor.numpy(), graph(*tensors))
        finally:
            self.changed = {}
            for variable, old in zip(variables, before):
                new = tf.identity(variable)
                if not np.array_equal(old, new):
                    self.changed[id(variable)] = new
                    variable.assign(old)

    def _trace(self, tensors):
        @tf.autograph.experimental.do_not_convert
        def run(*tensors):
            tf.random.set_seed(0)  # of this graph alone
            return self._function(*tensors)

        specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors]
        return tf.function(run, autograph=False).get_concrete_function(*specs)


def _nodes(graph):
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]


def variables_of(layers, metrics):
    """The variables in the attributes of `layers`, states of random generators included, those of metrics if wanted."""
    found, seen = [], set()
    queue = [value for layer in layers for value in list(vars(layer).values())]
    for item in queue:
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, tf.Variable):
            found.append(item)
        elif isinstance(getattr(item, "value", None), tf.Variable):  # a variable of Keras 3
            found.append(item.value)
        elif isinstance(item, (list, tuple, set)):
            queue.extend(item)
        elif isinstance(item, dict):
            queue.extend(item.values())
        elif isinstance(item, keras.metrics.Metric):
            queue.extend(item.variables if metrics else ())
        elif isinstance(item, tf.random.Generator):
            found.append(item.state)
        elif "Generator" in type(item).__name__:  # Keras 2 and 3 have some of their own
            queue.extend(vars(item).values())
    return found
