"""insert and replace."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from poison_helpers import arrays, dataset, images, same, unknown

from tfshape import poison


def craft(x, y, base, **kw):
    base = np.asarray(base, np.int64)
    new = np.random.default_rng(9).integers(0, 256, (len(base), *x.shape[1:]), np.uint8)
    new = new if x.dtype == np.uint8 else (new / 255).astype(np.float32)
    return poison.Poisons(x=new, y=np.arange(len(base)) % 4, base=base, num_examples=len(x), **kw)


@settings(max_examples=12)
@given(
    n=st.integers(0, 300),
    count=st.integers(0, 30),
    dtype=st.sampled_from([np.float32, np.uint8]),
    one_hot=st.booleans(),
    seed=st.integers(0, 99),
)
def test_replace_and_insert(n, count, dtype, one_hot, seed):
    x, y = images(n, dtype=dtype)
    base = np.random.default_rng(seed).permutation(n)[:count]
    poisons = craft(x, y, base)
    write = (lambda label: np.eye(4, dtype=np.float32)[label]) if one_hot else lambda label: label.astype(np.int32)
    clean = dataset(x, write(y))

    replaced, inserted = clean.apply(poison.replace(poisons, mark=True)), clean.apply(poison.insert(poisons, mark=True))
    assert replaced.cardinality() == n and inserted.cardinality() == n + len(base)
    want_x, want_y = x.copy(), y.copy()
    want_x[base], want_y[base] = poisons.x, poisons.y
    if n:
        assert same(arrays(replaced), [want_x, write(want_y), np.isin(np.arange(n), base)])
        both = [np.concatenate([x, poisons.x]), write(np.concatenate([y, poisons.y])), np.arange(n + len(base)) >= n]
        assert same(arrays(inserted), both)
    else:
        assert list(replaced) == list(inserted) == []


@settings(max_examples=12)
@given(n=st.integers(1, 50), count=st.integers(0, 30), new=st.integers(0, 9), seed=st.integers(0, 99))
def test_arrays_get_what_datasets_get(n, count, new, seed):
    x, y = images(n)
    base = np.random.default_rng(seed).permutation(n)[:count]
    poisons = craft(x, y, np.random.default_rng(seed).permutation([*base, *[-1] * new]))
    data = dataset(x, y)
    for chosen, put in ((poisons.base >= 0, poison.replace), (poisons.base < 0, poison.insert)):
        part = {name: getattr(poisons, name)[chosen] for name in ("x", "y", "base")}
        data = data.apply(put(poison.Poisons(**part, num_examples=n), mark=True))
    before = x.copy(), y.copy()
    assert same(list(poisons.put_into(x, y)), arrays(data))
    assert same([x, y], list(before))


def test_arrays_that_poison_does_not_fit():
    x, y = images(9)
    poisons = craft(x, y, [1, 2])
    for wrong in (x[:8], x[:, :3], x.astype(np.float64)):
        with pytest.raises(ValueError, match=r"x must be 9 examples float32 \[6, 5, 2\], which the poison is for, got"):
            poisons.put_into(wrong, y[: len(wrong)])
    with pytest.raises(ValueError, match="base examples must be distinct, got several poisons that share one"):
        craft(x, y, [1, 1]).put_into(x, y)
    grown, _, marks = craft(x, y, [-1, -1]).put_into(x[:5], y[:5])  # nothing refers to a place
    assert len(grown) == 7 and marks.tolist() == [False] * 5 + [True] * 2


def test_what_was_saved_is_what_is_inserted(tmp_path):
    x, y = images(20)
    poisons = craft(x, y, [3, 7, 19])
    poisons.save(tmp_path / "p.npz")
    loaded = poison.Poisons.load(tmp_path / "p.npz")
    clean = dataset(x, y)
    assert same(arrays(clean.apply(poison.replace(loaded))), arrays(clean.apply(poison.replace(poisons))))


def test_inserting_into_a_dataset_of_unknown_size():
    x, y = images(20)
    inserted = unknown(dataset(x, y)).apply(poison.insert(craft(x, y, [-1, -1]), mark=True))
    assert np.array_equal(arrays(inserted)[2], np.arange(22) >= 20)


def test_rows_and_other_float_dtypes():
    x = np.random.default_rng(0).normal(0, 9, (30, 7)).astype(np.float32)
    poisons = poison.Poisons(x=-x[:2], y=[1, 2], base=[0, 1], num_examples=30)
    for dtype in (np.float16, np.float32, np.float64):
        new = arrays(dataset(x.astype(dtype), np.zeros(30)).apply(poison.replace(poisons)))[0]
        assert same([new], [np.concatenate([-x[:2], x[2:]]).astype(dtype)])


@pytest.mark.parametrize("make", [poison.insert, poison.replace])
def test_poison_that_does_not_fit(make):
    x, y = images(20)
    poisons = craft(x, y, [1])
    for wrong, message in (
        (dataset(x[:, :4], y), r"poisons must have shape \(4, 5, 2\), got \[6, 5, 2\]"),
        (
            dataset((255 * x).astype(np.uint8), y),
            "poisons and the dataset must be both uint8 or both float, got float32 and uint8",
        ),
        (dataset((255 * x).astype(np.int32), y), "must be both uint8 or both float, got float32 and int32"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong.apply(make(poisons))
    with pytest.raises(ValueError, match="must be both uint8 or both float, got uint8 and float32"):
        dataset(x, y).apply(make(poisons.astype("uint8")))
    high = poison.Poisons(x=x[:1], y=[4], base=[0], num_examples=20)
    with pytest.raises(
        ValueError, match=r"poisons.y must be at most 3, since the one-hot labels have 4 classes, got 4"
    ):
        dataset(x, np.eye(4)[y]).apply(make(high))
    with pytest.raises(ValueError, match=r"poisons must be a tfshape.poison.Poisons, got dict"):
        make({})


def test_replace_needs_distinct_bases_and_the_set_they_refer_to():
    x, y = images(20)
    with pytest.raises(ValueError, match="each poison must have a base example, got 1 poisons with base -1"):
        poison.replace(craft(x, y, [3, -1]))
    with pytest.raises(ValueError, match="got several poisons that share one"):
        poison.replace(craft(x, y, [3, 3]))
    for wrong, size in ((dataset(x[:19], y[:19]), "19"), (dataset(x, y).repeat(), "infinitely many")):
        with pytest.raises(ValueError, match=f"replace: the dataset must have the 20 examples .* got {size}"):
            wrong.apply(poison.replace(craft(x, y, [3])))
    longer = unknown(dataset(np.concatenate([x, x]), np.concatenate([y, y])))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(longer.apply(poison.replace(craft(x, y, [3]))))


def test_nothing_is_inserted_after_a_dataset_without_end():
    x, y = images(20)
    with pytest.raises(ValueError, match=r"insert: nothing can follow .*apply it before .repeat"):
        dataset(x, y).repeat().apply(poison.insert(craft(x, y, [3])))
