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
            return [Replay(self.variables, calls).kept()]
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

    def tensors(self):
        """What differs from example to example: inputs and output gradients, each [B, ...]."""
        return [*self._inputs, *self._gradients]

    def each(self, tensors):
        """Per-example gradients of the examples in `tensors`."""
        return self.recipe.each(tensors, self._constants)

    def row_by_row(self):
        """Per-example gradients by one backward pass an example through the batch as it was.

        As slow as it is sure: right for layers that draw random numbers or carry a state from call to call.
        """
        rows = tf.range(tf.shape(self._gradients[0])[0])
        kinds = [tf.TensorSpec(v.shape, v.dtype) for v in self._raw]

        def one(i):
            only = [e * parts.rows(tf.cast(rows == i, tf.float32), e) for e in self._gradients]
            return again.gradient(self._tape, self._outputs, self._raw, only)

        return [base.wide(g) for g in tf.map_fn(one, rows, fn_output_signature=kinds)]


class Replay:
    """Variables of a layer that computes the same again: its examples are run one by one, in chunks.

    The weighted sum is made of the very gradients whose norms were taken: those of one backward pass over all examples
    are rounded otherwise, and where a crafted input makes large terms cancel, that could exceed a clip.
    """

    def __init__(self, variables, calls):
        self.variables, self._calls = variables, calls
        self._chunk = max(1, _ENTRIES // sum(parts.size(v.shape) for v in variables))

    def kept(self):
        """The same with the gradients computed, if all of them fit into a chunk; else itself."""
        count = self._tensors()[0].shape[0]
        fits = count is not None and count <= self._chunk
        return parts.Stored(self.variables, self.materialize()) if fits else self

    def _tensors(self):
        return [t for call in self._calls for t in call.tensors()]

    def _each(self, tensors):
        """Per-example gradients of the examples in `tensors`, those of all calls one after the other."""
        found = []
        for call in self._calls:
            found.append(call.each(tensors[: len(call)]))
            tensors = tensors[len(call) :]
        return [base.wide(g) for g in sums(found)]

    def _chunks(self, function, state):
        """function(state, Stored gradients of some rows, slice of those rows) -> state, over all rows."""
        tensors = self._tensors()
        count = tf.shape(tensors[0])[0]

        def step(start, *state):
            rows = slice(start, start + self._chunk)
            stored = parts.Stored(self.variables, self._each([t[rows] for t in tensors]))
            return start + self._chunk, *function(state, stored, rows)

        loop = (tf.constant(0), *state)
        return tf.while_loop(lambda start, *_: start < count, step, loop, parallel_iterations=1)[1:]

    def _reduce(self, function, dtype):
        """function(Stored gradients, slice of rows) -> [B], without ever having them all."""
        found = tf.TensorArray(dtype, 0, dynamic_size=True, infer_shape=False, element_shape=[None])
        add = lambda state, stored, rows: [  # noqa: E731
            state[0].write(rows.start // self._chunk, function(stored, rows))
        ]
        return self._chunks(add, [found])[0].concat()

    def squares(self):
        return self._reduce(lambda stored, _: stored.squares(), tf.float64)

    def dot(self, directions, weights):
        dtype = base.wide(self._tensors()[-1]).dtype
        return self._reduce(lambda stored, rows: stored.dot(directions, weights[rows]), dtype)

    def gram(self, weights):
        return parts.Stored(self.variables, self.materialize()).gram(weights)

    def weighted_sum(self, weights, keep):
        def add(state, stored, rows):
            found = stored.weighted_sum(weights[rows], None if keep is None else keep[rows])
            return [total + more for total, more in zip(state, found)]

        dtype = base.wide(self._tensors()[-1]).dtype
        return list(self._chunks(add, [tf.zeros(v.shape, dtype) for v in self.variables]))

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
