"""The kinds of element the transforms take, keep as they are, or refuse."""

import numpy as np
import pytest
import tensorflow as tf
from poison_helpers import arrays, dataset, images, same

from tfshape import poison

X, Y = images(40)
CRAFTED = poison.Poisons(x=1 - X[:4], y=(Y[:4] + 1) % 4, base=np.arange(4), num_examples=40)
TRANSFORMS = {
    "flip_labels": lambda **kw: poison.flip_labels(0.25, 4, **kw),
    "stamp": lambda **kw: poison.stamp(poison.patch(2), 0.25, 1, **kw),
    "stamp_test": lambda **kw: poison.stamp_test(poison.patch(2), 1, **kw),
    "insert": lambda **kw: poison.insert(CRAFTED, **kw),
    "replace": lambda **kw: poison.replace(CRAFTED, **kw),
    "perturb": lambda **kw: poison.perturb(np.where(np.arange(40) < 9, 0.1, 0).reshape(-1, 1, 1, 1) * (1 - X), **kw),
}
every = pytest.mark.parametrize("name", TRANSFORMS)
MARK = tf.TensorSpec([], tf.bool)


@every
def test_pairs(name):
    clean = dataset(X, Y)
    plain, marked = clean.apply(TRANSFORMS[name]()), clean.apply(TRANSFORMS[name](mark=True))
    assert plain.element_spec == clean.element_spec
    assert marked.element_spec == (*clean.element_spec, MARK)
    assert same(arrays(plain), arrays(marked)[:2])


@every
def test_sample_weights_stay_and_are_one_for_what_is_inserted(name):
    weights = np.linspace(2, 3, 40, dtype=np.float32)
    clean = tf.data.Dataset.from_tensor_slices((X, Y, weights))
    plain, marked = clean.apply(TRANSFORMS[name]()), clean.apply(TRANSFORMS[name](mark=True))
    assert plain.element_spec == clean.element_spec
    assert marked.element_spec == (*clean.element_spec, MARK)
    without = arrays(dataset(X, Y).apply(TRANSFORMS[name](mark=True)))
    with_weights = arrays(marked)
    assert same(without, [with_weights[0], with_weights[1], with_weights[3]])
    if name == "stamp_test":
        assert np.array_equal(with_weights[2], weights[Y != 1])
    else:
        assert np.array_equal(with_weights[2][:40], weights) and (with_weights[2][40:] == 1).all()


@every
def test_dicts(name):
    clean = tf.data.Dataset.from_tensor_slices({"pixels": X, "class": Y})
    keys = {"image_key": "pixels", "label_key": "class"}
    plain, marked = clean.apply(TRANSFORMS[name](**keys)), clean.apply(TRANSFORMS[name](mark=True, **keys))
    assert plain.element_spec == clean.element_spec
    assert marked.element_spec == {**clean.element_spec, "is_poison": MARK}
    as_tuples = marked.map(lambda e: (e["pixels"], e["class"], e["is_poison"]))
    assert same(arrays(as_tuples), arrays(dataset(X, Y).apply(TRANSFORMS[name](mark=True))))


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "insert"])
def test_what_else_a_dict_holds_passes_through(name):
    ids = np.array([f"id{i}" for i in range(40)])
    ragged = tf.RaggedTensor.from_row_lengths(np.arange(80), np.arange(40) % 5)
    for extra in ({"id": ids}, {"id": ids, "boxes": ragged}, {"id": ids, "sparse": tf.sparse.eye(40)}):
        clean = tf.data.Dataset.from_tensor_slices({"image": X, "label": Y, **extra})
        poisoned = clean.apply(TRANSFORMS[name](mark=True))
        specs = {**clean.element_spec, "is_poison": MARK}
        specs.pop("boxes", None)  # tf.data itself writes a ragged row that is one vector as a plain tensor
        assert {key: poisoned.element_spec[key] for key in specs} == specs
        want = arrays(dataset(X, Y).apply(TRANSFORMS[name](mark=True)))
        elements = list(poisoned)
        got = [np.array([e[key].numpy() for e in elements]) for key in ("image", "label", "is_poison")]
        assert same(got, want)
        kept = np.flatnonzero(Y != 1) if name == "stamp_test" else np.arange(40)
        assert [e["id"].numpy().decode() for e in elements] == ids[kept].tolist()
        if "boxes" in extra:
            assert all(np.array_equal(e["boxes"], ragged[i]) for e, i in zip(elements, kept))
        if "sparse" in extra:
            assert [int(e["sparse"].indices[0, 0]) for e in elements] == kept.tolist()


