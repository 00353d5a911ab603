"""What every transform shares: plan on the whole dataset, then decide and edit element by element."""

import tensorflow as tf

from tfshape.poison import selection
from tfshape.poison.elements import Layout


class Transform:
    """A function for `dataset.apply(...)`, with a `name` and a `config` for reports.

    Elements are numbered in the order they come in. Which of them are poisoned depends on that number and the seed
    only: not on `num_parallel_calls`, prefetching, the epoch, or what is done to the dataset afterwards. Apply it
    before `.shuffle`, `.repeat`, `.shard` and `.batch`; if the dataset must be sharded or repeated first, say so with
    `on`, and the same elements are poisoned. Shapes and dtypes of the elements stay as they are.

    Args, taken by every transform of this package:
      mark: append a scalar bool `is_poison` to tuples (a key of that name to dicts). An element that already has the
        mark keeps it, whatever `mark` is.
      image_key, label_key: where the features and the label stand in elements that are dicts.
      num_parallel_calls: as in `tf.data.Dataset.map`. Order is kept, whatever `Options.deterministic` says.

    Raises, when applied:
      ValueError: naming the transform, if the elements are batched or of a kind it cannot poison.
    """

    def __init__(
        self,
        name,
        config,
        plan,
        mark=False,
        image_key="image",
        label_key="label",
        num_parallel_calls=tf.data.AUTOTUNE,
    ):
        self.name, self.config, self._plan = name, config, plan
        self.mark, self.image_key, self.label_key = mark, image_key, label_key
        self.num_parallel_calls = num_parallel_calls

    def __repr__(self):
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.config.items())})"

    def __call__(self, dataset):
        return self.on(dataset)(dataset)

    def on(self, whole):
        """This transform with its elements chosen on `whole`, for a dataset that was sharded or repeated before.

        part = whole.shard(4, 1).repeat()
        part = part.apply(transform.on(whole).shard(4, 1).repeat())   # == whole.apply(transform).shard(4, 1)...
        """
        return Bound(self, whole)

    def layout(self, dataset):
        return Layout(dataset, self.name, self.image_key, self.label_key)

    def apply_at(self, dataset, whole, place):
        """Poisons `dataset`, whose element number j is number `place.index(j)` of `whole`."""
        layout = self.layout(whole)
        chosen, edit = self._plan(layout, whole)

        def visit(number, element):
            x, y = element[layout.x_at], element[layout.y_at]
            index = place.index(number)
            poisoned = chosen(index, y)
            x, y = tf.cond(poisoned, lambda: edit(index, x, y), lambda: (x, y))
            return layout.rebuild(element, x, y, poisoned, self.mark)

        return keep_order(dataset).enumerate().map(visit, self.num_parallel_calls, deterministic=True)


class Place:
    """Where the elements of a sharded or repeated dataset stand in the whole: mirrors the calls made on it."""

    def __init__(self, size, steps=()):
        self.size, self.steps = size, steps

    def shard(self, num_shards, index):
        size = self.size
        if not _known_negative(size):
            short = (size - index + num_shards - 1) // num_shards
            size = max(short, 0) if isinstance(size, int) else tf.where(size < 0, size, tf.maximum(short, 0))
        return Place(size, (*self.steps, ("shard", num_shards, index)))

    def repeat(self):
        if _known_negative(self.size):
            raise ValueError("on(whole).repeat(): the cardinality of `whole` must be finite and known")
        return Place(self.size, (*self.steps, ("repeat", self.size)))

    def index(self, number):
        for kind, *values in reversed(self.steps):
            number = number * values[0] + values[1] if kind == "shard" else number % values[0]
        return number


class Bound:
    """A transform whose elements are chosen on `whole`; `shard` and `repeat` repeat what was done to the dataset."""

    def __init__(self, transform, whole, place=None):
        self.transform, self.whole = transform, whole
        self.place = Place(cardinality(whole)) if place is None else place

    def shard(self, num_shards, index):
        """Says that the dataset was sharded: `.shard(num_shards, index)`."""
        return Bound(self.transform, self.whole, self.place.shard(num_shards, index))

    def repeat(self, count=None):
        """Says that the dataset was repeated: `.repeat(count)`, any number of times."""
        return Bound(self.transform, self.whole, self.place.repeat())

    def __call__(self, dataset):
        if dataset.element_spec != self.whole.element_spec:
            raise ValueError(
                f"{self.transform.name}: on(whole) expects elements like those of `whole`, {self.whole.element_spec}, "
                f"got {dataset.element_spec}"
            )
        return self.transform.apply_at(dataset, self.whole, self.place)


def _known_negative(size):
    return isinstance(size, int) and size < 0


def cardinality(dataset):
    """The number of elements as an int (negative: infinite or unknown), or inside a tf.function perhaps a tensor."""
    size = dataset.cardinality()
    value = tf.get_static_value(size)
    return size if value is None else int(value)


def keep_order(dataset):
    """Under tf.distribute, shards elements after they are numbered: sharding files would number each worker's anew."""
    policies = tf.data.experimental.AutoShardPolicy
    if dataset.options().experimental_distribute.auto_shard_policy != policies.AUTO:
        return dataset
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = policies.DATA
    return dataset.with_options(options)


def choose(who, layout, whole, rate, seed, is_eligible=None):
    """A function (index, y) -> bool that chooses elements of `whole`.

    Known cardinality n: exactly round(rate * n), drawn among the eligible. Unknown or infinite: each eligible element
    with probability `rate`. `is_eligible` takes a class (int64 tensor) and returns a bool tensor of its shape.
    """
    size, key = cardinality(whole), selection.stream(seed, who)

    def by_coin(index, y):
        chosen = selection.coin(key, index, rate)
        return chosen if is_eligible is None else chosen & is_eligible(layout.class_of(y))

    def make_table():
        eligible = None if is_eligible is None else is_eligible(selection.labels_of(whole, layout, size))
        return selection.exact(who, key, rate, size, eligible)

    if _known_negative(size):
        return by_coin
    if isinstance(size, int):
        table = make_table()
        return lambda index, y: table[index]
    table = tf.cond(size < 0, lambda: tf.zeros([0], tf.bool), make_table)
    return lambda index, y: tf.cond(size < 0, lambda: by_coin(index, y), lambda: table[index])
