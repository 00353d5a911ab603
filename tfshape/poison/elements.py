"""The kinds of dataset element the transforms understand, and a fast way to map over them."""

import weakref
from typing import Any

import numpy as np
import tensorflow as tf

from tfshape import checks, graphs
from tfshape.poison.place import cardinality

MARK = "is_poison"
CHUNK_BYTES, CHUNK_ROWS = 1 << 20, 128
FIRST, READINGS = 32, 4  # how many elements are looked at before the first epoch, and how often
SMOOTH = "smooth labels after the poison transforms"
REMEDY = "apply poison transforms before .shuffle and random augmentation"
UNSTEADY = (
    "the dataset gives other elements when it is read again, so that each epoch other examples would be poisoned; "
    f"{REMEDY}, or shuffle with reshuffle_each_iteration=False (image_dataset_from_directory: shuffle=False)"
)
# dataset -> fingerprints of its first elements, found the same in several readings; None: its source is compared
STEADY: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
plain = tf.autograph.experimental.do_not_convert  # nothing here needs AutoGraph, which takes its time


class Layout:
    """Where the features, the label and the mark stand in one element of a dataset.

    Elements are `(x, y)`, `(x, y, sample_weight)`, each optionally with a scalar bool `is_poison` last, or dicts.
    Labels are integers (shape [] or [1]; any numeric dtype) or one-hot (shape [num_classes]).

    Raises:
      ValueError: the elements are of another kind, or batched, or could be: one-hot labels as wide as every other part
        of the element is long.
    """

    def __init__(self, dataset, who, image_key="image", label_key="label"):
        spec = dataset.element_spec
        self.who, self.is_dict = who, isinstance(spec, dict)
        if self.is_dict:
            for argument, key in (("image_key", image_key), ("label_key", label_key)):
                if key not in spec:
                    checks.fail(f"{who}: {argument}", f"one of the element's keys {sorted(spec)}", key)
            self.x_at, self.y_at = image_key, label_key
            self.mark_at: Any = MARK if MARK in spec else None  # a key, or a place in a tuple
        elif type(spec) is tuple and 2 <= len(spec) <= 4:
            self.x_at, self.y_at = 0, 1
            last = spec[-1]
            marked = len(spec) > 2 and isinstance(last, tf.TensorSpec) and (last.dtype, last.shape.rank) == (tf.bool, 0)
            self.mark_at = len(spec) - 1 if marked else None
            if len(spec) == 4 and not marked:
                checks.fail(f"{who}: elements of 4 parts", f"such that the last is {MARK}, a scalar bool", spec)
        else:
            checks.fail(f"{who}: elements", "(x, y), (x, y, sample_weight) or a dict", spec)
        self.spec, self.x_spec, self.y_spec = spec, spec[self.x_at], spec[self.y_at]
        for part, name in ((self.x_spec, "features"), (self.y_spec, "label")):
            if not isinstance(part, tf.TensorSpec):
                checks.fail(f"{who}: the {name} of an element", "one dense tensor", part)
            if not (part.dtype.is_floating or part.dtype.is_integer or (part is self.y_spec and part.dtype.is_bool)):
                raise ValueError(f"{who}: the {name} of an element must be numbers, got dtype {part.dtype.name}")
        self._dataset = dataset
        self.labels: Any = None  # those of the whole dataset, int64 [N], if they are at hand
        self._read_shapes()

    def _read_shapes(self):
        x, y = self.x_spec.shape, self.y_spec.shape
        if x.rank is None or y.rank is None:
            raise ValueError(f"{self.who}: shapes {x} and {y} have no known rank; set them with tf.ensure_shape")
        width = y[0] if y.rank == 1 else None
        one_hot = y.rank == 1 and width is not None and not (x.rank > 1 and self._all_begin_with(width))
        if y.rank and not one_hot:
            remedy = "apply poison transforms before .batch"
            if y.rank == 1 and width is not None:
                remedy += ", and give integer labels if these are one-hot labels of single examples"
            raise ValueError(f"{self.who}: elements look batched (features {x}, label {y}); {remedy}")
        if x.rank == 0:
            raise ValueError(f"{self.who}: features must be rows [F] or images [H, W, C], got scalars")
        self.num_classes = width if one_hot and (width or 0) > 1 else None
        self.one_hot = self.num_classes is not None

    def _all_begin_with(self, width):
        # As the parts of a batch do. No value could tell them from a one-hot label: of a batch in which one class is
        # rare, the integer labels are 0 but for a 1 here and there.
        shapes = [getattr(part, "shape", None) for part in tf.nest.flatten(self.spec)]
        return all(shape is None or shape.rank is None or (shape.rank and shape[0] == width) for shape in shapes)

    def others(self):
        """The keys or positions of what is neither features, label nor mark."""
        places = self.spec if self.is_dict else range(len(self.spec))
        return [place for place in places if place not in (self.x_at, self.y_at, self.mark_at)]

    def check_label(self, name, value):
        """Refuses a class that labels of this dataset cannot write, and a dataset whose first labels are no classes."""
        if self.num_classes is not None:
            last = self.num_classes - 1
            allowed = f"at most {last}, since the one-hot labels have {self.num_classes} classes"
            checks.require(f"{self.who}: {name}", value <= last, allowed, value)
        else:
            with np.errstate(all="ignore"):
                held = np.asarray(value).astype(self.y_spec.dtype.as_numpy_dtype) == value
            checks.require(f"{self.who}: {name}", held, f"a class that {self.y_spec.dtype.name} labels hold", value)
        if tf.executing_eagerly() and (self.one_hot or self.y_spec.dtype.is_floating):
            for element in self._dataset.take(FIRST):
                if not self._are_classes(element[self.y_at][None])[0]:
                    label = checks.shown(element[self.y_at].numpy().tolist())
                    raise ValueError(f"{self.who}: labels must be {self._allowed_labels()}, got {label}; {SMOOTH}")

    def largest(self):
        """The largest value in the features of the first examples, if bytes; None if nobody can know it or need it."""
        if not tf.executing_eagerly() or self.x_spec.dtype != tf.uint8:
            return None
        found = [tf.reduce_max(element[self.x_at]) for element in self._dataset.take(FIRST)]
        return float(max(map(float, found), default=0))

    def class_of(self, y):
        """The classes, int64 [b], of labels as the dataset writes them [b, ...]; fails if they are no classes."""
        if not (self.one_hot or self.y_spec.dtype.is_floating):
            return self.likeliest(y)
        message = f"{self.who}: labels must be {self._allowed_labels()}, got others; {SMOOTH}"
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(self._are_classes(y)), [message])]):
            return tf.identity(self.likeliest(y))

    def likeliest(self, y):
        """As `class_of`, and of smoothed labels the class with the most weight."""
        y = tf.convert_to_tensor(y)
        if self.one_hot:
            y = tf.cast(y, tf.int64) if y.dtype.is_bool else y
            return tf.argmax(y, axis=-1, output_type=tf.int64)
        return tf.reshape(tf.cast(y, tf.int64), [-1])

    def _are_classes(self, y):
        y = tf.cast(y, tf.float64)
        if self.one_hot:
            return tf.reduce_all((y == 0) | (y == 1), axis=-1) & (tf.reduce_sum(y, axis=-1) == 1)
        return tf.reshape(tf.math.is_finite(y) & (tf.math.floor(y) == y), [-1])

    def _allowed_labels(self):
        return "one-hot, of zeros and a single 1" if self.one_hot else "integers"

    def steady(self, whole):
        """A function of indices [b], features and labels that fails if these are not what they are in `whole` now.

        Elements are known by their features and label; only the first are compared. Reads them several times.

        Raises:
          ValueError: they are not the same each time (inside a tf.function, only the function that is returned fails).
        """
        if tf.executing_eagerly() and whole in STEADY:
            known = STEADY[whole]
        else:
            known = self._first(whole)
            if tf.executing_eagerly():
                for _ in range(READINGS - 1):
                    again = self._first(whole)
                    if again.shape != known.shape or not bool(tf.reduce_all(again == known)):
                        raise ValueError(f"{self.who}: {UNSTEADY}")
                STEADY[whole] = known
        if known is None:
            return lambda *_: tf.no_op()
        count = tf.shape(known, tf.int64)[0]

        def check(index, x, y):
            def same():
                was = tf.gather(known, tf.minimum(index, count - 1))
                return tf.reduce_all((index >= count) | tf.reduce_all(self._fingerprints(x, y) == was, axis=1))

            still = tf.cond(tf.reduce_any(index < count), same, lambda: tf.constant(True))
            return tf.debugging.Assert(still, [f"{self.who}: {UNSTEADY}"])

        return check

    def _first(self, dataset):
        dataset = dataset.take(FIRST)
        if tf.executing_eagerly():  # a loop takes less time than to trace a function
            rows = chunk_rows(dataset.element_spec)
            pairs = [(e[self.x_at], e[self.y_at]) for e in (dataset.batch(rows) if rows else dataset)]
            pairs = pairs if rows else [(x[None], y[None]) for x, y in pairs]
            parts = [self._fingerprints(x, y) for x, y in pairs]
            return tf.concat([tf.zeros([0, 16], tf.uint8), *parts], axis=0)
        rows = map_rows(dataset, lambda _, e: self._fingerprints(e[self.x_at], e[self.y_at]), None)
        return _collect(rows, tf.zeros([16], tf.uint8), FIRST)

    def _fingerprints(self, *parts):
        return tf.concat([tf.fingerprint(tf.reshape(part, [tf.shape(part)[0], -1])) for part in parts], axis=1)

    def label_as(self, label):
        """Classes, int64 [b], as the dataset writes them."""
        y = tf.one_hot(label, self.num_classes, dtype=tf.int64) if self.one_hot else label
        return tf.cast(tf.reshape(y, [-1, *self.y_spec.shape]), self.y_spec.dtype)

    def assert_still(self, eligible):
        """An op that fails if examples chosen for their label (bool [b]) no longer have it."""
        message = f"{self.who}: a label is not what it was when the examples were chosen, or not below num_classes; "
        return tf.debugging.Assert(tf.reduce_all(eligible), [message + REMEDY])

    def all_labels(self, dataset, size):
        """One pass over the dataset: its classes, int64 [size]."""
        if self.labels is not None:
            return self.labels
        labels = map_rows(dataset, lambda _, element: self.class_of(element[self.y_at]), tf.data.AUTOTUNE)
        try:
            return _collect(labels, tf.constant(-1, tf.int64), size)
        except tf.errors.InvalidArgumentError as error:
            text = error.message[error.message.find(f"{self.who}: ") :].splitlines()[0]
            raise ValueError(text) from None

    def rebuild(self, element, x, y, poisoned, mark):
        """Elements with new features and labels, and their marks (or-ed with those they already have)."""
        x = tf.ensure_shape(x, [None, *self.x_spec.shape])
        y = tf.ensure_shape(y, [None, *self.y_spec.shape])
        if self.mark_at is not None:
            poisoned = element[self.mark_at] | poisoned
        if self.is_dict:
            marks = {MARK: poisoned} if mark or self.mark_at else {}
            return {**element, self.x_at: x, self.y_at: y, **marks}
        parts = [x, y, *element[2:]]
        if self.mark_at is not None:
            parts[self.mark_at] = poisoned
        elif mark:
            parts.append(poisoned)
        return tuple(parts)