def test_insert_does_not_make_up_what_a_dict_holds():
    clean = tf.data.Dataset.from_tensor_slices({"image": X, "label": Y, "id": Y})
    with pytest.raises(ValueError, match=r"insert: poison has no value for \['id'\]"):
        clean.apply(poison.insert(CRAFTED))


@every
def test_marks_add_up(name):
    clean = dataset(X, Y)
    once = poison.flip_labels(0.25, 4, seed=9, mark=True)
    before, alone = arrays(clean.apply(once))[2], arrays(clean.apply(TRANSFORMS[name](mark=True)))[2]
    twice = clean.apply(once).apply(TRANSFORMS[name]())
    assert twice.element_spec == (*clean.element_spec, MARK)
    both = arrays(twice)[2]
    if name == "stamp_test":
        assert both.all()
    elif name in ("stamp", "perturb", "replace", "flip_labels", "insert"):
        assert np.array_equal(both[:40] | before, both[:40]) and both[40:].all()
        if name in ("perturb", "replace", "flip_labels", "insert"):  # stamp's choice depends on the flipped labels
            assert np.array_equal(both, alone | np.pad(before, (0, len(alone) - 40)))


@every
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("shape", [(6, 5, 2), (7,), (8, 8)])
def test_batches_are_refused(name, one_hot, drop_remainder, shape):
    x, y = images(40, shape)
    y = np.eye(4, dtype=np.float32)[y] if one_hot else y
    for size in (1, 4, 8):
        with pytest.raises(
            ValueError, match=rf"{name}: elements look batched .* apply poison transforms before .batch"
        ):
            dataset(x, y).batch(size, drop_remainder).apply(TRANSFORMS[name]())
        as_dict = tf.data.Dataset.from_tensor_slices({"image": x, "label": y}).batch(size, drop_remainder)
        with pytest.raises(ValueError, match="apply poison transforms before"):
            as_dict.apply(TRANSFORMS[name]())


@pytest.mark.parametrize("in_each", ["one 1", "at the same place"])
def test_a_batch_never_passes_for_one_example_with_a_one_hot_label(in_each):
    """Batches of four in each of which one example is of class 1: no value tells them from one-hot labels."""
    x, _ = images(40, (5, 1))
    y = np.arange(40) % 4 == 0
    if in_each == "one 1":
        y = np.eye(4)[np.random.default_rng(0).integers(0, 4, 10)].ravel()
    for dtype in (np.int32, np.float32, bool):
        batched = dataset(x, y.astype(dtype)).batch(4, drop_remainder=True)
        for transform in (poison.flip_labels(0.5, 4), poison.stamp(poison.patch(1), 0.5, 1)):
            with pytest.raises(ValueError, match=r"apply poison transforms before .batch, and give integer labels if"):
                batched.apply(transform)


def test_one_hot_labels_as_wide_as_the_image_is_high():
    """Are single examples for sure if another part of the element is not as long."""
    x, y = images(40, (4, 5, 1))
    hot = np.eye(4, dtype=np.float32)[y]
    with pytest.raises(ValueError, match="give integer labels if these are one-hot labels of single examples"):
        dataset(x, hot).apply(poison.flip_labels(0.25, 4))
    for others in ((np.ones(40),), (y > 9,), (np.ones((40, 3)),)):
        weighted = tf.data.Dataset.from_tensor_slices((x, hot, *others))
        assert arrays(weighted.apply(poison.flip_labels(0.25, 4, mark=True)))[-1].sum() == 10


