"""What Keras 2 and Keras 3 do differently, in one place."""

from __future__ import annotations

import keras
import tensorflow as tf

KERAS3 = int(keras.__version__.split(".")[0]) >= 3


def _once():
    """The aggregation of a variable that all replicas assign the same value."""
    return "only_first_replica" if KERAS3 else tf.VariableAggregation.ONLY_FIRST_REPLICA


def add_state(model, prefix, values):
    """Non-trainable variables of `model`, saved with it, by name, set to `values`."""
    state = {}
    for name, value in values.items():
        value = tf.convert_to_tensor(value)
        state[name] = model.add_weight(
            name=f"{prefix}_{name}",
            shape=tuple(value.shape),
            dtype=value.dtype.name,
            initializer="zeros",
            trainable=False,
            aggregation=_once(),
        )
        state[name].assign(value)
    return state


def add_counter(model, tracked):
    """An int64 variable at zero: saved with `model` if `tracked`, else out of reach of `set_weights` and loading."""
    if tracked:
        return model.add_weight(
            name="noise_step", shape=(), dtype="int64", initializer="zeros", trainable=False, aggregation=_once()
        )
    once = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return Hidden(tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=once))


def hidden_key(key):
    """A hidden variable of two int64."""
    once = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return Hidden(tf.Variable(key, dtype=tf.int64, trainable=False, aggregation=once))


class Hidden:
    """Hides a variable or metric from Keras, which else adds the variables of every attribute to a model's weights."""

    def __init__(self, value):
        self.value = value


def reveal(value):
    """What is hidden, or the value itself."""
    return value.value if isinstance(value, Hidden) else value


def compile_options(options):
    """XLA, which Keras 3 would try by itself, is left off unless asked for: it is slower on CPU and not needed."""
    return {"jit_compile": False, **options} if KERAS3 else options


def apply(optimizer, update, variables):
    """One step of `optimizer` along `update`, summed over replicas; a loss-scaling optimizer finds what it expects."""
    if KERAS3:
        update = [optimizer.scale_loss(part) for part in update]
    optimizer.apply_gradients(list(zip(update, variables)))


def pending():
    """A hidden variable that is True."""
    once = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return Hidden(tf.Variable(True, trainable=False, aggregation=once))


def names(metrics):
    """The names under which the logs hold `metrics`; Keras 3 keeps those of `compile` in one metric."""
    return [part.name for metric in metrics for part in getattr(metric, "metrics", None) or [metric]]


def in_order(logs, names):
    """The values of `logs` as Keras lists them: those of `names` first; a value alone is in no list."""
    values = [logs[name] for name in names if name in logs]
    values += [logs[name] for name in sorted(logs) if name not in names]
    return values[0] if len(values) == 1 else values
