"""Any layer: its per-example gradients by running it once more, one example at a time, vectorised."""

import weakref

import tensorflow as tf

from tfshape.gradients import layers as layers_lib
from tfshape.gradients import parts, patch
from tfshape.gradients.rules import base

# per-example gradients in flight at a time, in entries: 16 MB of float32
_ENTRIES = 1 << 22


class Unit(base.Rule):
    """A layer without a rule. `whole`: with everything inside it; else only for the variables it owns itself."""

    def __init__(self, layer, variables, whole):
        super().__init__(layer, variables)
        self.whole = whole

    def run(self, record, call, args, kwargs):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            for variable in self.variables:
                tape.watch(layers_lib.raw(variable))
            # an output may be computed from another one: only what is done with it outside counts
            outputs = tf.nest.map_structure(_boundary, record.invoke(call, args, kwargs))
        targets = [record.watch(t) for t in _floats(outputs)]
        self.calls.append(base.Call((args, kwargs, tape), targets))
        return outputs

    def parts(self):
        calls = [Once(self.layer, self.variables, call) for call in self.calls]
        if all(call.repeatable() for call in calls):
            return [Replay(self.variables, calls)]
        return [parts.Stored(self.variables, sums([call.row_by_row() for call in calls]))]


class Once:
    """One call of a layer, and how to have it again."""

    def __init__(self, layer, variables, call):
        self._layer, self._raw = layer, [layers_lib.raw(v) for v in variables]
        args, kwargs, self._tape = call.inputs
        self._inputs = (args, dict(kwargs))
        self._leaves = tf.nest.flatten(self._inputs)
        self._outputs, self.gradients = call.targets, call.gradients
        batch = self._outputs[0].shape[:1]
        self._batched = [i for i, t in enumerate(self._leaves) if tf.is_tensor(t) and _compatible(t.shape[:1], batch)]

    def __len__(self):
        return len(self._batched) + len(self.gradients)

    def tensors(self, keep=None):
        """What differs from example to example: inputs and output gradients, each [B, ...]."""
        inputs = [self._leaves[i] for i in self._batched]
        return [parts.zero_rows(t, keep) if t.dtype.is_floating else t for t in [*inputs, *self.gradients]]

    def again(self, tensors):
        """Run the layer on `tensors` and -> the gradients of its variables, summed over the examples."""
        leaves = list(self._leaves)
        for i, tensor in zip(self._batched, tensors):
            leaves[i] = tensor
        args, kwargs = tf.nest.pack_sequence_as(self._inputs, leaves)
        with patch.acting(None), tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in self._raw:
                tape.watch(variable)
            outputs = _floats(self._layer(*args, **kwargs))
        return self._gradient(tape, outputs, tensors[len(self._batched) :])

    def _gradient(self, tape, outputs, es):
        # in half precision scaled, as in the backward pass of the model
        scale = 128.0 if any(t.dtype == tf.float16 for t in outputs) else 1.0
        es = [tf.cast(e * scale if scale != 1 else e, t.dtype) for e, t in zip(es, outputs)]
        gradients = tape.gradient(outputs, self._raw, es, "zero")
        # IndexedSlices (of a table that rows are looked up in) become tensors
        return [tf.convert_to_tensor(g) / scale if scale != 1 else tf.convert_to_tensor(g) for g in gradients]

    def weighted_sum(self, weights):
        """Sum over the examples from the forward pass as it was."""
        es = [e * parts.rows(weights, e) for e in self.gradients]
        return self._gradient(self._tape, self._outputs, es)

    def row_by_row(self):
        """Per-example gradients by one backward pass an example through the batch as it was.

        As slow as it is sure: right for layers that draw random numbers or carry a state from call to call.
        """
        count = tf.shape(self.gradients[0])[0]

        def row(i):
            return self.weighted_sum(tf.cast(tf.range(count) == i, tf.float32))

        return tf.vectorized_map(row, tf.range(count))

    def repeatable(self):
        """Whether the layer computes the same again: it draws no random numbers and assigns to no variable."""
        tensors = self.tensors()
        known = _repeatable.setdefault(self._layer, {})
        key = str([(t.shape.rank, t.dtype) for t in tensors]) + str([t for t in self._leaves if not tf.is_tensor(t)])
        if key not in known:
            specs = [tf.TensorSpec(t.shape, t.dtype) for t in tensors]
            graph = tf.function(lambda *ts: self.again(ts), autograph=False).get_concrete_function(*specs).graph
            definition = graph.as_graph_def()
            nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
            known[key] = not any(word in node.op for node in nodes for word in _UNREPEATABLE)
        return known[key]


class Replay:
    """Variables of a layer that computes the same again: its examples are run one by one, in chunks."""

    def __init__(self, variables, calls):
        self.variables, self._calls = variables, calls
        self._chunk = max(1, _ENTRIES // sum(parts.size(v.shape) for v in variables))

    def _each(self, tensors):
        """Per-example gradients of the examples in `tensors`, those of all calls one after the other."""

        def one(rows):
            rows = [row[None] for row in rows]
            found = []
            for call in self._calls:
                found.append(call.again(rows[: len(call)]))
                rows = rows[len(call) :]
            return sums(found)

        return [base.wide(g) for g in tf.vectorized_map(one, tensors)]

    def _reduce(self, function):
        """function(per-example gradients) -> [B], without ever having them all."""
        tensors = [t for call in self._calls for t in call.tensors()]
        count = tensors[0].shape[0]
        if count is not None and count <= self._chunk:
            return function(self._each(tensors))
        count = tf.shape(tensors[0])[0]
        chunks = (count + self._chunk - 1) // self._chunk

        def step(i, found):
            span = slice(i * self._chunk, (i + 1) * self._chunk)
            return i + 1, found.write(i, function(self._each([t[span] for t in tensors])))

        dtype = base.wide(self._calls[0].gradients[0]).dtype
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
        if keep is None:
            return sums([call.weighted_sum(weights) for call in self._calls])
        found = []
        for call in self._calls:
            tensors = call.tensors(keep)
            inputs = len(call) - len(call.gradients)
            found.append(call.again(tensors[:inputs] + [e * parts.rows(weights, e) for e in tensors[inputs:]]))
        return sums(found)

    def materialize(self):
        return self._each([t for call in self._calls for t in call.tensors()])


# operations whose names contain one of these draw random numbers or change a variable
_UNREPEATABLE = ("Random", "Normal", "Multinomial", "Bernoulli", "Poisson", "Gamma", "Rng", "Assign", "Dropout")
_repeatable = weakref.WeakKeyDictionary()


def sums(lists):
    """Entrywise sum of lists of tensors."""
    return [tf.add_n(list(tensors)) for tensors in zip(*lists)]


def _compatible(static, batch):
    return static.rank is not None and len(static) == 1 and static.is_compatible_with(batch)


def _boundary(tensor):
    if not tf.is_tensor(tensor):
        return tensor
    copy = tf.identity(tensor)
    if hasattr(tensor, "_keras_mask"):
        copy._keras_mask = tensor._keras_mask
    return copy


def _floats(structure):
    return [t for t in tf.nest.flatten(structure) if tf.is_tensor(t) and t.dtype.is_floating]
