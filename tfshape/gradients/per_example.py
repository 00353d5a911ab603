"""Per-example gradients of a Keras model: norms, inner products and weighted sums of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import tensorflow as tf

from tfshape.gradients import layers as layers_lib
from tfshape.gradients import losses as losses_lib
from tfshape.gradients import parts as parts_lib
from tfshape.gradients import record as record_lib
from tfshape.gradients import scaling

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _do_not_convert(function: _Function) -> _Function:
    """TensorFlow's decorator, which says no types."""
    return cast(_Function, tf.autograph.experimental.do_not_convert(function))


@_do_not_convert
def per_example(
    model: Any,
    loss: Any,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    training: bool = True,
    variables: Sequence[Any] | None = None,
) -> PerExample:
    """Gradients of each example's loss, never materialised unless asked: one forward and one backward pass.

    Args:
      model: a built `keras.Model` (or one that calling builds).
      loss: a loss name, a `keras.losses.Loss` of any reduction, or a function (y_true, y_pred) -> [B] or [B, ...],
        averaged over the further axes.
      x, y: a batch; tensors or nests of tensors [B, ...].
      sample_weight: [B], multiplies the losses; an example of weight zero is padding: its gradient is exactly zero.
      training: what the model is called with.
      variables: those to differentiate, in this order; by default `model.trainable_variables`.

    Returns: a `PerExample`.

    Regularisation losses are no part of the per-example gradients; see `PerExample.regularization`.

    Raises ValueError for a loss with no value per example; for a layer that mixes the examples of a batch (batch
    normalisation in training mode); for losses added by the model that depend on the examples (`activity_regularizer`,
    `add_loss` of activations), which no clipping would bound.

    Source: book-keeping, Bu et al. 2022, arXiv 2210.00038; norms, Goodfellow 2015, arXiv 1510.01799.
    """
    x, y = tf.nest.map_structure(tf.convert_to_tensor, (x, y))
    if not all(layer.built for layer in layers_lib.tree(model)):
        model(x, training=False)
    variables = list(model.trainable_variables if variables is None else variables)
    record, losses, y_pred = record_lib.run(
        model, variables, x, training, lambda y_pred: losses_lib.per_example_losses(loss, y, y_pred, sample_weight)
    )
    padding = None if sample_weight is None else tf.reshape(tf.cast(sample_weight, losses.dtype), [-1]) == 0
    return PerExample(model, variables, _groups(record, variables), losses, y_pred, padding)


def _groups(record, variables):
    """-> list of (name, parts), one a layer in the order of its variables; layers that share a variable are one."""
    order = {id(v): i for i, v in enumerate(variables)}
    groups: list[tuple[str, set[int], list]] = []
    for unit in record.units.values():
        if unit is None or not unit.calls:
            continue
        ids = {id(v) for v in unit.variables}
        name, found = unit.layer.name, unit.parts()
        for other in [group for group in groups if group[1] & ids]:
            groups.remove(other)
            name, ids, found = f"{other[0]}+{name}", ids | other[1], other[2] + found
        groups.append((name, ids, found))
    groups.sort(key=lambda group: min(order[i] for i in group[1]))
    return [(name, parts_lib.merge(found)) for name, _, found in groups]


