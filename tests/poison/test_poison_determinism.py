"""The same elements are poisoned, bit by bit, whatever surrounds the transform in the pipeline."""

import functools
import os
import textwrap

import forked
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from poison_helpers import arrays, dataset, images, same, same_elements, unknown

from tfshape import poison

pytestmark = pytest.mark.one_stack

N = 61
X, Y = images(N)
BASES = np.array([3, 60, 17, 20, 41])
CRAFTED = poison.Poisons(x=1 - X[BASES], y=(Y[BASES] + 1) % 4, base=BASES, num_examples=N)
DELTAS = np.random.default_rng(0).uniform(-0.1, 0.1, X.shape) * (np.arange(N) % 3 == 0)[:, None, None, None]
TRANSFORMS = {
    "flip_labels": lambda **kw: poison.flip_labels(0.2, 4, seed=1, **kw),
    "flip_labels of a class": lambda **kw: poison.flip_labels(0.1, 4, seed=2, classes=[3], **kw),
    "stamp": lambda **kw: poison.stamp(poison.patch(2), 0.2, 1, seed=3, **kw),
    "stamp clean-label": lambda **kw: poison.stamp(poison.warp(), 0.1, 2, relabel=False, seed=4, **kw),
    "replace": lambda **kw: poison.replace(CRAFTED, **kw),
    "insert": lambda **kw: poison.insert(CRAFTED, **kw),
    "perturb": lambda **kw: poison.perturb(DELTAS, **kw),
    "perturb by class": lambda **kw: poison.perturb(DELTAS[:4], by="class", **kw),
    "pipeline": lambda **kw: poison.Pipeline(
        [
            poison.flip_labels(0.1, 4, seed=5, **kw),
            poison.insert(CRAFTED, **kw),
            poison.stamp(poison.blend(), 0.1, 0, seed=6, **kw),
        ]
    ),
}
names = pytest.mark.parametrize("name", TRANSFORMS)


def clean():
    return dataset(X, Y)


def repeats(name):
    return name not in ("insert", "pipeline")


@functools.cache
def poisoned(name):
    return clean().apply(TRANSFORMS[name]())


@settings(max_examples=40)
@given(name=st.sampled_from(sorted(TRANSFORMS)), data=st.data())
def test_parallelism_prefetching_order_options_sharding_and_repetition(name, data):
    check_surroundings(name, data)


@pytest.mark.slow
@settings(max_examples=1000)
@given(name=st.sampled_from(sorted(TRANSFORMS)), data=st.data())
def test_a_thousand_combinations_of_those(name, data):
    check_surroundings(name, data)


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name not in ("insert", "pipeline")])
def test_arrays_are_poisoned_as_datasets_are(name):
    transform, before = TRANSFORMS[name](mark=True), (X.copy(), Y.copy())
    assert same(list(transform.on_arrays(X, Y)), arrays(clean().apply(transform)))
    assert same([X, Y], list(before))


def test_nothing_can_be_added_to_arrays_in_place():
    with pytest.raises(ValueError, match="insert: a transform on arrays must edit examples in place, got one that"):
        TRANSFORMS["insert"]().on_arrays(X, Y)


def check_surroundings(name, data):
    calls = data.draw(st.sampled_from([None, 1, 3, tf.data.AUTOTUNE]), "num_parallel_calls")
    ahead = data.draw(st.sampled_from([0, 1, 7, tf.data.AUTOTUNE]), "prefetch")
    loose = data.draw(st.booleans(), "Options.deterministic=False")
    shards = data.draw(st.integers(1, 5), "num_shards")
    index = data.draw(st.integers(0, shards - 1), "index")
    times = data.draw(st.integers(1, 3), "repeat")
    first = data.draw(st.sampled_from(["transform", "shard", "repeat"]), "first")
    transform, reference = TRANSFORMS[name](num_parallel_calls=calls), poisoned(name)

    def surround(data):
        data = data.prefetch(ahead) if ahead else data
        if loose:
            options = tf.data.Options()
            options.deterministic = False
            data = data.with_options(options)
        return data

    if first == "transform":
        got = surround(surround(clean()).apply(transform)).shard(shards, index).repeat(times)
        want = reference.shard(shards, index).repeat(times)
    elif first == "shard":
        part = surround(clean().shard(shards, index))
        got = surround(part.apply(transform.on(clean()).shard(shards, index))).repeat(times)
        want = reference.shard(shards, index).repeat(times)
    elif repeats(name):
        part = surround(clean().repeat(times).shard(shards, index))
        got = surround(part.apply(transform.on(clean()).repeat(times).shard(shards, index)))
        want = reference.repeat(times).shard(shards, index)
    else:
        with pytest.raises(ValueError, match=r"insert: .*apply it before .repeat"):
            clean().repeat(times).apply(transform.on(clean()).repeat(times))
        return
    assert same_elements(got, want)
    assert got.element_spec == clean().element_spec


