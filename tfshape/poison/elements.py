"""The kinds of dataset element the transforms understand, and how their labels are written."""

import tensorflow as tf

MARK = "is_poison"


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
        for part, name in ((self.x_spec, "features"), (self.y_spec, "label")):
            if not (part.dtype.is_floating or part.dtype.is_integer or (part is self.y_spec and part.dtype.is_bool)):
                raise ValueError(f"{who}: the {name} have dtype {part.dtype.name}, expected numbers")
        self._read_label_style(dataset)

    def _read_label_style(self, dataset):
        x, y = self.x_spec.shape, self.y_spec.shape
        if x.rank is None or y.rank is None:
            raise ValueError(f"{self.who}: shapes {x} and {y} have no known rank; set them with tf.ensure_shape")
        width = y[0] if y.rank == 1 else None
        if x.rank > 3 or y.rank > 1 or (y.rank == 1 and width is None) or self._looks_batched(dataset, x, width):
            raise ValueError(
                f"{self.who}: elements look batched (features {x}, label {y}); apply poison transforms before .batch"
            )
        if x.rank == 0:
            raise ValueError(f"{self.who}: features are scalars, expected rows [F] or images [H, W, C]")
        self.num_classes = width if width is not None and width > 1 else None
        self.one_hot = self.num_classes is not None

    def _looks_batched(self, dataset, x, width):
        # A batch of B rows and a one-hot label of B classes can have the same shapes: then the values must tell.
        if width is None or x.rank < 2 or x[0] != width:
            return False
        if width == 1 or not tf.executing_eagerly():
            return True
        for element in dataset.take(1):
            y = tf.cast(element[self.y_at], tf.float64)
            return not bool(tf.reduce_all((y == 0) | (y == 1)) & (tf.reduce_sum(y) == 1))
        return False

    def check_label(self, name, value):
        """Refuses a class that one-hot labels of this dataset cannot write."""
        if self.one_hot and value >= self.num_classes:
            raise ValueError(f"{self.who}: {name}={value}, but the one-hot labels have {self.num_classes} classes")

    def label(self, element):
        """The class of an element, an int64 scalar."""
        return self.class_of(element[self.y_at])

    def class_of(self, y):
        return tf.argmax(y, output_type=tf.int64) if self.one_hot else tf.reshape(tf.cast(y, tf.int64), [])

    def label_as(self, label):
        """Writes a class (int64 scalar) the way this dataset does."""
        y = tf.one_hot(label, self.num_classes, dtype=tf.int64) if self.one_hot else label
        return tf.cast(tf.reshape(y, self.y_spec.shape), self.y_spec.dtype)

    def others(self):
        """The keys or positions of what is neither features, label nor mark."""
        places = self.spec if self.is_dict else range(len(self.spec))
        return [place for place in places if place not in (self.x_at, self.y_at, self.mark_at)]

    def rebuild(self, element, x, y, poisoned, mark):
        """The element with new features and label, and its mark (or-ed with one it already has)."""
        x, y = tf.ensure_shape(x, self.x_spec.shape), tf.ensure_shape(y, self.y_spec.shape)
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
