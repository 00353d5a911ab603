"""Keras's `fit`: plain SGD, tfshape, and tensorflow-privacy's optimizers and models."""

import time

import keras
import tensorflow as tf
from protocol import CLASSES, CLIP, HEADS, LEARNING_RATE, LENGTH, NOISE, VOCABULARY, WIDTH, data, hidden_width, serve

import tfshape as ts


def sgd(model, batch_size, **options):
    return compiled(model, **options)


def tfshape(model, batch_size, **options):
    return compiled(ts.shape(model, ts.shaping.dp_sgd(CLIP, NOISE)), **options)


def tfp_looped(model, batch_size, **options):
    from tensorflow_privacy import DPKerasSGDOptimizer

    return with_dp_optimizer(model, DPKerasSGDOptimizer, batch_size, **options)


def tfp_vectorized(model, batch_size, **options):
    from tensorflow_privacy import VectorizedDPKerasSGDOptimizer

    return with_dp_optimizer(model, VectorizedDPKerasSGDOptimizer, batch_size, **options)


def tfp_dpmodel(model, batch_size, **options):
    from tensorflow_privacy import DPModel

    return compiled(DPModel(CLIP, NOISE, inputs=model.inputs, outputs=model.outputs), **options)


def tfp_registry(model, batch_size, **options):
    """With the default registry and every other rule that tensorflow-privacy has for layers of Keras."""
    from tensorflow_privacy import DPModel
    from tensorflow_privacy.privacy.fast_gradient_clipping import layer_registry
    from tensorflow_privacy.privacy.fast_gradient_clipping.registry_functions import (
        einsum_dense,
        layer_normalization,
        multi_head_attention,
    )

    registry = layer_registry.make_default_layer_registry()
    registry.insert(keras.layers.EinsumDense, einsum_dense.einsum_layer_computation)
    registry.insert(keras.layers.LayerNormalization, layer_normalization.layer_normalization_computation)
    registry.insert(keras.layers.MultiHeadAttention, multi_head_attention.multi_head_attention_layer_computation)
    missing = {type(part).__name__ for part in model.layers if part.trainable_weights and not registry.is_elem(part)}
    shaped = DPModel(CLIP, NOISE, layer_registry=registry, inputs=model.inputs, outputs=model.outputs)
    shaped.detail = f"no rule for {', '.join(sorted(missing))}: as tfp_dpmodel" if missing else ""
    return compiled(shaped, **options)


VARIANTS = {f.__name__: f for f in (sgd, tfshape, tfp_looped, tfp_vectorized, tfp_dpmodel, tfp_registry)}


def compiled(model, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(LEARNING_RATE), loss, **options)
    return model


def with_dp_optimizer(model, cls, batch_size, **options):
    optimizer = cls(CLIP, NOISE, num_microbatches=batch_size, learning_rate=LEARNING_RATE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    model.compile(optimizer, loss, **options)
    return model


def build(name):
    """The Keras model of that name: one of `ts.models`, `mlp:WIDTH`, or `text`."""
    if name == "text":
        return text()
    if name.startswith("mlp:"):
        inputs = keras.Input((28, 28, 1))
        x = keras.layers.Flatten()(inputs)
        for _ in range(2):
            x = keras.layers.Dense(hidden_width(name), activation="relu")(x)
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
    return ts.models.build(name, (32, 32, 3) if name == "resnet20" else (28, 28, 1), CLASSES)


def text():
    """Embedding, one block of attention with a shortcut and normalisation, mean over the tokens, logits."""
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, WIDTH)(inputs)
    attended = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x)
    x = keras.layers.LayerNormalization()(keras.layers.Add()([x, attended]))
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


class Clock(keras.callbacks.Callback):
    """Seconds of the last epoch, without what `fit` does before and after it."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self.start


class Trainer:
    """`fit` over a tf.data pipeline."""

    def __init__(self, model, variant, batch_size, steps_per_execution):
        plain = build(model)
        self.parameters = plain.count_params()
        self.model = VARIANTS[variant](plain, batch_size, steps_per_execution=steps_per_execution)
        self.detail = getattr(self.model, "detail", "")
        self.data = tf.data.Dataset.from_tensor_slices(data(model, batch_size)).repeat().prefetch(1)

    def train(self, steps):
        clock = Clock()
        self.model.fit(self.data, steps_per_epoch=steps, verbose=0, callbacks=[clock])
        return clock.seconds


if __name__ == "__main__":
    serve(Trainer)
