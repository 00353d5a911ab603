"""Training one victim on several devices or machines at once, through tf.distribute.

Every process runs the whole experiment. Members of each batch are drawn from the seed for all replicas together, and
each replica takes its share of the rows: sampling, expected batch size and steps, so epsilon, are those of one process.
"""

from __future__ import annotations

import functools
import importlib.metadata

from tfshape import checks
from tfshape.privacy.sampling import SAMPLERS


@functools.cache
def strategy(name):
    """The tf.distribute strategy of "mirrored" or "multi_worker"; None for None.

    One serves a process for good: a second would repeat the keys of its collective operations.

    Raises:
        ValueError: on Keras 3; multi_worker without a TF_CONFIG that names workers, or after TensorFlow has begun to
            compute.
    """
    if name is None:
        return None
    import tensorflow as tf

    known = importlib.metadata.version("keras").startswith("2.")
    checks.require(
        "distribute", known, "None on Keras 3, whose fit does not take batches that replicas have shared out", name
    )
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    try:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        workers = resolver.cluster_spec().as_dict().get("worker", [])
        words = "None or mirrored unless TF_CONFIG names the cluster and this process's task, as TensorFlow reads it"
        checks.require("distribute", bool(workers), words, name)
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        raise ValueError(
            f"distribute must be set before TensorFlow computes anything, got {name!r} ({error})"
        ) from None


def leads(name):
    """Whether this process is the one that writes and prints: the chief, or worker 0 where there is none."""
    if name != "multi_worker":
        return True
    resolver = strategy(name).cluster_resolver
    chief = "chief" in resolver.cluster_spec().as_dict()
    return resolver.task_type == "chief" or (not chief and resolver.task_id == 0)


def from_leader(name, value):
    """The integer that the leading process has, in all of them; each has to ask at the same place."""
    if name != "multi_worker":
        return value
    import tensorflow as tf

    return int(_share(name)(tf.constant(value, tf.int64)))


@functools.cache
def _share(name):
    import tensorflow as tf

    found = strategy(name)

    def share(value):
        replica = tf.distribute.get_replica_context()  # replica 0 is the leader's
        mine = tf.where(tf.equal(replica.replica_id_in_sync_group, 0), value, 0)
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, mine)

    return tf.function(lambda value: found.experimental_local_results(found.run(share, [value]))[0])


def sampler(found, scheme):
    """A function to draw batches for `ts.training.fit`: those of `scheme`, each replica of a strategy getting its rows.

    Replica r of R has rows r, r + R, … of every batch, so that padding is spread evenly.
    """
    replicas = found.num_replicas_in_sync

    def draw(data, batch_size, epochs, seed):
        options = {} if scheme == "shuffle" else {"physical": replicas}
        batches, steps = SAMPLERS[scheme](data, batch_size, epochs, seed, **options)
        rows = batches.element_spec[0].shape[0]
        checks.require("batch_size", rows % replicas == 0, f"a multiple of the {replicas} replicas", rows)

        def local(context):
            here = replicas // context.num_input_pipelines
            mine = range(context.input_pipeline_id * here, (context.input_pipeline_id + 1) * here)
            parts = batches.map(lambda *arrays: tuple(_rows(array, mine, replicas) for array in arrays))
            return parts.unbatch()

        return found.distribute_datasets_from_function(local), steps

    return draw


def _rows(array, mine, replicas):
    import tensorflow as tf

    return tf.stack([array[replica::replicas] for replica in mine])
