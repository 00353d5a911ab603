"""Any layer: its per-example gradients by running it once more, one example at a time, vectorised."""

import tensorflow as tf

from tfshape.gradients import layers as layers_lib
from tfshape.gradients import parts
from tfshape.gradients.rules import again, base

# per-example gradients in flight at a time, in entries: 16 MB of float32
_ENTRIES = 1 << 22


class Unit(base.Rule):
    """A layer without a rule. `whole`: with everything inside it; else only for the variables it owns itself."""

    def __init__(self, layer, variables, whole):
        super().__init__(layer, variables)
        self.whole = whole

    def run(self, record, call, args, kwargs):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            for variable in self.raw:
                tape.watch(variable)
            # an output may be computed from another one: only what is done with it outside counts
            outputs = tf.nest.map_structure(_boundary, record.invoke(call, args, kwargs))
        targets = [record.watch(t) for t in again.floats(outputs)]
        self.calls.append(base.Call((args, kwargs, tape), targets))
        return outputs

    def parts(self):
        calls = [Once(self.layer, self.variables, call) for call in self.calls]
        if all(call.recipe.repeatable for call in calls):
            return [Replay(self.variables, calls)]
        return [parts.Stored(self.variables, sums([call.row_by_row() for call in calls]))]


class Once:
    """One call of a layer, and how to have it again."""

    def __init__(self, layer, variables, call):
        args, kwargs, self._tape = call.inputs
        self._raw = [layers_lib.raw(v) for v in variables]
        self._outputs, self._gradients = call.targets, call.gradients
        found = again.recipe(layer, variables, args, kwargs, call.targets, call.gradients)
        self.recipe, self._inputs, self._constants = found

    def __len__(self):
        return len(self._inputs) + len(self._gradients)

    def tensors(self, keep=None):
        """What differs from example to example: inputs and output gradients, each [B, ...]."""
        return [parts.zero_rows(t, keep) if t.dtype.is_floating else t for t in [*self._inputs, *self._gradients]]

    def each(self, tensors):
        """Per-example gradients of the examples in `tensors`."""
        return self.recipe.each(tensors, self._constants)

    def weighted_sum(self, weights, keep):
        """Sum over the examples; without `keep` from the forward pass as it was."""
        es = [e * parts.rows(weights, e) for e in self.tensors(keep)[len(self._inputs) :]]
        if keep is None:
            return again.gradient(self._tape, self._outputs, self._raw, es)
        return self.recipe.together(self.tensors(keep)[: len(self._inputs)] + es, self._constants)

    def row_by_row(self):
        """Per-example gradients by one backward pass an example through the batch as it was.

        As slow as it is sure: right for layers that draw random numbers or carry a state from call to call.
        """
        rows = tf.range(tf.shape(self._gradients[0])[0])
        kinds = [tf.TensorSpec(v.shape, v.dtype) for v in self._raw]
        return tf.map_fn(
            lambda i: self.weighted_sum(tf.cast(rows == i, tf.float32), None), rows, fn_output_signature=kinds
        )


class Replay:
    """Variables of a layer that computes the same again: its examples are run one by one, in chunks."""

    def __init__(self, variables, calls):
        self.variables, self._calls = variables, calls
        self._chunk = max(1, _ENTRIES // sum(parts.size(v.shape) for v in variables))

    def _tensors(self):
        return [t for call in self._calls for t in call.tensors()]

    def _each(self, tensors):
        """Per-example gradients of the examples in `tensors`, those of all calls one after the other."""
        found = []
        for call in self._calls:
            found.append(call.each(tensors[: len(call)]))
            tensors = tensors[len(call) :]
        return [base.wide(g) for g in sums(found)]

    def _reduce(self, function):
        """function(per-example gradients) -> [B], without ever having them all."""
        tensors = self._tensors()
        count = tensors[0].shape[0]
        if count is not None and count <= self._chunk:
            return function(self._each(tensors))
        count = tf.shape(tensors[0])[0]
        chunks = (count + self._chunk - 1) // self._chunk

        def step(i, found):
            span = slice(i * self._chunk, (i + 1) * self._chunk)
            return i + 1, found.write(i, function(self._each([t[span] for t in tensors])))

        dtype = base.wide(tensors[-1]).dtype
        found = tf.TensorArray(dtype, chunks, infer_shape=False, element_shape=[None])
        found = tf.while_loop(lambda i, _: i < chunks, step, (0, found), parallel_iterations=1)[1]
        return found.concat()

    def squares(self):
        return self._reduce(lambda gradients: tf.add_n([parts.square_sum(g) for g in gradients]))

    def dot(self, directions):
        return self._reduce(lambda gradients: parts.Stored(self.variables, gradients).dot(directions))

    def gram(self):
        return parts.Stored(self.variables, self.materialize()).gram()

    def weighted_sum(self, weights, keep):
        return sums([call.weighted_sum(weights, keep) for call in self._calls])

    def materialize(self):
        return self._each(self._tensors())


def sums(lists):
    """Entrywise sum of lists of tensors."""
    return [tf.add_n(list(tensors)) for tensors in zip(*lists)]


def _boundary(tensor):
    if not tf.is_tensor(tensor):
        return tensor
    copy = tf.identity(tensor)
    if hasattr(tensor, "_keras_mask"):
        copy._keras_mask = tensor._keras_mask
    return copy
