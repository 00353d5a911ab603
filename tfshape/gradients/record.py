"""Run a model once while noting each layer's input and pre-activation."""

import contextlib
import weakref

import tensorflow as tf

from tfshape.gradients import layers as layers_lib
from tfshape.gradients import patch, rules
from tfshape.gradients.rules import again

_hints: weakref.WeakKeyDictionary = (
    weakref.WeakKeyDictionary()
)  # model -> what earlier passes found out: (ids of opaque layers, of loose variables)


def run(model, variables, x, training, losses_of):
    """Run `model` on x and `losses_of(y_pred)` [B], forward and backward: -> (record, losses, y_pred).

    Every unit of the record then has its calls, with the gradients of the summed losses with respect to their targets.
    """
    opaque, loose = _hints.setdefault(model, (set(), set()))
    while True:
        record = Record(model, variables, opaque, loose, tf.nest.flatten(x)[0].shape[0])
        try:
            with record.tape, record.recording():
                y_pred = model(x, training=training)
        except Exception:
            if record.refusal is not None:
                raise record.refusal from None
            if record.promote is None or id(record.promote) in opaque:
                raise
            opaque.add(id(record.promote))
            continue
        with record.tape:
            losses = losses_of(y_pred)
            extra = list(model.losses)
        found = record.backward(losses, extra) | record.leaked(variables)
        if found <= loose:
            return record, losses, y_pred
        loose |= found


class Record:
    """One forward pass: which units (layers that own wanted variables) were called, and on what.

    `opaque` holds ids of layers to record as one whole, whatever is inside; after a failed pass `promote` is the layer
    to add to them, or `refusal` the error to raise. `loose` holds ids of variables that are used elsewhere than in the
    layer that owns them: they are the whole model's.
    """

    def __init__(self, model, variables, opaque, loose, batch):
        owned = {id(v): v for v in variables if id(v) not in loose}
        self.layers = layers_lib.tree(model)
        self.units = {id(layer): rules.unit(layer, owned, id(layer) in opaque) for layer in self.layers}
        if len(owned) < len(variables):
            self.units[id(model)] = rules.loose(model, variables, owned, self.units[id(model)])
        self.tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        self.batch, self.graph = batch, graph()
        self.promote = self.refusal = None
        self.pending = {}  # id of a layer whose pre-activation is awaited -> what to do with it
        self._stack = []  # the layers being called, outermost first, but for those in loops and inner functions
        self._inside = 0  # > 0 inside a layer that is recorded as one whole
        self._ids = {id(v): _ids(v) for v in variables}  # before a call, in which Keras 3 hands out cast copies
        self._readers = [tf.GradientTape()]  # the last sees the variables read now
        self._read = set()  # ids of those read by something that does not own them

    @contextlib.contextmanager
    def recording(self):
        """Replace the layers' `call` and `activation`, and put them back whatever happens."""
        with patch.patched(self.layers), patch.acting(self), self._readers[0]:
            yield
        self._read |= _watched(self._readers[0])

    def leaked(self, variables):
        """Ids of those of `variables` that something other than the layer that owns them has read."""
        return {id(v) for v in variables if self._read.intersection(_ids(v))}

    def backward(self, losses, extra):
        """Set the gradients of all calls: -> ids of variables that were used, but in no way the tape has seen.

        extra: the model's own losses, refused if they depend on activations.
        """
        calls = [call for unit in self.units.values() if unit is not None for call in unit.calls]
        targets = [target for call in calls for target in call.targets]
        if extra and any(g is not None for g in self.tape.gradient(extra, targets)):
            raise ValueError(
                "losses that the model adds must depend on its weights alone, got one that depends on the examples "
                "(activity_regularizer or add_loss) and escapes per-example gradients; put it in the loss function"
            )
        scale = again.FLOAT16_SCALE if any(t.dtype == tf.float16 for t in targets) else 1.0
        gradients = iter(self.tape.gradient(losses, targets, tf.fill(tf.shape(losses), tf.cast(scale, losses.dtype))))
        del self.tape
        for call in calls:
            call.set_gradients([next(gradients) for _ in call.targets], scale)
        unseen = [unit for unit in self.units.values() if unit is not None and unit.calls]
        unseen = [unit for unit in unseen if not any(call.connected for call in unit.calls)]
        return {id(v) for unit in unseen for v in unit.variables}

    def watch(self, tensor):
        """Mark a tensor [B, ...] as one whose gradient is wanted; -> the tensor."""
        if None not in (tensor.shape.rank, self.batch) and tensor.shape[:1].as_list() not in ([None], [self.batch]):
            raise self.retry(self._stack[-2:][0])  # the enclosing layer has folded something into the batch axis
        self.tape.watch(tensor)
        return tensor

    def on_call(self, layer, call, args, kwargs):
        """What happens instead of `layer.call`."""
        try:
            rules.refuse(layer, kwargs)
        except ValueError as error:
            self.refusal = error
            raise
        unit = None if self._inside else self.units[id(layer)]
        if graph() is not self.graph:
            if unit is None:
                return patch.invoke(call, args, kwargs)
            # a loop or a tf.function of the enclosing layer: its tensors cannot be used out here
            raise self.retry(self._stack[-1])
        self._stack.append(layer)
        try:
            if unit is None:
                return patch.invoke(call, args, kwargs)
            with self._whole() if unit.whole else self._reading(unit.variables):
                return unit.run(self, call, args, kwargs)
        finally:
            self._stack.pop()

    def on_activation(self, layer, activation, args, kwargs):
        """What happens instead of `layer.activation`."""
        note = self.pending.pop(id(layer), None)
        if note is not None:
            note(args[0])
        return patch.invoke(activation, args, kwargs)

    invoke = staticmethod(patch.invoke)

    def retry(self, layer):
        """The exception that has the pass run again with `layer` recorded as one whole."""
        if self.promote is None:
            self.promote = layer
        return RuntimeError(f"layer {layer.name} has to be recorded as one whole")

    @contextlib.contextmanager
    def _whole(self):
        self._inside += 1
        try:
            with self._readers[-1].stop_recording():
                yield
        finally:
            self._inside -= 1

    @contextlib.contextmanager
    def _reading(self, variables):
        """A layer may read its own `variables`; what else it reads itself has leaked."""
        tape = tf.GradientTape()
        self._readers.append(tape)
        try:
            with self._readers[-2].stop_recording(), tape:
                yield
        finally:
            self._readers.pop()
        self._read |= _watched(tape).difference(*(self._ids[id(v)] for v in variables))


def _watched(tape):
    return {id(v) for v in tape.watched_variables()}


def _ids(variable):
    """Ids under which a tape may know a variable: its own and those of its copies on the replicas."""
    value = layers_lib.raw(variable)
    return {id(value), *(id(copy) for copy in getattr(value, "values", ()))}


def graph():
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
