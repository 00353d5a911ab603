"""Stand between Keras and the layers of a model for the length of a forward pass.

`call` (and `activation`) of every layer is replaced on the instance, and put back afterwards. The replacements act only
in a thread that is recording, so replicas that run in threads do not disturb each other.
"""

import contextlib
import threading

import keras
import tensorflow as tf

_active = threading.local()
lock = threading.RLock()
_patched: dict = {}  # id(layer) -> [layer, number of passes in progress, the attributes that were replaced]
_do_not_convert = tf.autograph.experimental.do_not_convert


def current():
    """The record of the pass in progress in this thread, or None."""
    return getattr(_active, "record", None)


@contextlib.contextmanager
def acting(record):
    """Send the calls of this thread to `record`, or with None straight to the layers."""
    previous, _active.record = current(), record
    try:
        yield
    finally:
        _active.record = previous


@contextlib.contextmanager
def patched(layers):
    """Replace `call` and `activation` of the layers, and put them back whatever happens."""
    _patch(layers)
    try:
        yield
    finally:
        _unpatch(layers)


def invoke(function, args, kwargs):
    """Call a layer as Keras would: Keras 2 lets AutoGraph convert it when a graph is being built, Keras 3 does not."""
    if keras.__version__.startswith("2.") and not tf.executing_eagerly():
        return _converted()(function, args, kwargs)
    return function(*args, **kwargs)


def _plain(function, args, kwargs):
    return function(*args, **kwargs)


def _converted(cache=[]):  # noqa: B006
    if not cache:
        cache.append(tf.autograph.to_graph(_plain))
    return cache[0]


def _patch(layers):
    with lock:
        for layer in layers:
            entry = _patched.setdefault(id(layer), [layer, 0])
            entry[1] += 1
            if entry[1] == 1:
                # not by setattr, which would track the functions as part of the layer
                attributes = vars(layer)
                entry.append({name: attributes[name] for name in ("call", "activation") if name in attributes})
                attributes["call"] = _wrap_call(layer, layer.call)
                if callable(attributes.get("activation")):
                    attributes["activation"] = _wrap_activation(layer, attributes["activation"])


def _unpatch(layers):
    with lock:
        for layer in layers:
            entry = _patched[id(layer)]
            entry[1] -= 1
            if entry[1] == 0:
                del vars(layer)["call"]
                vars(layer).update(entry[2])
                del _patched[id(layer)]


def _wrap_call(layer, call):
    @_do_not_convert
    def recorded_call(*args, **kwargs):
        record = current()
        if record is None or id(layer) not in record.units:
            return invoke(call, args, kwargs)
        return record.on_call(layer, call, args, kwargs)

    return recorded_call


def _wrap_activation(layer, activation):
    @_do_not_convert
    def recorded_activation(*args, **kwargs):
        record = current()
        if record is None:
            return invoke(activation, args, kwargs)
        return record.on_activation(layer, activation, args, kwargs)

    return recorded_activation