def test_volumes_are_no_batch():
    x, y = images(40, (3, 4, 4, 2))
    assert arrays(dataset(x, y).apply(poison.flip_labels(0.25, 4, mark=True)))[2].sum() == 10


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_image_dtypes(dtype):
    x, y = images(40, dtype=dtype)
    poisoned = dataset(x, y).apply(poison.stamp(poison.sinusoid(), 0.25, 1, mark=True))
    new_x, _, mark = arrays(poisoned)
    assert new_x.dtype == dtype and same([new_x[~mark]], [x[~mark]])
    assert (new_x[mark] != x[mark]).any((1, 2, 3)).all()


def test_bfloat16_images():
    x = tf.cast(X, tf.bfloat16)
    poisoned = dataset(x, Y).apply(poison.stamp(poison.patch(2, 1.0), 0.25, 1, mark=True))
    assert poisoned.element_spec[0] == tf.TensorSpec([6, 5, 2], tf.bfloat16)
    for i, (image, _, mark) in enumerate(poisoned):
        changed = tf.cast(image, tf.float32) != tf.cast(x[i], tf.float32)
        assert not tf.reduce_any(changed[:4]) and (mark or not tf.reduce_any(changed))


def test_images_of_unknown_size():
    shapes = [(6 + i % 3, 5, 2) for i in range(40)]
    clean = tf.data.Dataset.from_generator(
        lambda: ((np.full(s, 0.5, np.float32), y) for s, y in zip(shapes, Y)),
        output_signature=(tf.TensorSpec([None, 5, 2], tf.float32), tf.TensorSpec([], tf.int32)),
    ).apply(tf.data.experimental.assert_cardinality(40))
    flipped = clean.apply(poison.flip_labels(0.25, 4, mark=True))
    assert flipped.element_spec == (*clean.element_spec, MARK) and flipped.cardinality() == 40
    elements = list(flipped)
    assert [e[0].shape for e in elements] == shapes
    assert np.array_equal([e[1] != y for e, y in zip(elements, Y)], [e[2] for e in elements])
    assert sum(bool(e[2]) for e in elements) == 10
    with pytest.raises(ValueError, match=r"stamp: patch needs images or rows of known shape, got \(None, 5, 2\)"):
        clean.apply(TRANSFORMS["stamp"]())


def test_images_too_large_to_visit_in_chunks():
    x, y = images(10, (512, 512, 3))
    new_x, new_y, mark = arrays(dataset(x, y).apply(poison.stamp(poison.patch(2), 0.2, 1, mark=True)))
    assert mark.sum() == 2 and same([new_x[~mark], new_y[~mark]], [x[~mark], y[~mark]])
    assert ((new_x != x).sum((1, 2, 3)) > 0).tolist() == mark.tolist()


@pytest.mark.parametrize(
    "elements, message",
    [
        (X, r"elements must be \(x, y\), .* got TensorSpec"),
        ((X,), r"must be \(x, y\)"),
        ((X, Y, Y, Y), "elements of 4 parts must be such that the last is is_poison"),
        ((X, Y, Y, Y == 0, Y == 0), r"must be \(x, y\)"),
        (({"a": X}, Y), "the features of an element must be one dense tensor, got {'a'"),
        ((X, tf.ragged.constant([[1]] * 40)), "the label of an element must be one dense tensor, got RaggedTensorSpec"),
        ((X, np.array(["cat"] * 40)), "the label of an element must be numbers, got dtype string"),
        ((Y, Y), "features must be rows .F. or images .H, W, C., got scalars"),
        ({"image": X, "class": Y}, r"label_key must be one of the element's keys \['class', 'image'\], got 'label'"),
        ({"label": Y}, "image_key must be one of the element's keys .*, got 'image'"),
    ],
)
@every
def test_elements_it_cannot_read(name, elements, message):
    with pytest.raises(ValueError, match=f"^{name}: .*{message}"):
        tf.data.Dataset.from_tensor_slices(elements).apply(TRANSFORMS[name]())


def test_shapes_of_unknown_rank():
    clean = tf.data.Dataset.from_generator(
        lambda: zip(X, Y), output_signature=(tf.TensorSpec(None, tf.float32), tf.TensorSpec([], tf.int32))
    )
    with pytest.raises(ValueError, match="no known rank; set them with"):
        clean.apply(poison.flip_labels(0.1, 4))
