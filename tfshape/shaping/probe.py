"""Does anything mix the examples of a batch? Some rows are replaced; nothing about the others may change.

Shaping bounds what one example does to an update only if the loss and the gradient of a row depend on that row alone.
No look at the code can tell, so a batch is run again with half of its rows replaced by copies of another row.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from .. import gradients
from ..gradients import layers as layers_lib
from ..gradients import patch
from . import portable
from .compiling import loss_name
from .replay import Replay, variables_of

_EPSILON = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that `ts.check` found.

    Attributes:
        kind: what it is, one word for programs, such as "mixes_rows".
        blocks: whether training with this is not private, or fails; False for a mere note.
        message: one line for people.
        layer, layer_class, rule: the layer it is about, its class, and the rule that computes its gradients; None where
            it is about no layer.
    """

    kind: str
    blocks: bool
    message: str
    layer: str | None = None
    layer_class: str | None = None
    rule: str | None = None


class Probe:
    """Examines the first batch of training that has two different rows, once.

    A step's graph hands the batch out, and what is wrong with it is said between two steps: TensorFlow could run out of
    threads if the model were called anew from inside of a step.
    """

    def __init__(self, model: Any, loss: Any, microbatch: int | None) -> None:
        self._model, self._loss, self._microbatch = model, loss, microbatch
        self._pending = portable.pending()  # for graphs
        self._waits = True
        self._batches: list = []

    def see(self, x: Any, y: Any) -> None:
        """Keeps the batch x, y of a step, in a graph or outside, for `conclude`."""
        structure = (x, y)
        leaves = [leaf for leaf in tf.nest.flatten(structure) if leaf is not None]

        def keep(*leaves):
            self._batches.append(_filled(structure, leaves))
            return True

        if tf.executing_eagerly():
            keep(*leaves)
        else:
            tf.cond(self._pending.value, lambda: tf.py_function(keep, leaves, tf.bool), lambda: True)

    @property
    def pending(self) -> bool:
        """Whether a batch has yet to be examined."""
        return self._waits

    def watching(self, step: Any, variables: Any, then: Any) -> Any:
        """A function like `step`, a function of an iterator that trains, which examines what the step has seen.

        variables: a function that returns those that are set back when the batch is refused. then: called, unless
        None, once a batch has passed.
        """

        def watched(iterator):
            if not self.pending:
                return step(iterator)
            before = [(variable, tf.identity(variable)) for variable in map(layers_lib.raw, variables())]
            logs = step(iterator)
            try:
                self._conclude()
            except ValueError:
                for variable, value in before:
                    variable.assign(value)
                raise
            if then is not None and not self.pending:
                then()
            return logs

        return watched

    def _conclude(self):
        batches, self._batches = self._batches, []
        for x, y in batches:
            if self._microbatch is not None:
                x, y = tf.nest.map_structure(lambda t: None if t is None else t[: self._microbatch], (x, y))
            findings = examine(self._model, self._loss, x, y)
            if findings is None:  # nothing to see in this batch: the next one
                continue
            for finding in findings:
                if finding.blocks:
                    raise ValueError(f"{finding.message} (ts.shape(…, probe=False) trains without this check)")
                warnings.warn(finding.message, stacklevel=2)
            self._pending.value.assign(False)
            self._waits = False
            return


def examine(model: Any, loss: Any, x: Any, y: Any) -> list[Finding] | None:
    """What changed about rows of x, y that stayed, when others were replaced; None if no two rows differ.

    The model and everything random is left as it was. Raises ValueError for what the gradient engine refuses.
    """
    structure = (x, y)
    leaves = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(structure) if leaf is not None]
    ways = swaps(leaves)
    if not ways:
        return None

    def gradients_of(*leaves):
        x, y = _filled(structure, leaves)
        found = gradients.per_example(model, loss, x, y, training=True)
        return {"loss": found.losses, "norm": found.norms}

    replay = Replay(gradients_of, model)
    base = replay(*leaves)
    state = replay.changed
    changed, kept_state = set(), {}
    for kept, source in ways:
        other = replay(*[tf.gather(leaf, source) for leaf in leaves])
        changed |= {name for name in base if moved(base[name], other[name], kept, model).any()}
        kept_state.update(_differing(state, replay.changed))
    if not changed and not kept_state:
        return []
    once_more = replay(*leaves)
    everything = np.ones(len(kept), bool)
    if any(moved(base[name], once_more[name], everything, model).any() for name in base):
        return [Finding("unrepeatable", False, _UNREPEATABLE.format(model.name))]
    findings = _state_findings(model, kept_state)
    if changed:
        mixing = mixing_layers(model, x)
        if not mixing and "loss" in changed:
            mixing = [mixing_loss(loss)]
        findings += mixing or [Finding("gradient_mixes_rows", True, _GRADIENT.format(model.name))]
    return findings


