"""JAX: plain SGD, and JAX-Privacy's clipped_grad with its best microbatch. Runs without tfshape and TensorFlow."""

import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from protocol import (
    CLASSES,
    CLIP,
    GROUPS,
    HEADS,
    LEARNING_RATE,
    NOISE,
    VOCABULARY,
    WIDTH,
    data,
    forget_peak,
    hidden_width,
    serve,
)

# While the best microbatch is looked for:
LARGEST_BYTES = 2e9  # of per-example gradients in a microbatch
TUNING_SECONDS = 60


class Network(nn.Module):
    """The models of keras_worker.py, by name."""

    name_: str

    @nn.compact
    def __call__(self, x):
        if self.name_ == "text":
            x = nn.Embed(VOCABULARY, WIDTH)(x)
            return nn.Dense(CLASSES)(nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(HEADS)(x)).mean(1))
        if self.name_ == "resnet20":
            return self.resnet20(x)
        widths = [hidden_width(self.name_)] * 2
        if self.name_ == "cnn":
            x = nn.relu(nn.Conv(16, (3, 3), padding="VALID")(x))
            x = nn.relu(nn.Conv(32, (3, 3), padding="VALID")(x))
            x, widths = nn.max_pool(x, (2, 2), (2, 2)), [256]
        x = x.reshape(len(x), -1)
        for width in [] if self.name_ == "lr" else widths:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(CLASSES)(x)

    def resnet20(self, x):
        def convolution(x, width, size, stride):
            return nn.Conv(width, (size, size), stride, use_bias=False)(x)

        def norm(x):
            return nn.GroupNorm(GROUPS)(x)

        x = nn.relu(norm(convolution(x, 16, 3, 1)))
        for width, first_stride in ((16, 1), (32, 2), (64, 2)):
            for stride in (first_stride, 1, 1):
                shortcut = x if stride == 1 else convolution(x, width, 1, stride)
                x = nn.relu(norm(convolution(x, width, 3, stride)))
                x = nn.relu(norm(convolution(x, width, 3, 1)) + shortcut)
        return nn.Dense(CLASSES)(x.mean((1, 2)))


class Trainer:
    """A jitted step over batches in memory, with donated state."""

    def __init__(self, model, variant, batch_size):
        self.network, self.variant, self.batch_size = Network(model), variant, batch_size
        x, y = data(model, batch_size)
        self.batches = [(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(x, y)]
        self.parameters = sum(part.size for part in jax.tree.leaves(self.initial()))
        self.detail = ""
        self.step: Any = None  # a compiled function

    def initial(self):
        return self.network.init(jax.random.key(0), self.batches[0][0][:1])

    def loss(self, params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(self.network.apply(params, x), y).mean()

    def prepare(self, gradient, transformation):
        """Makes `step` and its state anew, and compiles it by one step."""

        def step(state, x, y):
            params, inner = state
            updates, inner = transformation.update(gradient(params, x, y), inner, params)
            return optax.apply_updates(params, updates), inner

        params = self.initial()
        self.step, self.state = jax.jit(step, donate_argnums=0), (params, transformation.init(params))
        self.run(1)

    def plain(self):
        self.prepare(jax.grad(self.loss), optax.sgd(LEARNING_RATE))

    def private(self, microbatch):
        from jax_privacy import clipped_grad, noise_addition

        gradient = clipped_grad(
            self.loss, l2_clip_norm=CLIP, normalize_by=self.batch_size, batch_argnums=(1, 2), microbatch_size=microbatch
        )
        stddev = NOISE * gradient.sensitivity()
        noise = noise_addition.gaussian_privatizer(stddev=stddev, prng_key=jax.random.key(1))
        self.prepare(gradient, optax.chain(noise, optax.sgd(LEARNING_RATE)))

    def tune(self):
        """Takes the fastest microbatch: tries larger ones until one is slower by half or TUNING_SECONDS are over."""
        start, made, size = time.perf_counter(), {}, min(8, self.batch_size)
        while True:
            self.private(size)
            made[size] = self.run(1), size, self.step, self.state
            following = min(size * 4, self.batch_size)
            late = time.perf_counter() - start > TUNING_SECONDS
            slower = made[size][0] > 1.5 * min(item[0] for item in made.values())
            if late or slower or following == size or following * self.parameters * 4 > LARGEST_BYTES:
                break
            size = following
        _, best, self.step, self.state = min(made.values(), key=lambda item: item[0])
        self.detail = f"microbatch {best} of {', '.join(map(str, made))}"
        forget_peak()

    def train(self, steps):
        if self.step is None:
            if self.variant.startswith("jax_privacy"):
                self.tune()
            else:
                self.plain()
        return self.run(steps)

    def run(self, steps):
        start = time.perf_counter()
        for step in range(steps):
            self.state = self.step(self.state, *self.batches[step % len(self.batches)])
        jax.block_until_ready(self.state)
        return time.perf_counter() - start


if __name__ == "__main__":
    serve(Trainer)
