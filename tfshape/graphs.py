"""TensorFlow graphs that are freed when nothing uses them any more."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

_lock = threading.Lock()
_using = 0
_register: Any = None


@contextlib.contextmanager
def collectable() -> Iterator[None]:
    """Lets the garbage collector free the graphs that are traced inside.

    TensorFlow registers the gradient function of every `tf.custom_gradient` in a graph for the life of the process, and
    that function keeps the whole graph. Keras' optimizers have one, so a process that trains many models grows by a
    megabyte or two with each. Inside, the graph itself owns such a function and the registry only refers to it.
    """
    global _using, _register
    import tensorflow as tf

    with _lock:
        _using += 1
        if _using == 1:
            _register = tf.RegisterGradient.__call__
            tf.RegisterGradient.__call__ = _registered
    try:
        yield
    finally:
        with _lock:
            _using -= 1
            if _using == 0:
                tf.RegisterGradient.__call__ = _register


def _registered(decorator, function):
    import tensorflow as tf

    if function.__name__ != "internal_grad_fn":  # the name that `tf.custom_gradient` gives its own
        return _register(decorator, function)
    tf.compat.v1.get_default_graph().add_to_collection(__name__, function)
    owned = weakref.proxy(function)
    _register(decorator, lambda *arguments: owned(*arguments))
    return function


def only(dataset: Any) -> Any:
    """The element of a `tf.data.Dataset` that has one.

    `get_single_element` would do, but TensorFlow keeps what it made for that, a megabyte where functions have branches.
    """
    import tensorflow as tf

    return next(iter(dataset)) if tf.executing_eagerly() else dataset.get_single_element()


def free() -> None:
    """Frees the models and graphs that nothing uses any more; call it between trials.

    They refer to each other in circles, so that only the garbage collector frees them, which else waits for very many.
    """
    gc.collect()