def mixing_layers(model: Any, x: Any) -> list[Finding]:
    """One finding for each layer, in the order of their calls, whose output for a row depends on other rows."""
    leaves = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(x)]
    layers = layers_lib.tree(model)
    names: list = []

    def plain(*leaves):
        return _watched(model, layers, tf.nest.pack_sequence_as(x, leaves), None, names)

    def forced(kept, *tensors):
        known, leaves = tensors[: len(shapes)], tensors[len(shapes) :]
        return _watched(model, layers, tf.nest.pack_sequence_as(x, leaves), (kept, known), names)

    shapes = Replay(plain, model)(*leaves)
    replay = Replay(forced, model)
    found: dict = {}
    for kept, source in swaps(leaves):
        base = replay(tf.zeros_like(kept), *shapes, *leaves)
        # each tensor is put back to its base value once it was looked at: what a layer mixes is blamed on no later one
        other = replay(tf.constant(kept), *base, *[tf.gather(leaf, source) for leaf in leaves])
        for (layer, before), old, new in zip(names, base, other):
            if moved(old, new, kept, model).any():
                found.setdefault(id(layer), (layer, before))
    return [_mixing(layer, before) for layer, before in found.values()]


_REMEDY = "examples then have no gradients of their own, and no sensitivity or epsilon holds"
_LOSS = (
    "loss must give each row a value that depends on that row alone, got {}: its value for a row changed when other "
    f"rows of the batch were replaced; {_REMEDY}"
)
_GRADIENT = (
    "model must give each row a gradient that depends on that row alone, got {}: norms changed when other rows of the "
    f"batch were replaced, though no layer's output did (look for a custom gradient); {_REMEDY}"
)
_STATE = (
    "layer {} ({}) keeps values that it computes from the examples in its variable {}, which no shaping bounds and no "
    "noise covers; freeze it, or keep such values outside the model"
)
_UNREPEATABLE = (
    "model {} draws random numbers that cannot be repeated, so that it could not be tested for layers or losses that "
    "mix the examples of a batch"
)


def mixing_loss(loss: Any) -> Finding:
    """The finding that `loss` mixes rows."""
    return Finding("loss_mixes_rows", True, _LOSS.format(loss_name(loss)))


def _mixing(layer, before):
    kind = f"{layer.name} ({type(layer).__name__})"
    where = f"its output for a row changed when other rows were replaced; {_REMEDY}"
    if before is not None:
        where = f"what it hands to layer {before.name} for a row changed when other rows were replaced; {_REMEDY}"
    message = f"layer {kind} mixes the examples of a batch: {where}"
    return Finding("mixes_rows", True, message, layer.name, type(layer).__name__)


def _state_findings(model, changed):
    findings = []
    for layer in layers_lib.tree(model):
        for variable in variables_of([layer], metrics=False):
            if id(variable) in changed:
                del changed[id(variable)]
                kind = type(layer).__name__
                message = _STATE.format(layer.name, kind, variable.name)
                findings.append(Finding("keeps_state", True, message, layer.name, kind))
    return findings


class _Watcher:
    """Notes what layers compute and hand on, in the place of the engine's record (see `gradients.patch`).

    names: filled with (layer, None) for an output of a layer, and (layer, next) for what it hands to the next one.
    force: (rows, values of the same tensors in an earlier pass): these rows are put back to those values.
    """

    def __init__(self, layers, force, names):
        self.units = {id(layer): layer for layer in layers}
        self.tensors = []
        self._force, self._names, self._stack = force, names, []
        self._graph = _graph()

    def on_call(self, layer, call, args, kwargs):
        if _graph() is not self._graph:  # a loop's body, whose tensors cannot be seen out here
            return patch.invoke(call, args, kwargs)
        if self._stack:
            args, kwargs = self._noted((args, kwargs), self._stack[-1], layer)
        self._stack.append(layer)
        try:
            outputs = patch.invoke(call, args, kwargs)
        finally:
            self._stack.pop()
        return self._noted(outputs, layer, None)

    def on_activation(self, layer, activation, args, kwargs):
        return patch.invoke(activation, args, kwargs)

    def _noted(self, structure, layer, before):
        return tf.nest.map_structure(lambda leaf: self._note(leaf, layer, before), structure)

    def _note(self, leaf, layer, before):
        if not tf.is_tensor(leaf) or not (leaf.dtype.is_floating or leaf.dtype.is_integer or leaf.dtype.is_bool):
            return leaf
        if not isinstance(leaf, tf.Tensor):
            return leaf
        place = len(self.tensors)
        self.tensors.append(leaf)
        self._names.append((layer, before))
        if self._force is None:
            return leaf
        rows, values = self._force
        put_back = tf.where(_rows_of(leaf, rows), values[place], leaf)
        put_back.set_shape(leaf.shape)
        if hasattr(leaf, "_keras_mask"):
            put_back._keras_mask = leaf._keras_mask
        return put_back