def test_a_slow_chunk_is_not_overtaken_where_order_is_said_not_to_matter():
    x, y = images(512, (64, 64, 1))
    y = np.where(np.arange(512) < 64, 1, 0)  # so that all that takes time is in the first chunk
    options = tf.data.Options()
    options.deterministic = False
    stamp = poison.stamp(poison.warp(), 1 / 8, 1, relabel=False, mark=True, num_parallel_calls=8)
    stamped = dataset(x, y).apply(stamp).with_options(options)
    for _ in range(8):
        _, labels, mark = arrays(stamped)
        assert np.array_equal(labels, y) and np.array_equal(mark, y == 1)


@names
def test_every_epoch_is_the_same(name):
    poisoned = clean().apply(TRANSFORMS[name](mark=True))
    first = arrays(poisoned)
    assert same(first, arrays(poisoned))
    assert same([np.concatenate([part, part]) for part in first], arrays(poisoned.repeat(2)))
    assert same(first, arrays(clean().apply(TRANSFORMS[name](mark=True))))


@names
def test_untouched_elements_have_the_same_bits_and_touched_ones_are_marked(name):
    x, y, mark = arrays(clean().apply(TRANSFORMS[name](mark=True)))
    kept = ~mark[:N]
    assert same([x[:N][kept], y[:N][kept]], [X[kept], Y[kept]])
    assert 0 < mark.sum() < len(mark) and mark[N:].all()
    changed = (x[:N] != X).any((1, 2, 3)) | (y[:N] != Y)
    assert np.array_equal(changed, mark[:N])


@names
@pytest.mark.parametrize("known", [True, False])
def test_the_union_of_shards_is_the_whole(name, known):
    whole = clean() if known else unknown(clean())
    want = arrays(whole.apply(TRANSFORMS[name](mark=True)))
    if not known and not repeats(name):
        with pytest.raises(ValueError, match="finite, known cardinality"):
            whole.shard(3, 0).apply(TRANSFORMS[name]().on(whole).shard(3, 0))
        return
    for index in range(3):
        part = whole.shard(3, index).apply(TRANSFORMS[name](mark=True).on(whole).shard(3, index))
        assert same(arrays(part), [array[index::3] for array in want])


def test_repeating_what_has_no_known_end():
    whole = unknown(clean())
    with pytest.raises(ValueError, match=r"on\(whole\).repeat\(\): whole must have a finite, known"):
        TRANSFORMS["stamp"]().on(whole).repeat()


def test_an_endless_repetition_poisons_the_same_elements_each_time():
    poisoned = clean().repeat().apply(TRANSFORMS["stamp"](mark=True).on(clean()).repeat())
    want = arrays(clean().apply(TRANSFORMS["stamp"](mark=True)))
    assert same(arrays(poisoned.take(2 * N)), [np.concatenate([part, part]) for part in want])
    assert poisoned.cardinality() == tf.data.INFINITE_CARDINALITY


@pytest.mark.parametrize("shards, index", [(2, 2), (2, -1), (0, 0)])
def test_bad_shard(shards, index):
    with pytest.raises(ValueError, match=r"on\(whole\).shard: (index|num_shards) must be an integer"):
        TRANSFORMS["stamp"]().on(clean()).shard(shards, index)


def test_on_another_kind_of_dataset():
    with pytest.raises(ValueError, match=r"stamp: the elements must be those of the dataset in on\(whole\)"):
        dataset(X.astype(np.float64), Y).apply(TRANSFORMS["stamp"]().on(clean()))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", ["flip_labels of a class", "insert", "perturb by class"])
