"""Label flipping: the poison an annotator, or nobody in particular, puts in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfshape import checks
from tfshape.poison import selection
from tfshape.poison.transform import Transform, chooser


def flip_labels(
    rate: float,
    num_classes: int,
    seed: int = 0,
    mapping: Any = "uniform",
    classes: Sequence[int] | None = None,
    **element: Any,
) -> Transform:
    """Gives a share of the examples another label.

    Args:
      rate: share in [0, 1] of the whole dataset, not of the eligible examples.
      num_classes: number of classes, >= 2. Labels are integers or one-hot, not smoothed.
      seed: integer; chooses the examples and, for "uniform", their new labels.
      mapping: "uniform", to another class drawn uniformly (symmetric noise; Biggio et al. 2011, "Support Vector
        Machines Under Adversarial Label Noise"); "pairwise", class c to (c + 1) mod num_classes (pair flipping; Han et
        al. 2018, arXiv 1804.06872); or a dict {from: to}, whose keys alone are eligible.
      classes: only examples of these classes are eligible; None for all.
      **element: `mark`, `image_key`, `label_key`, `num_parallel_calls`, as in `Transform`.

    Returns: a `Transform`.
    Raises:
      ValueError: a bad argument; when applied, too few eligible examples or elements it cannot read.
    """
    who = "flip_labels"
    rate, seed = checks.real(f"{who}: rate", rate, 0, 1), checks.integer(f"{who}: seed", seed)
    num_classes = checks.integer(f"{who}: num_classes", num_classes, 2)
    targets = _targets(who, mapping, num_classes)
    classes = selection.check_classes(who, classes, num_classes)
    found = set(range(num_classes)) if targets is None else {c for c, to in enumerate(targets) if to != c}
    sources = sorted(found if classes is None else found & set(classes))
    if not sources:
        checks.fail(f"{who}: classes", f"some class that mapping={checks.shown(mapping)} changes", classes)
    everything = len(sources) == num_classes
    eligible = (lambda label: (label >= 0) & (label < num_classes)) if everything else selection.is_among(sources)

    def plan(layout, whole):
        if layout.one_hot:
            wide = layout.num_classes
            checks.require(
                f"{who}: num_classes", wide == num_classes, f"{wide} as the one-hot labels have", num_classes
            )
        layout.check_label("new label", num_classes - 1 if targets is None else max(targets[c] for c in sources))

        def edit(index, x, y):
            label = layout.class_of(y)
            with tf.control_dependencies([layout.assert_still(eligible(label))]):
                if targets is None:
                    step = 1 + selection.draw(seed, "flip_labels to", index) % (num_classes - 1)
                    label = (label + step) % num_classes
                else:
                    label = tf.gather(tf.constant(targets, tf.int64), label)
            return x, layout.label_as(label)

        return chooser(layout, whole, rate, seed, None if everything else eligible), edit

    named = {c: targets[c] for c in sources} if isinstance(mapping, dict) else mapping
    config = {"rate": rate, "num_classes": num_classes, "seed": seed, "mapping": named, "classes": classes}
    return Transform(who, config, plan, **element)


def _targets(who, mapping, num_classes):
    """The new class of each class; None for a random one."""
    if mapping == "uniform":
        return None
    if mapping == "pairwise":
        return [(c + 1) % num_classes for c in range(num_classes)]
    if not isinstance(mapping, dict) or not mapping:
        checks.fail(f"{who}: mapping", "'uniform', 'pairwise' or a dict such as {3: 4}", mapping)
    targets = list(range(num_classes))
    for source, target in mapping.items():
        source = checks.integer(f"{who}: mapping", source, 0, num_classes - 1)
        targets[source] = checks.integer(f"{who}: mapping", target, 0, num_classes - 1)
        checks.require(f"{who}: mapping", source != targets[source], "a dict to other classes", mapping)
    return targets