def _rows_of(tensor, rows):
    """rows [B] in the shape that picks them in `tensor`; any row at all, if the tensor has no batch axis."""
    if tensor.shape.rank and tensor.shape[0] == rows.shape[0]:
        return tf.reshape(rows, [-1] + [1] * (tensor.shape.rank - 1))
    return tf.reduce_any(rows)


def _watched(model, layers, x, force, names):
    """What `model` on x computes, all layers' tensors in the order of `names`."""
    names.clear()
    watcher = _Watcher(layers, force, names)
    with patch.patched(layers), patch.acting(watcher):
        model(x, training=True)
    return watcher.tensors


def _graph():
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def _filled(structure, leaves):
    """`structure` with `leaves` in the place of everything that is not None."""
    leaves = iter(leaves)
    return tf.nest.map_structure(lambda leaf: None if leaf is None else next(leaves), structure)


def swaps(leaves):
    """Two ways to replace rows: -> list of (kept [B], source [B]: the row that each row becomes); [] if no rows differ.

    Half of the rows, drawn at random, become copies of one of the others; then the other half does. Any row is a valid
    one then, even of tokens; and no mean, extreme or neighbour of a batch stays what it was.
    """
    rows = len(leaves[0])
    arrays = [leaf.numpy() for leaf in leaves]
    contents = [tuple(a[i].tobytes() if a.dtype != object else repr(a[i]) for a in arrays) for i in range(rows)]
    ways = []
    if len(set(contents)) > 1:
        order = np.random.default_rng(0).permutation(rows)
        for kept_rows in (order[: rows // 2], order[rows // 2 :]):
            kept = np.isin(np.arange(rows), kept_rows)
            changed = [sum(contents[i] != contents[k] for i in np.flatnonzero(~kept)) for k in kept_rows]
            if max(changed) > 0:
                ways.append((kept, np.where(kept, np.arange(rows), kept_rows[np.argmax(changed)])))
    return ways


def _epsilon(model):
    """The relative rounding error of the coarsest layer."""
    return max(_EPSILON.get(str(layer.compute_dtype), 0.0) for layer in layers_lib.tree(model)) or _EPSILON["float32"]


def moved(old, new, kept, model):
    """Which of the rows `kept` [B] of two arrays [B, ...] differ by more than rounding."""
    old, new, epsilon = np.asarray(old), np.asarray(new), _epsilon(model)
    if old.shape and len(old) == len(kept):
        old, new = old[kept], new[kept]
    elif old.size % len(kept) == 0 and old.size:  # rows folded with another axis
        old, new = (array.reshape(len(kept), -1)[kept] for array in (old, new))
    else:
        old, new = old[None], new[None]
    old, new = (array.reshape(len(array), -1).astype("float64") for array in (old, new))
    with np.errstate(invalid="ignore"):
        differ = np.where((old == new) | (np.isnan(old) & np.isnan(new)), 0.0, np.abs(old - new))
    size = np.maximum(np.abs(np.where(np.isfinite(old), old, 0)), np.abs(np.where(np.isfinite(new), new, 0)))
    bound = np.sqrt(epsilon) * size.max(1, initial=0.0) + epsilon * size.max(initial=0.0)
    return ~(differ.max(1, initial=0.0) <= bound)


def _differing(base, other):
    """The entries of two dicts of changed variables that are not the same in both."""
    everything = {**base, **other}
    return {key: value for key, value in everything.items() if not _same(base.get(key), other.get(key))}


def _same(a, b):
    return a is not None and b is not None and np.array_equal(a, b)