def test_inside_a_tf_function(name, known):
    whole = clean() if known else unknown(clean())
    want = whole.apply(TRANSFORMS[name]())

    def collect(data):
        size = N + 2 * len(BASES)
        images, labels = tf.TensorArray(tf.float32, size), tf.TensorArray(tf.int32, size)
        at = 0
        for x, y in data:
            images, labels, at = images.write(at, x), labels.write(at, y), at + 1
        return images.stack()[:at], labels.stack()[:at]

    @tf.function
    def built_and_iterated():
        data = tf.data.Dataset.from_tensor_slices((X, Y))
        data = data if known else data.filter(lambda *_: True)
        return collect(data.apply(TRANSFORMS[name]()))

    @tf.function
    def applied_to_an_outer_dataset():
        return collect(whole.apply(TRANSFORMS[name]()))

    @tf.function
    def iterated():
        return collect(want)

    expected = arrays(want)
    for function in (built_and_iterated, applied_to_an_outer_dataset, iterated):
        assert same([part.numpy() for part in function()], expected)


@pytest.mark.parametrize("name", ["flip_labels", "stamp", "stamp clean-label", "replace", "perturb", "pipeline"])
def test_labels_inside_a_tf_function(name):
    @tf.function
    def total():
        data = tf.data.Dataset.from_tensor_slices((X, Y)).apply(TRANSFORMS[name]())
        start = tf.constant(0, tf.int64), 0.0
        return data.reduce(
            start, lambda sums, part: (sums[0] * 3 + tf.cast(part[1], tf.int64), sums[1] + part[0][5, 4, 1])
        )

    labels, pixels = (part.numpy() for part in total())
    x, y = arrays(poisoned(name))
    expected = np.int64(0)
    for label in y:
        expected = np.int64((int(expected) * 3 + int(label) + 2**63) % 2**64 - 2**63)
    assert labels == expected
    np.testing.assert_allclose(pixels, x[:, 5, 4, 1].sum(), rtol=1e-5)


def test_too_few_eligible_inside_a_tf_function():
    @tf.function
    def count():
        data = tf.data.Dataset.from_tensor_slices((X, Y)).apply(poison.flip_labels(0.9, 4, classes=1))
        return data.reduce(0, lambda total, *_: total + 1)

    with pytest.raises(tf.errors.InvalidArgumentError, match="more elements than are eligible"):
        count()


def test_files_are_not_sharded_before_the_elements_are_numbered():
    policies = tf.data.experimental.AutoShardPolicy

    def policy(data):
        return data.options().experimental_distribute.auto_shard_policy

    for name, transform in TRANSFORMS.items():
        assert policy(clean().apply(transform())) == policies.DATA, name
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = policies.OFF
    assert policy(clean().with_options(options).apply(TRANSFORMS["stamp"]())) == policies.OFF


DISTRIBUTED = """
    import numpy as np, tensorflow as tf
    import test_poison_determinism as here
    cpus = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    for name in ("flip_labels of a class", "stamp", "perturb", "pipeline"):
        transform = here.TRANSFORMS[name]
        want = here.arrays(here.clean().apply(transform(mark=True)))
        got = []
        for batch in strategy.experimental_distribute_dataset(here.clean().apply(transform(mark=True)).batch(8)):
            for replica in range(2):
                got.append([strategy.experimental_local_results(part)[replica].numpy() for part in batch])
        assert here.same([np.concatenate(parts) for parts in zip(*got)], want), name

        def make(context):
            shard = context.num_input_pipelines, context.input_pipeline_id
            return here.clean().shard(*shard).apply(transform(mark=True).on(here.clean()).shard(*shard)).batch(4)

        got = []
        for batch in strategy.distribute_datasets_from_function(make):
            for replica in range(2):
                got.append([strategy.experimental_local_results(part)[replica].numpy() for part in batch])
        assert here.same([np.concatenate(parts) for parts in zip(*got)], want), name
    print("same")
"""


def test_distributed_over_two_replicas():
    here = os.path.dirname(__file__)
    done = forked.code(here, textwrap.dedent(DISTRIBUTED), folders=[here])
    assert done.stdout.endswith("same\n"), done.stderr[-2000:]
