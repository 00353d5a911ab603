"""The kinds of dataset element the transforms understand, and a fast way to map over them."""

import tensorflow as tf

from tfshape.poison.place import cardinality

MARK = "is_poison"
CHUNK_BYTES, CHUNK_ROWS = 1 << 20, 128
plain = tf.autograph.experimental.do_not_convert  # nothing here needs AutoGraph, which takes its time


class Layout:
    """Where the features, the label and the mark stand in one element of a dataset.

    Elements are `(x, y)`, `(x, y, sample_weight)`, each optionally with a scalar bool `is_poison` last, or dicts.
    Labels are integers (shape [] or [1]; any numeric dtype) or one-hot (shape [num_classes]).

    Raises:
      ValueError: the elements are of another kind, or batched.
    """

    def __init__(self, dataset, who, image_key="image", label_key="label"):
        spec = dataset.element_spec
        self.who, self.is_dict = who, isinstance(spec, dict)
        if self.is_dict:
            for argument, key in (("image_key", image_key), ("label_key", label_key)):
                if key not in spec:
                    raise ValueError(f"{who}: {argument}={key!r} is not among the element's keys {sorted(spec)}")
            self.x_at, self.y_at = image_key, label_key
            self.mark_at = MARK if MARK in spec else None
        elif type(spec) is tuple and 2 <= len(spec) <= 4:
            self.x_at, self.y_at = 0, 1
            last = spec[-1]
            marked = len(spec) > 2 and isinstance(last, tf.TensorSpec) and (last.dtype, last.shape.rank) == (tf.bool, 0)
            self.mark_at = len(spec) - 1 if marked else None
            if len(spec) == 4 and not marked:
                raise ValueError(f"{who}: elements have 4 parts and the last is not {MARK} (a scalar bool): {spec}")
        else:
            raise ValueError(f"{who}: elements are {spec}, expected (x, y), (x, y, sample_weight) or a dict")
        self.spec, self.x_spec, self.y_spec = spec, spec[self.x_at], spec[self.y_at]
        for part, name in ((self.x_spec, "features"), (self.y_spec, "label")):
            if not isinstance(part, tf.TensorSpec):
                raise ValueError(f"{who}: the {name} of an element are {part}, expected one dense tensor")
            if not (part.dtype.is_floating or part.dtype.is_integer or (part is self.y_spec and part.dtype.is_bool)):
                raise ValueError(f"{who}: the {name} have dtype {part.dtype.name}, expected numbers")
        self._read_shapes(dataset)

    def _read_shapes(self, dataset):
        x, y = self.x_spec.shape, self.y_spec.shape
        if x.rank is None or y.rank is None:
            raise ValueError(f"{self.who}: shapes {x} and {y} have no known rank; set them with tf.ensure_shape")
        width = y[0] if y.rank == 1 else None
        if y.rank > 1 or (y.rank == 1 and (width is None or self._looks_batched(dataset, x, width))):
            raise ValueError(
                f"{self.who}: elements look batched (features {x}, label {y}); apply poison transforms before .batch"
            )
        if x.rank == 0:
            raise ValueError(f"{self.who}: features are scalars, expected rows [F] or images [H, W, C]")
        self.num_classes = width if width is not None and width > 1 else None
        self.one_hot = self.num_classes is not None

    def _looks_batched(self, dataset, x, width):
        # A batch of B rows and a one-hot label of B classes can have the same shapes: then the values must tell.
        if x.rank < 2 or x[0] != width:
            return False
        if width == 1 or not tf.executing_eagerly():
            return True
        for element in dataset.take(1):
            y = tf.cast(element[self.y_at], tf.float64)
            return not bool(tf.reduce_all((y == 0) | (y == 1)) & (tf.reduce_sum(y) == 1))
        return False

    def others(self):
        """The keys or positions of what is neither features, label nor mark."""
        places = self.spec if self.is_dict else range(len(self.spec))
        return [place for place in places if place not in (self.x_at, self.y_at, self.mark_at)]

    def check_label(self, name, value):
        """Refuses a class that one-hot labels of this dataset cannot write."""
        if self.one_hot and value >= self.num_classes:
            raise ValueError(f"{self.who}: {name}={value}, but the one-hot labels have {self.num_classes} classes")

    def class_of(self, y):
        """The classes, int64 [b], of labels as the dataset writes them [b, ...]."""
        return tf.argmax(y, axis=-1, output_type=tf.int64) if self.one_hot else tf.reshape(tf.cast(y, tf.int64), [-1])

    def label_as(self, label):
        """Classes, int64 [b], as the dataset writes them."""
        y = tf.one_hot(label, self.num_classes, dtype=tf.int64) if self.one_hot else label
        return tf.cast(tf.reshape(y, [-1, *self.y_spec.shape]), self.y_spec.dtype)

    def assert_still(self, eligible):
        """An op that fails if examples chosen for their label (bool [b]) no longer have it."""
        message = f"{self.who}: a label is not what it was when the examples were chosen, or not below num_classes; "
        return tf.debugging.Assert(tf.reduce_all(eligible), [message + "apply poison transforms before .shuffle"])

    def all_labels(self, dataset, size):
        """One pass over the dataset: its classes, int64 [size]."""
        labels = map_rows(dataset, lambda _, element: self.class_of(element[self.y_at]), tf.data.AUTOTUNE)
        end = tf.data.Dataset.from_tensors(tf.constant(-1, tf.int64))  # so that an empty dataset has a batch too
        return labels.concatenate(end).batch(tf.cast(size, tf.int64) + 1).get_single_element()[:-1]

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


def map_rows(dataset, visit, num_parallel_calls, keep=None):
    """Maps `visit(numbers [b], element with a leading axis b)` over a dataset, in order; the result has no such axis.

    Calling a function costs tf.data some 20 us, several times what it costs to hand on a small image. So elements of
    fixed shape are visited in chunks of at most 1 MiB; the rest, and datasets whose size only a tf.function will
    know, one at a time. `keep(elements)`, bool [b], says which ones stay; None for all.
    """
    size, spec = cardinality(dataset), dataset.element_spec
    parts = tf.nest.flatten(spec)
    fixed = all(isinstance(part, tf.TensorSpec) and part.shape.is_fully_defined() for part in parts)
    rows = 1
    if fixed and isinstance(size, int):
        rows = CHUNK_BYTES // max(1, sum(part.shape.num_elements() * part.dtype.size for part in parts))
        rows = min(rows, CHUNK_ROWS, size if size > 0 else CHUNK_ROWS)
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
