"""A picture of what a transform did."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from tfshape import checks
from tfshape.poison.elements import Layout
from tfshape.poison.transform import ORIGINS

if TYPE_CHECKING:
    import tensorflow as tf


def preview(
    dataset: tf.data.Dataset,
    clean: tf.data.Dataset | None = None,
    num: int = 8,
    image_key: str = "image",
    label_key: str = "label",
) -> Any:
    """Draws the first poisoned examples: clean, poison and their difference, each with its label.

        ts.poison.preview(data.apply(ts.poison.stamp(ts.poison.patch(), rate=0.1, target_class=7))).savefig("p.png")

    Differences are drawn around grey, scaled to the largest. Inserted examples have no clean counterpart. Rows of
    features are drawn as lines.

    Args:
      dataset: unbatched, just as the transforms of this package return it; it is read until `num` are found.
      clean: the same dataset before poisoning, in the same order. Needed only if something else was applied since.
      num: examples to draw, >= 1.
      image_key, label_key: as in `Transform`.

    Returns: a `matplotlib.figure.Figure`, with one row for clean, poison and difference; `savefig` writes it.
    Raises:
      ValueError: `clean` is needed, `num` is not positive, or no poison is found.
    """
    from matplotlib.figure import Figure

    num = checks.integer("preview: num", num, 1)
    source = dataset if clean is None else clean
    while clean is None and source in ORIGINS:
        source = ORIGINS[source]
    if source is dataset:
        checks.fail("preview: clean", "the clean dataset, since something was applied after the poison", clean)
    found = _differing(source, dataset, num, image_key, label_key)
    if not found:
        raise ValueError("preview: the dataset holds no poison")
    figure = Figure(figsize=(1.3 * max(len(found), 2) + 0.6, 4.6), layout="constrained")
    axes = figure.subplots(3, len(found), squeeze=False)
    for column, (index, before, after) in enumerate(found):
        difference = None if before is None else after[0].astype(np.float64) - before[0].astype(np.float64)
        _draw(axes[0, column], before and before[0], f"#{index}: {'new' if before is None else before[1]}")
        _draw(axes[1, column], after[0], f"→ {after[1]}")
        _draw(axes[2, column], difference, "", signed=True)
    for row, name in enumerate(("clean", "poison", "difference")):
        axes[row, 0].set_ylabel(name)
    return figure


def _differing(clean, poisoned, num, image_key, label_key):
    """[(index, (x, label) or None, (x, label))] of the first elements that are not the same."""

    def read(dataset):
        layout = Layout(dataset, "preview", image_key, label_key)
        for element in dataset.as_numpy_iterator():
            yield element[layout.x_at], int(layout.likeliest(element[layout.y_at][None])[0])

    found: list[tuple] = []
    for index, (before, after) in enumerate(itertools.zip_longest(read(clean), read(poisoned))):
        if after is None or len(found) == num:
            break
        if before is None or before[1] != after[1] or before[0].tobytes() != after[0].tobytes():
            found.append((index, before, after))
    return found


def _draw(axis, x, title, signed=False):
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
    if x is None:
        axis.set_frame_on(False)
        return
    white, x = 255 if x.dtype.kind in "iu" and x.max(initial=0) > 1 else 1, x.astype(np.float64)
    if x.ndim == 1:
        axis.plot(x, linewidth=0.8)
        return
    if signed:
        low, high = -max(np.abs(x).max(), 1e-12), max(np.abs(x).max(), 1e-12)
    else:
        low, high = min(x.min(), 0.0), max(x.max(), white)
    x = np.clip((x - low) / (high - low), 0, 1)
    if x.ndim == 3:
        x = x if x.shape[-1] == 3 else x.mean(-1)
    axis.imshow(x, cmap="gray", vmin=0, vmax=1)
