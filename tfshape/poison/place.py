"""Where the elements of a dataset stand in the dataset it was sharded or repeated from."""

import tensorflow as tf

from tfshape import checks


class Place:
    """Mirrors the calls made on a dataset of `size` elements (int or int64 tensor; negative: infinite or unknown)."""

    def __init__(self, size, steps=()):
        self.size, self.steps = size, steps

    def shard(self, num_shards, index):
        num_shards = checks.integer("on(whole).shard: num_shards", num_shards, 1)
        index = checks.integer("on(whole).shard: index", index, 0, num_shards - 1)
        return Place(shard_size(self.size, num_shards, index), (*self.steps, ("shard", num_shards, index)))

    def repeat(self):
        if isinstance(self.size, int) and self.size < 0:
            raise ValueError(
                "on(whole).repeat(): whole must have a finite, known cardinality, got an infinite or unknown one"
            )
        return Place(self.size, (*self.steps, ("repeat", self.size)))

    def index(self, number):
        """The indices in the whole (int64) of the elements with these numbers (int64)."""
        for kind, *values in reversed(self.steps):
            number = number * values[0] + values[1] if kind == "shard" else number % values[0]
        return number


def shard_size(size, num_shards, index):
    short = (size - index + num_shards - 1) // num_shards
    if isinstance(size, int):
        return size if size < 0 else max(short, 0)
    return tf.where(size < 0, size, tf.maximum(short, 0))


def cardinality(dataset):
    """The number of elements as an int (negative: infinite or unknown), or inside a tf.function perhaps a tensor."""
    size = dataset.cardinality()
    value = tf.get_static_value(size)
    return size if value is None else int(value)


def check_size(who, dataset, expected):
    """Refuses a dataset known not to have as many elements as indices were made for."""
    size = cardinality(dataset)
    if isinstance(size, int) and size not in (expected, tf.data.UNKNOWN_CARDINALITY):
        raise ValueError(
            f"{who}: the dataset must have the {expected} examples that the indices refer to, got "
            f"{'infinitely many' if size < 0 else size}; apply it before .repeat, .shard and whatever adds or drops any"
        )


def keep_order(dataset):
    """Under tf.distribute, shards elements after they are numbered: sharding files would number each worker's anew."""
    policies = tf.data.experimental.AutoShardPolicy
    if not tf.executing_eagerly():  # options cannot be read there
        return dataset
    if dataset.options().experimental_distribute.auto_shard_policy != policies.AUTO:
        return dataset
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = policies.DATA
    return dataset.with_options(options)
