"""Availability attacks: small perturbations of every example that leave nothing to learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfshape import checks
from tfshape.poison.place import check_size
from tfshape.poison.transform import Transform
from tfshape.poison.values import Values, check_range, fingerprint, lift


def perturb(deltas: Any, by: str = "sample", value_range: Any = None, **element: Any) -> Transform:
    """Adds a perturbation to examples, such as error-minimising noise (Huang et al. 2021, arXiv 2101.04898).

    Examples whose delta is zero everywhere are untouched and count as clean.

    Args:
      deltas: finite numbers, in the units of the features (for uint8 images, pixel values): [N, *input_shape], one for
        each example by its index, or [num_classes, *input_shape].
      by: "sample", deltas[i] goes to example i; "class", deltas[c] goes to every example of class c.
      value_range: (low, high) that images are clipped to; by default as in `stamp`. Rows of features are not clipped,
        unless given.
      **element: `mark`, `image_key`, `label_key`, `num_parallel_calls`, as in `Transform`.

    Returns: a `Transform`.
    Raises:
      ValueError: a bad argument; when applied, a dataset of another size or elements it cannot perturb.
      tf.errors.InvalidArgumentError: in iteration, an image outside `value_range`, or a label without a delta.
    """
    deltas = np.asarray(deltas)
    if deltas.dtype.kind not in "fiu" or deltas.ndim < 2 or not len(deltas) or not np.isfinite(deltas).all():
        found = f"{deltas.dtype} {list(deltas.shape)}"
        raise ValueError(f"perturb: deltas must be finite numbers [N, *input_shape], got {found}")
    checks.choice("perturb: by", by, ("sample", "class"))
    value_range = None if value_range is None else check_range("perturb", value_range)
    some = (deltas != 0).any(axis=tuple(range(1, deltas.ndim)))

    def plan(layout, whole):
        if not layout.x_spec.shape.is_compatible_with(deltas.shape[1:]):
            raise ValueError(f"perturb: deltas must be for features {layout.x_spec.shape}, got {deltas.shape[1:]}")
        if by == "sample":
            check_size("perturb", whole, len(deltas))
        values = Values("perturb", layout.x_spec, value_range, layout.largest())
        table, perturbed = lift(deltas.astype(values.work.as_numpy_dtype)), lift(some)

        def slot(index, y):
            return index if by == "sample" else _checked(layout.class_of(y), len(deltas))

        def edit(index, x, y):
            delta = tf.gather(table, slot(index, y))
            return values.edit(x, lambda work: values.add(work, delta)), y

        return None if some.all() else lambda index, y: tf.gather(perturbed, slot(index, y)), edit

    config = {"deltas": fingerprint(deltas), "by": by, "value_range": value_range}
    return Transform("perturb", config, plan, by_index=by == "sample", **element)


def _checked(label, count):
    message = f"perturb: labels must be from 0 to {count - 1}, as there are deltas, got another"
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all((label >= 0) & (label < count)), [message])]):
        return tf.identity(label)
