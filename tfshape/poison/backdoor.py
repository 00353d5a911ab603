"""Backdoors: stamp a trigger on training examples, then on the test set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfshape import checks
from tfshape.poison import selection
from tfshape.poison.elements import map_rows
from tfshape.poison.place import cardinality
from tfshape.poison.transform import Transform, chooser
from tfshape.poison.triggers import Trigger
from tfshape.poison.values import check_range


def stamp(
    trigger: Any,
    rate: float,
    target_class: int,
    relabel: bool = True,
    seed: int = 0,
    classes: Sequence[int] | None = None,
    value_range: Any = None,
    **element: Any,
) -> Transform:
    """Stamps a trigger on a share of the examples and, unless told otherwise, labels them as the target class.

    Args:
      trigger: a `Trigger`: `patch`, `blend`, `sinusoid` or `warp`.
      rate: share in [0, 1] of the whole dataset, not of the eligible examples.
      target_class: the class that the trigger shall mean.
      relabel: True: examples of other classes are eligible and become the target class (Gu et al. 2017, arXiv
        1708.06733). False: examples of the target class are eligible and labels stay (clean-label; Barni et al. 2019,
        arXiv 1902.11237; Turner et al. 2019, arXiv 1912.02771).
      seed: integer; chooses the examples.
      classes: eligible classes, if not those.
      value_range: (low, high) of the pixels; by default (0, 1) for float images and (0, 255) for uint8, or (0, 1)
        if the first of these hold only 0 and 1. Rows of features are stamped in their own units and not clipped, unless
        given; uint8 rows that hold more than 0 and 1 need it where the trigger does not say its own values.
      **element: `mark`, `image_key`, `label_key`, `num_parallel_calls`, as in `Transform`.

    Returns: a `Transform`.
    Raises:
      ValueError: a bad argument; when applied, too few eligible examples or elements it cannot stamp.
      tf.errors.InvalidArgumentError: in iteration, an image to be stamped has values outside `value_range`.
    """
    rate, seed = checks.real("stamp: rate", rate, 0, 1), checks.integer("stamp: seed", seed)
    config = _check("stamp", trigger, target_class, relabel, classes, value_range)
    target_class, relabel, classes = config["target_class"], config["relabel"], config["classes"]
    if relabel and classes:
        others = target_class not in classes
        checks.require("stamp: classes", others, f"classes other than target_class={target_class}", classes)
    if classes:
        eligible = selection.is_among(classes)
    else:
        eligible = (lambda label: label != target_class) if relabel else selection.is_among([target_class])

    def plan(layout, whole):
        stamped = _bind(trigger, layout, target_class, value_range)

        def edit(index, x, y):
            label = layout.class_of(y)
            with tf.control_dependencies([layout.assert_still(eligible(label))]):
                x = stamped(x)
            return x, layout.label_as(tf.fill(tf.shape(label), target_class)) if relabel else y

        return chooser(layout, whole, rate, seed, eligible), edit

    return Transform("stamp", {"rate": rate, "seed": seed, **config}, plan, **element)


def stamp_test(
    trigger: Any,
    target_class: int,
    relabel: bool = True,
    classes: Sequence[int] | None = None,
    value_range: Any = None,
    **element: Any,
) -> Transform:
    """The test set of a backdoor: every example that is not of the target class, stamped.

    The cardinality of the result is known if that of the dataset is, which takes a pass over its labels.

    Args:
      trigger, target_class, value_range: as given to `stamp`.
      relabel: True: labels become the target class, so that accuracy on the result is the attack success rate. False:
        labels stay, so that it is the accuracy under attack.
      classes: keep examples of these classes only.
      **element: `mark`, `image_key`, `label_key`, `num_parallel_calls`, as in `Transform`.

    Returns: a `Transform`.
    Raises: as `stamp`.
    """
    return _StampTest(trigger, _check("stamp_test", trigger, target_class, relabel, classes, value_range), **element)


class _StampTest(Transform):
    def __init__(self, trigger, config, **element):
        super().__init__("stamp_test", config, None, **element)
        self._trigger = trigger

    def apply_at(self, dataset, whole, place):
        layout, config = self.layout(whole), self.config
        stamped = _bind(self._trigger, layout, config["target_class"], config["value_range"])

        def is_kept(label):
            kept = label != config["target_class"]
            return kept & selection.is_among(config["classes"])(label) if config["classes"] else kept

        def visit(_, elements):
            x, y = elements[layout.x_at], elements[layout.y_at]
            count = tf.shape(x)[:1]
            if config["relabel"]:
                y = layout.label_as(tf.fill(count, config["target_class"]))
            return layout.rebuild(elements, stamped(x), y, tf.fill(count, True), self.mark)

        def keep(elements):
            return is_kept(layout.class_of(elements[layout.y_at]))

        kept, size = map_rows(dataset, visit, self.num_parallel_calls, keep), cardinality(dataset)
        if not isinstance(size, int) or size < 0:
            return kept
        count = tf.math.count_nonzero(is_kept(layout.all_labels(dataset, size)))
        return kept.apply(tf.data.experimental.assert_cardinality(count))


def _check(who, trigger, target_class, relabel, classes, value_range):
    a_trigger = isinstance(trigger, Trigger)
    checks.require(f"{who}: trigger", a_trigger, "patch(), blend(), sinusoid() or warp()", trigger)
    return {
        "relabel": checks.choice(f"{who}: relabel", checks.scalar(relabel), (True, False)),
        "trigger": {"name": trigger.name, **trigger.config},
        "target_class": checks.integer(f"{who}: target_class", target_class, 0),
        "classes": selection.check_classes(who, classes),
        "value_range": None if value_range is None else check_range(who, value_range),
    }


def _bind(trigger, layout, target_class, value_range):
    layout.check_label("target_class", target_class)
    return trigger.bind(layout.who, layout.x_spec, value_range, layout.largest())
