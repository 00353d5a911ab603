"""What the rules share."""

import tensorflow as tf

from tfshape.gradients import layers as layers_lib


class Call:
    """One call of a layer: its inputs, the tensors whose gradient is wanted, and, after the backward pass, that."""

    def __init__(self, inputs, targets):
        self.inputs, self.targets, self.gradients = inputs, targets, None
        self.connected = False  # whether the loss depends on a target, as far as the tape knows

    def set_gradients(self, gradients, scale):
        """gradients: like `targets`, None where not connected; too large by `scale`."""
        self.connected = any(g is not None for g in gradients)
        gradients = [tf.zeros_like(t) if g is None else g for t, g in zip(self.targets, gradients)]
        self.gradients = [wide(g) / scale if scale != 1 else g for g in gradients]


class Rule:
    """Records the calls of one layer and makes parts of them.

    A subclass says which layers it `matches`, which of their variables it `known`s, how to `run` one, and which `parts`
    (tfshape.gradients.parts) the calls make, called once `gradients` of every call is set.
    """

    whole = False  # whether what happens inside the layer is left unrecorded

    def __init__(self, layer, variables):
        self.layer, self.variables, self.calls = layer, variables, []
        self.raw = [layers_lib.raw(v) for v in variables]  # now: inside a call Keras 3 would hand out a cast copy

    @staticmethod
    def matches(layer):
        raise NotImplementedError

    @staticmethod
    def known(layer):
        raise NotImplementedError

    def has(self, variable):
        return any(variable is v for v in self.variables)

    def run(self, record, call, args, kwargs):
        """Call the layer, and note its input and pre-activation: -> its outputs."""
        inputs, args, kwargs = first(args, kwargs)
        if not tf.is_tensor(inputs) or inputs.shape.rank is None:
            raise record.retry(self.layer)
        outputs, z = preactivation(record, self.layer, call, inputs, args, kwargs)
        self.calls.append(Call(inputs, [z]))
        return outputs

    def pairs(self):
        """(input, gradient) of each call, in the precision that norms are summed in."""
        return [(wide(call.inputs), wide(call.gradients[0])) for call in self.calls]


def wide(tensor):
    """Half precision to float32: norms are summed in that, and a square of 300 does not overflow."""
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def first(args, kwargs):
    """The layer's first argument and the rest: -> (input, args, kwargs)."""
    if args:
        return args[0], args[1:], kwargs
    rest = dict(kwargs)
    return rest.pop(next(iter(rest))), (), rest


def preactivation(record, layer, call, inputs, args, kwargs):
    """Run a layer that ends in `self.activation(z)` or has none: -> (outputs, z), z watched."""
    seen = []
    record.pending[id(layer)] = lambda z: seen.append(record.watch(z))
    outputs = record.invoke(call, (inputs, *args), kwargs)
    record.pending.pop(id(layer), None)
    return outputs, seen[0] if seen else record.watch(outputs)


def overrides(layer, kinds):
    """Whether a layer is one of Keras's `kinds` and runs Keras's own `call` (-> False) or does something else."""
    return not any(type(layer).call is kind.call for kind in kinds if isinstance(layer, kind))


def unbroadcast(gradient, shape):
    """Per-example gradient [B, *shape] of a variable of `shape` that was broadcast to `gradient` [B, ...]."""
    shape = list(shape)
    rank = gradient.shape.rank - 1
    extra = list(range(1, 1 + rank - len(shape)))
    ones = [1 + rank - len(shape) + i for i, n in enumerate(shape) if n == 1]
    if extra or ones:
        gradient = tf.reduce_sum(gradient, extra + ones)
    return tf.reshape(gradient, [-1, *shape])
