"""Keras on JAX: `fit` by plain SGD, and JAX-Privacy's Keras API. Runs without tfshape and TensorFlow."""

import itertools
import os
import time
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import jax_worker
import keras
from keras import layers
from protocol import CLASSES, CLIP, GROUPS, HEADS, LEARNING_RATE, LENGTH, NOISE, VOCABULARY, WIDTH, hidden_width, serve
from protocol import data as arrays

# Batches are counted against these, which no benchmark comes near: with them epsilon is small and quickly computed.
STEPS, EXAMPLES = 1_000_000, 10**10


def build(name):
    """The models of keras_worker.py, by name."""
    shape = {"text": (LENGTH,), "resnet20": (32, 32, 3)}.get(name, (28, 28, 1))
    inputs = keras.Input(shape, dtype="int32" if name == "text" else "float32")
    if name == "text":
        x = layers.Embedding(VOCABULARY, WIDTH)(inputs)
        x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x)]))
        x = layers.GlobalAveragePooling1D()(x)
    elif name == "resnet20":
        x = layers.GlobalAveragePooling2D()(_resnet20(inputs))
    else:
        x, widths = inputs, [hidden_width(name)] * 2
        if name == "cnn":
            x = layers.Conv2D(16, 3, activation="relu")(x)
            x = layers.MaxPooling2D()(layers.Conv2D(32, 3, activation="relu")(x))
            widths = [256]
        x = layers.Flatten()(x)
        for width in [] if name == "lr" else widths:
            x = layers.Dense(width, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def _resnet20(x):
    def convolution(x, width, size, stride):
        x = layers.Conv2D(width, size, stride, padding="same", use_bias=False)(x)
        return x if size == 1 else layers.GroupNormalization(GROUPS)(x)

    x = layers.ReLU()(convolution(x, 16, 3, 1))
    for width, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, 1, 1):
            shortcut = x if stride == 1 else convolution(x, width, 1, stride)
            x = layers.ReLU()(convolution(x, width, 3, stride))
            x = layers.ReLU()(layers.Add()([convolution(x, width, 3, 1), shortcut]))
    return x


class Start(keras.callbacks.Callback):
    """When the last epoch began."""

    def on_epoch_begin(self, epoch, logs=None):
        self.time = time.perf_counter()


class Trainer(jax_worker.Trainer):
    """`fit` over batches in memory. `step` is the compiled model; Keras keeps its state."""

    def __init__(self, model, variant, batch_size):
        self.name, self.variant, self.batch_size = model, variant, batch_size
        x, y = arrays(model, batch_size)
        self.batches = [(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(x, y)]
        self.parameters = build(model).count_params()
        self.detail, self.state = "", None
        self.step: Any = None

    def prepare(self, model):
        """Compiles the model, and lets JAX do so by one step."""
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(LEARNING_RATE), loss)
        self.step = model
        self.run(1)

    def plain(self):
        self.prepare(build(self.name))

    def private(self, microbatch):
        from jax_privacy import keras_api

        config = keras_api.DPKerasConfig(
            epsilon=100.0,
            delta=1e-5,
            clipping_norm=CLIP,
            noise_multiplier=NOISE,
            batch_size=self.batch_size,
            gradient_accumulation_steps=1,
            train_steps=STEPS,
            train_size=EXAMPLES,
            microbatch_size=microbatch,
            seed=0,
        )
        self.prepare(keras_api.make_private(build(self.name), config))

    def run(self, steps):
        start, batches = Start(), (batch for batch in itertools.cycle(self.batches))  # Keras takes generators only
        self.step.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=[start])
        jax.block_until_ready([variable.value for variable in self.step.variables])
        return time.perf_counter() - start.time


if __name__ == "__main__":
    serve(Trainer)