def _collect(dataset, end, size):
    """At most `size` elements of a dataset of tensors like `end`, stacked."""
    end = tf.data.Dataset.from_tensors(end)  # so that an empty dataset has a batch too
    return graphs.only(dataset.concatenate(end).batch(tf.cast(size, tf.int64) + 1))[:-1]


def chunk_rows(spec):
    """How many elements make a chunk of at most 1 MiB, at least 1; 0 if they have no fixed shape."""
    parts = tf.nest.flatten(spec)
    if not all(isinstance(part, tf.TensorSpec) and part.shape.is_fully_defined() for part in parts):
        return 0
    size = sum(part.shape.num_elements() * part.dtype.size for part in parts)
    return max(1, min(CHUNK_BYTES // max(1, size), CHUNK_ROWS))


def map_rows(dataset, visit, num_parallel_calls, keep=None):
    """Maps `visit(numbers [b], element with a leading axis b)` over a dataset, in order; the result has no such axis.

    Calling a function costs tf.data some 20 us, several times what it costs to hand on a small image. So elements of
    fixed shape are visited in chunks of at most 1 MiB; the rest, and datasets whose size only a tf.function will
    know, one at a time. `keep(elements)`, bool [b], says which ones stay; None for all.
    """
    size, spec = cardinality(dataset), dataset.element_spec
    rows = chunk_rows(spec) if isinstance(size, int) else 0
    rows = min(rows, size) if isinstance(size, int) and size > 0 else rows
    if rows < 2:

        def dense(function):  # what is ragged or sparse is no business of ours and passes as it is
            return lambda part: function(part) if isinstance(part, tf.Tensor) else part

        @plain
        def visit_one(number, element):
            rows = visit(number[None], tf.nest.map_structure(dense(lambda part: part[None]), element))
            return tf.nest.map_structure(dense(lambda part: part[0]), rows)

        if keep is not None:

            @plain
            def keep_one(*parts):
                element = parts if isinstance(spec, tuple) else parts[0]
                return keep(tf.nest.map_structure(dense(lambda part: part[None]), element))[0]

            dataset = dataset.filter(keep_one)
        return in_order(dataset.enumerate(), visit_one, num_parallel_calls)

    @plain
    def visit_chunk(chunk, elements):
        first = tf.nest.flatten(elements)[0]
        numbers = chunk * rows + tf.range(tf.shape(first, tf.int64)[0], dtype=tf.int64)
        if keep is not None:
            kept = keep(elements)
            numbers, elements = tf.nest.map_structure(lambda part: tf.boolean_mask(part, kept), (numbers, elements))
        return visit(numbers, elements)

    result = in_order(dataset.batch(rows).enumerate(), visit_chunk, num_parallel_calls).unbatch()
    if keep is not None or size == tf.data.UNKNOWN_CARDINALITY:
        return result
    return result.apply(tf.data.experimental.assert_cardinality(size))


def in_order(dataset, function, num_parallel_calls):
    """`dataset.map`, in order even if the dataset's options allow otherwise."""
    return dataset.map(function, num_parallel_calls, deterministic=None if num_parallel_calls is None else True)