class PerExample:
    """Per-example gradients g_i of a batch of B, in factored form. Made by `per_example`.

    Attributes:
      losses: [B], times the sample weights.
      y_pred: the model's output.
      variables: what the gradients are with respect to.
      layers: list of (name, indices into `variables`), one a row of `layer_norms`: a layer with variables of its own,
        or several if they share a variable. Variables of layers that were not called are in no row.

    All methods work eagerly and in a `tf.function`, and are differentiable (with respect to x, for instance) if
    `per_example` was called under the outer tape too. Norms are summed in float32, or float64 in a float64 model, of
    numbers scaled so that no square over- or underflows: no norm is smaller than the true one but for rounding. The
    norm of an example is not finite if its gradient is infinite or NaN, or the norm itself too large for the dtype.
    """

    @_do_not_convert
    def __init__(
        self, model: Any, variables: list, groups: list, losses: tf.Tensor, y_pred: Any, padding: tf.Tensor | None
    ) -> None:
        self.losses, self.y_pred, self.variables = losses, y_pred, variables
        place = {id(v): i for i, v in enumerate(variables)}
        self.layers = [(name, [place[id(v)] for part in found for v in part.variables]) for name, found in groups]
        self._groups = [found for _, found in groups]
        self._model, self._padding, self._place = model, padding, place
        self._graph = record_lib.graph()
        self._kept: dict = {}

    def _once(self, name, make):
        """Compute a tensor once, unless it is asked for inside a branch or loop, whose tensors do not get out."""
        if record_lib.graph() is not self._graph:
            return make()
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def _squares(self):
        """[L, B], float64."""
        rows = [tf.add_n([part.squares() for part in found]) for found in self._groups]
        return tf.stack(rows) if rows else tf.zeros([0, tf.shape(self.losses)[0]], tf.float64)

    @property
    @_do_not_convert
    def layer_norms(self) -> tf.Tensor:
        """[L, B]: l2 norms of the parts of each gradient, a row an entry of `layers`."""
        return self._once("layer_norms", lambda: self._root(self._once("squares", self._squares)[None]))

    @property
    @_do_not_convert
    def norms(self) -> tf.Tensor:
        """[B]: l2 norm of each example's gradient."""
        return self._once("norms", lambda: self._root(self._once("squares", self._squares)))

    @property
    @_do_not_convert
    def finite(self) -> tf.Tensor:
        """[B], bool: whether an example's loss and the norm of its gradient are finite."""
        return tf.math.is_finite(self.losses) & tf.math.is_finite(self.norms)

    def _root(self, squares):
        """Root of the sum over the first axis; zero for padding."""
        if self._padding is not None:
            squares = tf.where(self._padding, tf.zeros_like(squares), squares)
        return scaling.root(squares, self.losses.dtype)

    @_do_not_convert
    def dot(self, direction: Sequence[Any], weights: Any = None) -> tf.Tensor:
        """[B]: inner product of each gradient with `direction`, a list of tensors like `variables`.

        weights: [B], multiplies the gradients before anything can over- or underflow.
        """
        total, weights = tf.zeros_like(self.losses), self._weights(weights)
        for part in self._parts():
            found = part.dot([tf.cast(direction[self._place[id(v)]], total.dtype) for v in part.variables], weights)
            total += tf.cast(found, total.dtype)
        return total if self._padding is None else tf.where(self._padding, tf.zeros_like(total), total)

    @_do_not_convert
    def gram(self, weights: Any = None) -> tf.Tensor:
        """[B, B]: inner products of the gradients with each other; weights: as in `dot`."""
        return self._masked_gram(self._parts(), weights)

    def _weights(self, weights):
        return tf.ones(tf.shape(self.losses), tf.float64) if weights is None else tf.cast(weights, tf.float64)

    @_do_not_convert
    def layer_gram(self, weights: Any = None) -> tf.Tensor:
        """[L, B, B]: inner products of the parts of each gradient, one for each of `layers`; they sum to `gram`."""
        return tf.stack([self._masked_gram(found, weights) for found in self._groups])

    def _masked_gram(self, parts, weights=None):
        count, dtype, weights = tf.shape(self.losses)[0], self.losses.dtype, self._weights(weights)
        total = tf.add_n([tf.zeros([count, count], dtype)] + [tf.cast(p.gram(weights), dtype) for p in parts])
        if self._padding is None:
            return total
        return tf.where(self._padding[:, None] | self._padding[None, :], tf.zeros_like(total), total)

    @_do_not_convert
    def weighted_sum(self, weights: Any) -> list[tf.Tensor]:
        """sum_i weights_i g_i, a list like `variables`.

        A product of a weight and a gradient that is too small for the dtype counts as zero: the example then
        contributes less, never more.

        weights: [B], or [L, B] with a row an entry of `layers`. An example of weight zero contributes exactly zero even
        if its gradient is NaN or infinite.
        """
        weights = tf.cast(weights, self.losses.dtype)
        if weights.shape.rank not in (1, 2):
            raise ValueError(f"weights must have shape [B], or [L, B] with L={len(self.layers)}, got {weights.shape}")
        if self._padding is not None:
            weights = tf.where(self._padding, tf.zeros_like(weights), weights)
        squares = self._once("squares", self._squares)  # not the norms, which hide what padding holds
        squares = tf.reduce_sum(squares, 0) if weights.shape.rank == 1 else squares
        # 0 * NaN is NaN: with an example to leave out, the slower way that masks the factors too
        harmful = tf.reduce_any((weights == 0) & ~tf.math.is_finite(squares))
        masked = lambda: self._sum(weights, weights != 0)  # noqa: E731
        if not tf.executing_eagerly():  # one operation, where all of its would each be passed over in every step
            masked = tf.function(masked, autograph=False, experimental_attributes={"_noinline": True})
        sums = self._sum(weights, None)
        return list(tf.cond(harmful, masked, lambda: sums))

    def _sum(self, weights, keep):
        found: dict[int, tf.Tensor] = {}
        for row, parts in enumerate(self._groups):
            mine = weights if weights.shape.rank == 1 else weights[row]
            kept = keep if keep is None or weights.shape.rank == 1 else keep[row]
            for part in parts:
                sums = part.weighted_sum(mine, kept)
                found.update((id(v), s) for v, s in zip(part.variables, sums))
        return [
            tf.cast(found[id(v)], v.dtype) if id(v) in found else tf.zeros(v.shape, v.dtype) for v in self.variables
        ]

    @_do_not_convert
    def materialize(self) -> list[tf.Tensor]:
        """List of [B, *variable.shape]: the gradients themselves. The only method that costs B times the parameters."""
        found = {id(v): g for part in self._parts() for v, g in zip(part.variables, part.materialize())}
        count = tf.shape(self.losses)[0]
        gradients = [
            tf.cast(found[id(v)], v.dtype) if id(v) in found else tf.zeros([count, *v.shape], v.dtype)
            for v in self.variables
        ]
        keep = None if self._padding is None else ~self._padding
        return [parts_lib.zero_rows(g, keep) for g in gradients]

    def _parts(self):
        return [part for found in self._groups for part in found]

    @_do_not_convert
    def regularization(self) -> list[tf.Tensor | None] | None:
        """Gradients of the model's regularisation losses, a list like `variables` with None where there is none.

        None if the model has no such losses. They depend on no example, so nothing of them needs clipping or noise: add
        them to the update as they are, next to the mean of the shaped gradients.
        """
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in self.variables:
                tape.watch(layers_lib.raw(variable))
            losses = list(self._model.losses)
        if not losses:
            return None
        gradients = tape.gradient(losses, [layers_lib.raw(v) for v in self.variables])
        return [g if g is None else tf.convert_to_tensor(g) for g in gradients]
