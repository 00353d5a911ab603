"""What watching gradients costs: `ts.analysis.GradientArtifacts` against the same shaped training without it.

The variants take turns, a `fit` of a few epochs each, whose first epoch, which traces and compiles, does not count. A
ratio divides the median epoch of a variant by that of the training without a callback in the same round.
"""

import statistics
import time

SCHEMA = 1
BATCH, STEPS, EPOCHS = 256, 200, 4
VARIANTS = {  # name: options of the callback
    "not watched": None,
    "every epoch, 256 examples": {"every": "epoch", "examples": 256},
    "every batch, 32 examples": {"every": "batch", "examples": 32},
    "every batch, 64 examples": {"every": "batch", "examples": 64},
    "every batch, 256 examples": {"every": "batch", "examples": 256},
}


def rows(repeats=5, model="mlp"):
    """Times the variants on random images of Fashion-MNIST's size, shaped by clip(1)|noise(1), in batches of 256.

    Args:
        repeats: rounds, >= 1. model: a name in `ts.models.names()`.

    Returns:
        A list of dicts: schema, model, variant, milliseconds (a step, the callback included), ratio, ratio_low and
        ratio_high (to not watched: median, least and most over the rounds).
    """
    import keras
    import numpy as np

    from tfshape import analysis, models, shaping

    rng = np.random.default_rng(0)
    x = rng.random((BATCH * STEPS, 28, 28, 1), np.float32)
    y = rng.integers(0, 10, BATCH * STEPS).astype(np.int32)
    marks = rng.random(BATCH * STEPS) < 0.1
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    shaped = shaping.shape(models.build(model, (28, 28, 1), 10), shaping.dp_sgd(1.0, 1.0))
    shaped.compile(keras.optimizers.SGD(0.01), loss)

    def epoch_seconds(options):
        starts = []
        clock = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: starts.append(time.perf_counter()),
            on_train_end=lambda logs: starts.append(time.perf_counter()),
        )
        watch = [] if options is None else [analysis.GradientArtifacts((x, y, marks), csv_path=None, **options)]
        shaped.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[clock, *watch])
        return statistics.median(b - a for a, b in zip(starts[1:], starts[2:]))

    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(repeats):
        for name, options in VARIANTS.items():
            seconds[name].append(epoch_seconds(options))
    found = []
    for name, mine in seconds.items():
        ratios = [own / plain for own, plain in zip(mine, seconds["not watched"])]
        found.append(
            {
                "schema": SCHEMA,
                "model": model,
                "variant": name,
                "milliseconds": 1e3 * statistics.median(mine) / STEPS,
                "ratio": statistics.median(ratios),
                "ratio_low": min(ratios),
                "ratio_high": max(ratios),
            }
        )
    return found


def suite(repeats=5):
    """Prints the table of `rows`, and returns it."""
    table = rows(repeats)
    print(f"{table[0]['model']}, clip(1)|noise(1), batches of {BATCH}, {STEPS} steps an epoch, {repeats} rounds")
    print(f"{'variant':<28}{'ms a step':>10}{'x not watched':>15}{'least, most':>16}")
    for row in table:
        spread = f"{row['ratio_low']:.2f}, {row['ratio_high']:.2f}"
        print(f"{row['variant']:<28}{row['milliseconds']:>10.2f}{row['ratio']:>15.2f}{spread:>16}")
    return table
