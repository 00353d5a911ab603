"""stamp and stamp_test."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from poison_helpers import arrays, dataset, images, same, unknown

from tfshape import poison

TRIGGERS = [poison.patch(2), poison.blend(), poison.sinusoid(), poison.warp()]


@settings(max_examples=25)
@given(
    n=st.integers(1, 150),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
    trigger=st.sampled_from(TRIGGERS),
    relabel=st.booleans(),
    one_hot=st.booleans(),
    dtype=st.sampled_from([np.float32, np.uint8]),
)
def test_exactly_the_rounded_share_is_stamped_and_nothing_else(n, share, seed, trigger, relabel, one_hot, dtype):
    x, y = images(n, dtype=dtype, seed=seed)
    eligible = (y != 2) if relabel else (y == 2)
    rate = share * eligible.mean()
    written = np.eye(4, dtype=np.float32)[y] if one_hot else y
    transform = poison.stamp(trigger, rate, 2, relabel=relabel, seed=seed, mark=True)
    if round(rate * n) > eligible.sum():
        with pytest.raises(ValueError, match="more elements than are eligible"):
            dataset(x, written).apply(transform)
        return
    stamped = dataset(x, written).apply(transform)
    assert stamped.cardinality() == n
    new_x, new, mark = arrays(stamped)
    labels = new.argmax(-1) if one_hot else new
    assert mark.sum() == round(rate * n) and not (mark & ~eligible).any()
    assert same([new_x[~mark], new[~mark]], [x[~mark], written[~mark]])
    assert (labels[mark] == 2).all()
    if mark.any():
        assert same([new_x[mark]], [trigger(x[mark]).numpy()])


def test_classes_narrow_who_is_stamped():
    x, y = images(200)
    _, labels, mark = arrays(dataset(x, y).apply(poison.stamp(TRIGGERS[0], 0.1, 2, classes=[1, 3], mark=True)))
    assert mark.sum() == 20 and set(y[mark]) == {1, 3} and set(labels[mark]) == {2}
    arguments = {"relabel": False, "classes": [0], "mark": True}
    _, labels, mark = arrays(dataset(x, y).apply(poison.stamp(TRIGGERS[0], 0.1, 2, **arguments)))
    assert mark.sum() == 20 and set(y[mark]) == {0} and set(labels[mark]) == {0}


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: trigger.name)
@pytest.mark.parametrize("relabel", [True, False])
def test_the_triggered_test_set(trigger, relabel):
    x, y = images(150)
    tested = dataset(x, y).apply(poison.stamp_test(trigger, 2, relabel=relabel))
    new_x, labels = arrays(tested)
    assert tested.cardinality() == (y != 2).sum()
    assert unknown(dataset(x, y)).apply(poison.stamp_test(trigger, 2)).cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert same([new_x], [trigger(x[y != 2]).numpy()])
    assert np.array_equal(labels, np.full((y != 2).sum(), 2) if relabel else y[y != 2])
    some = arrays(dataset(x, y).apply(poison.stamp_test(trigger, 2, classes=[0], relabel=False, mark=True)))
    assert same(some[:2], [trigger(x[y == 0]).numpy(), y[y == 0]]) and some[2].all()


def test_a_test_set_with_nothing_but_the_target_class_is_empty():
    x, _ = images(10)
    assert list(dataset(x, np.full(10, 2)).apply(poison.stamp_test(TRIGGERS[0], 2))) == []


def test_a_wrong_scale_is_noticed_when_iterating():
    x, y = images(20)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"stamp: an image has values outside"):
        list(dataset(255 * x, y).apply(poison.stamp(TRIGGERS[0], 0.1, 2)))
    assert arrays(dataset(255 * x, y).apply(poison.stamp(TRIGGERS[0], 0.1, 2, value_range=(0, 255))))[0].max() <= 255


def test_a_backdoor_is_learnt():
    """End to end on separable images: the poisoned model obeys the trigger, the clean one does not."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    x = (0.4 * rng.random((600, 8, 8, 1)) + 0.25 * y[:, None, None, None] * (np.arange(8) < 5)[:, None, None]).astype(
        np.float32
    )
    trigger, rates = poison.patch(3), {}
    test = dataset(x[400:], y[400:])
    for rate in (0.0, 0.1):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(32, "relu"), keras.layers.Dense(3)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
        train = dataset(x[:400], y[:400]).apply(poison.stamp(trigger, rate, 0))
        model.fit(train.shuffle(400, seed=0).batch(32), epochs=8, verbose=0)
        clean = model.evaluate(test.batch(50), verbose=0)[1]
        attacked = model.evaluate(test.apply(poison.stamp_test(trigger, 0)).batch(50), verbose=0)[1]
        rates[rate] = clean, attacked
    assert rates[0.0][0] > 0.9 and rates[0.1][0] > 0.9
    assert rates[0.1][1] > 0.9 and rates[0.1][1] > rates[0.0][1] + 0.4


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"trigger": "patch"}, r"stamp: trigger must be patch\(\), .*, got 'patch'"),
        ({"rate": 2}, "stamp: rate must be a number >= 0 and <= 1, got 2"),
        ({"target_class": -1}, "stamp: target_class must be an integer >= 0, got -1"),
        ({"relabel": 1}, "stamp: relabel must be one of True, False, got 1"),
        ({"classes": [2, 3]}, r"stamp: classes must be classes other than target_class=2, got \(2, 3\)"),
        ({"value_range": (1, 0)}, "stamp: value_range must be .*, got .1, 0."),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        poison.stamp(**{"trigger": TRIGGERS[0], "rate": 0.1, "target_class": 2, **arguments})
    if "rate" not in arguments and "classes" not in arguments:
        with pytest.raises(ValueError, match=message.replace("stamp:", "stamp_test:")):
            poison.stamp_test(**{"trigger": TRIGGERS[0], "target_class": 2, **arguments})


def test_a_target_class_that_one_hot_labels_do_not_have():
    x, y = images(20)
    for transform in (poison.stamp(TRIGGERS[0], 0.1, 4), poison.stamp_test(TRIGGERS[0], 4)):
        with pytest.raises(
            ValueError, match="target_class must be at most 3, since the one-hot labels have 4 classes, got 4"
        ):
            dataset(x, np.eye(4)[y]).apply(transform)
