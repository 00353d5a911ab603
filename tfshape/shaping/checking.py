"""`ts.check`: everything that stands in the way of shaping a model, listed at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .. import gradients
from ..gradients import layers as layers_lib
from ..gradients import per_example_losses, record, rules
from . import probe
from .compiling import joint_loss, loss_name
from .model import misfits
from .probe import Finding
from .replay import Replay


@dataclasses.dataclass(frozen=True)
class CheckedLayer:
    """A layer with trainable variables: its name, its class, the rule that computes its gradients, and whether that is
    slow, because the layer is run again one example at a time."""

    name: str
    layer_class: str
    rule: str
    slow: bool
    parameters: int


@dataclasses.dataclass(frozen=True)
class Checked:
    """What `ts.check` found.

    Attributes:
        model: the model's name.
        layers: one `CheckedLayer` for each layer with trainable variables.
        findings: one `Finding` for each thing to know; those that block training come first.
        ok: whether no finding blocks.
    """

    model: str
    layers: tuple[CheckedLayer, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not any(finding.blocks for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {**dataclasses.asdict(self), "ok": self.ok}

    def __str__(self) -> str:
        blocking = sum(finding.blocks for finding in self.findings)
        notes = len(self.findings) - blocking
        verdict = "can be shaped" if self.ok else f"cannot be shaped: {_count(blocking, 'finding')} to mend"
        lines = [f"{self.model} {verdict}{f' ({notes} to note)' if notes else ''}."]
        if self.layers:
            rows = [("layer", "class", "rule", "parameters")]
            for layer in self.layers:
                rule = f"{layer.rule} (slow)" if layer.slow else layer.rule
                rows.append((layer.name, layer.layer_class, rule, f"{layer.parameters:,}"))
            widths = [max(map(len, column)) for column in zip(*rows)]
            lines.append("")
            for row in rows:
                cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths)]
                lines.append("  ".join([*cells, row[-1].rjust(widths[-1])]))
        if self.findings:
            lines += ["", *(f"{'!' if finding.blocks else '-'} {finding.message}" for finding in self.findings)]
        return "\n".join(lines)


def check(model: keras.Model, loss: Any, x: Any, y: Any, loss_weights: Any = None) -> Checked:
    """Examines whether `model` can be trained by `ts.shape` with `loss`, and lists every finding at once.

    It looks for layers and losses that mix the rows of a batch, training methods that would be ignored, layers that
    keep values of examples, losses without a value for each example, variables that get no gradient, gradients that are
    not finite, and layers that are slow. The model stays as it is, but for being built.

    Args:
        model: the model that you would hand to `ts.shape`.
        loss: as for `compile`: a name, a Keras loss, a function, or a list or dict of them.
        x, y: one batch of at least two rows, as `train_on_batch` takes it.
        loss_weights: as for `compile`.

    Returns:
        A `Checked`: its `ok`, `findings` and `layers` are data, its `str` is a text with the verdict first. A finding
        is never an exception.

    Example:
        >>> import keras, numpy as np, tfshape as ts
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(3)])
        >>> found = ts.check(model, "mse", np.random.rand(8, 4), np.random.rand(8, 3))
        >>> found.ok, found.findings[0].kind, found.findings[0].layer_class
        (False, 'mixes_rows', 'BatchNormalization')
    """
    findings = misfits(model)
    if any(finding.kind == "already_shaped" for finding in findings):
        return Checked(model.name, (), tuple(findings))
    example_loss = None
    try:
        example_loss = joint_loss(loss, loss_weights, getattr(model, "output_names", None))
    except ValueError as error:
        findings.append(Finding("refused", True, _line(error)))
    x, y = tf.nest.map_structure(tf.convert_to_tensor, (x, y))
    try:
        if not all(layer.built for layer in layers_lib.tree(model)):
            model(x, training=False)
        mixing = probe.mixing_layers(model, x)
    except Exception as error:  # whatever a layer raises on this batch
        findings.append(Finding("refused", True, f"model {model.name} cannot be called on x: {_line(error)}"))
        return Checked(model.name, (), tuple(findings))
    findings += mixing
    layers = _layers(model, {})
    if example_loss is not None:
        findings += _of_loss(model, example_loss, x, y)
        found, layers = _of_gradients(model, example_loss, x, y)
        findings += found
    for layer in layers:
        if layer.slow:
            message = (
                f"layer {layer.name} ({layer.layer_class}) has no rule: it is run once more, one example at a time"
            )
            findings.append(Finding("slow_path", False, message, layer.name, layer.layer_class))
    by_name = {layer.name: layer.rule for layer in layers}
    findings = [dataclasses.replace(finding, rule=by_name.get(finding.layer)) for finding in findings]
    findings = list({(finding.kind, finding.layer, finding.message): finding for finding in findings}.values())
    return Checked(model.name, layers, tuple(sorted(findings, key=lambda finding: not finding.blocks)))


def _of_loss(model, loss, x, y):
    """Whether the loss by itself mixes rows, whatever the layers do."""
    y_pred = model(x, training=False)
    leaves = tf.nest.flatten((y, y_pred))

    def losses(leaves):
        return per_example_losses(loss, *tf.nest.pack_sequence_as((y, y_pred), leaves))

    try:
        base = losses(leaves)
        for kept, source in probe.swaps(leaves):
            if probe.moved(base, losses([tf.gather(leaf, source) for leaf in leaves]), kept, model).any():
                return [probe.mixing_loss(loss)]
    except Exception as error:  # whatever the loss raises
        return [Finding("refused", True, f"loss {loss_name(loss)} cannot be called on y: {_line(error)}")]
    return []


def _of_gradients(model, loss, x, y):
    """-> (what the gradients of the batch show, the layers)."""
    variables = list(model.trainable_variables)
    units: dict[int, Any] = {}

    def engine(*leaves):
        x, y = tf.nest.pack_sequence_as((given_x, given_y), leaves)
        made, *_ = record.run(model, variables, x, True, lambda y_pred: per_example_losses(loss, y, y_pred))
        units.update({id(unit.layer): unit for unit in made.units.values() if unit is not None})
        found = gradients.per_example(model, loss, x, y)
        return found.losses, found.norms

    given_x, given_y = x, y
    try:
        losses, norms = Replay(engine, model)(*tf.nest.flatten((x, y)))
        found = probe.examine(model, loss, x, y)
    except Exception as error:  # what the engine refuses
        return [Finding("refused", True, _line(error))], _layers(model, {})
    if found is None:
        message = "x and y need two rows that differ to tell whether anything mixes the rows of a batch"
        found = [Finding("not_examined", False, message)]
    bad = int(np.sum(~(np.isfinite(losses) & np.isfinite(norms))))
    if bad:
        message = f"{bad} of {len(norms)} rows have a loss or gradient that is not finite: they contribute nothing"
        found.append(Finding("not_finite", False, message))
    used = [unit for unit in units.values() if any(call.connected for call in unit.calls)]
    seen = {id(variable) for unit in used for variable in unit.variables}
    for unit in units.values():
        if not seen.issuperset(map(id, unit.variables)):
            seen |= set(map(id, unit.variables))
            kind = type(unit.layer).__name__
            message = f"layer {unit.layer.name} ({kind}) has trainable variables of which the loss knows nothing"
            found.append(Finding("no_gradient", False, message, unit.layer.name, kind))
    return found, _layers(model, units)


def _layers(model, units):
    """A `CheckedLayer` for each layer that owns trainable variables, by the engine's units if it got that far."""
    wanted = {id(variable): variable for variable in model.trainable_variables}
    found: list[CheckedLayer] = []
    covered: set[int] = set()
    for layer in layers_lib.tree(model):
        unit = units.get(id(layer)) if units else rules.unit(layer, wanted, False)
        if unit is None or covered.issuperset(map(id, unit.variables)):
            continue
        covered |= set(map(id, unit.variables))
        rule, slow = type(unit).__module__.split(".")[-1], isinstance(unit, rules.fallback.Unit)
        count = sum(int(np.prod(variable.shape)) for variable in unit.variables)
        found.append(CheckedLayer(layer.name, type(layer).__name__, rule, slow, count))
    return tuple(found)


def _line(error):
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"
