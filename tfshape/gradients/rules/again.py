"""Run a layer again on what it was called with, for the gradients of its variables."""

import weakref

import keras
import tensorflow as tf

from tfshape.gradients import layers as layers_lib
from tfshape.gradients import patch

# operations whose names contain one of these draw random numbers or change a variable
_UNREPEATABLE = ("Random", "Normal", "Multinomial", "Bernoulli", "Poisson", "Gamma", "Rng", "Assign", "Dropout")

# float16 loses gradients below 6e-8; this is what a loss scale of 2^15 on the mean gives each of 256 examples
FLOAT16_SCALE = 128.0

# loops of fewer time steps are unrolled
_UNROLL = 20

_recipes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # layer -> {kind of call: Recipe}


def recipe(layer, variables, args, kwargs, outputs, gradients):
    """-> (Recipe, inputs, constants) of a call of `layer`, the last two being its tensors with and without a batch."""
    structure = (args, dict(kwargs))
    leaves = tf.nest.flatten(structure)
    batch = outputs[0].shape[:1]
    tensors = [tf.is_tensor(leaf) for leaf in leaves]
    batched = [is_tensor and _has_batch(leaf, batch) for leaf, is_tensor in zip(leaves, tensors)]
    inputs = [leaf for leaf, yes in zip(leaves, batched) if yes]
    constants = [leaf for leaf, is_tensor, yes in zip(leaves, tensors, batched) if is_tensor and not yes]
    template = tf.nest.map_structure(lambda leaf: None if tf.is_tensor(leaf) else leaf, structure)
    specs = [tf.TensorSpec([None, *t.shape[1:]], t.dtype) for t in [*inputs, *gradients]]
    specs = [specs, [tf.TensorSpec(t.shape, t.dtype) for t in constants]]
    key = repr((template, batched, specs, [id(v) for v in variables]))
    known = _recipes.setdefault(layer, {})
    if key not in known:
        places = (
            [i for i, yes in enumerate(batched) if yes],
            [i for i, (is_tensor, yes) in enumerate(zip(tensors, batched)) if is_tensor and not yes],
        )
        known[key] = Recipe(layer, variables, template, places, specs)
    return known[key], inputs, constants


class Recipe:
    """How to call a layer on tensors put at certain places of its arguments. Holds no tensors, and the layer weakly."""

    def __init__(self, layer, variables, template, places, specs):
        self._layer, self._variables = weakref.ref(layer), variables
        self._template, (self._inputs, self._constants) = template, places
        graph = tf.function(self.together, autograph=False).get_concrete_function(*specs).graph.as_graph_def()
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        # whether the layer computes the same again: it draws no random numbers and assigns to no variable
        self.repeatable = not any(word in node.op for node in nodes for word in _UNREPEATABLE)
        self._each = tf.function(self._vectorised, input_signature=specs, autograph=False)

    def together(self, tensors, constants):
        """tensors: inputs, then output gradients, [B, ...] -> the gradients of the variables, summed over B."""
        leaves = tf.nest.flatten(self._template)
        for i, tensor in zip(self._inputs + self._constants, [*tensors[: len(self._inputs)], *constants]):
            leaves[i] = tensor
        args, kwargs = tf.nest.pack_sequence_as(self._template, leaves)
        raw = [layers_lib.raw(v) for v in self._variables]
        with patch.acting(None), tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in raw:
                tape.watch(variable)
            layer = self._layer()
            outputs = floats(_simplest(layer, args[0] if args else None)(*args, **kwargs))
        return gradient(tape, outputs, raw, tensors[len(self._inputs) :])

    def each(self, tensors, constants):
        """The same, for each example: list of [B, *variable.shape]."""
        # replicas have variables of their own, a function once traced has those of the first
        function = self._vectorised if tf.distribute.has_strategy() else self._each
        return function(tensors, constants)

    def _vectorised(self, tensors, constants):
        return tf.vectorized_map(lambda rows: self.together([row[None] for row in rows], constants), tensors)


def gradient(tape, outputs, variables, gradients):
    """Gradients of `variables` as tensors, from those of the outputs; scaled in half precision, as in the model."""
    scale = FLOAT16_SCALE if any(t.dtype == tf.float16 for t in outputs) else 1
    gradients = [tf.cast(e if scale == 1 else e * scale, t.dtype) for e, t in zip(gradients, outputs)]
    found = [tf.convert_to_tensor(g) for g in tape.gradient(outputs, variables, gradients, "zero")]
    return found if scale == 1 else [g / scale for g in found]


def floats(structure):
    """The floating-point tensors of a nest."""
    return [t for t in tf.nest.flatten(structure) if tf.is_tensor(t) and t.dtype.is_floating]


def _has_batch(tensor, batch):
    shape = tensor.shape[:1]
    return shape.rank is not None and len(shape) == 1 and shape.is_compatible_with(batch)


def _simplest(layer, inputs):
    """The layer, or what computes the same in a way that TensorFlow vectorises, and faster.

    Keras 2 runs LSTM and GRU in an inner function made for a choice of kernels; and short loops are better unrolled.
    """
    if type(layer) not in (keras.layers.RNN, keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU):
        return layer
    if layer.stateful or not tf.is_tensor(inputs) or getattr(layer, "time_major", False):
        return layer
    names = ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask")
    options = {name: getattr(layer, name) for name in names}
    steps = inputs.shape[1]
    return keras.layers.RNN(layer.cell, dtype=layer.dtype_policy, unroll=1 < (steps or _UNROLL) < _UNROLL, **options)
