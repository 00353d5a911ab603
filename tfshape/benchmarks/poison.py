"""Throughput of the poison transforms, against the same pipeline with an identity map.

tf.data deletes a map that returns its arguments (noop elimination), so the identity map is timed twice: `identity_map`
with that optimisation off, one function call an example, as any map that does something costs; and `no_map`, what is
left when it is deleted. The ratios are medians over rounds in which all pipelines take turns.
"""

import statistics
import time

import numpy as np
import tensorflow as tf

from tfshape import datasets, poison

SCHEMA = 1
LIMIT = 1.5  # times the identity map
BATCH = 128


def rows(repeats=5, num_examples=50_000):
    """Times every transform on fashion_mnist_mini and on random images [num_examples, 32, 32, 3] (float32 and uint8).

    Args:
      repeats: rounds, >= 1. num_examples: size of the random sets.
    Returns:
      A list of dicts: schema, data, transform, examples_per_second, microseconds (an example), of_identity_map and
      of_no_map (ratios of time), limit, within_limit (of_identity_map <= limit; None for the two references).
    """
    rng = np.random.default_rng(0)
    mini = datasets.load("fashion_mnist_mini").train
    y = rng.integers(0, 10, num_examples, np.int32)
    x = rng.integers(0, 256, (num_examples, 32, 32, 3), np.uint8)
    table = _measure(f"fashion_mnist_mini {len(mini)}x28x28x1 float32", mini.x, mini.y, repeats)
    table += _measure(f"random {num_examples}x32x32x3 uint8", x, y, repeats)
    return table + _measure(f"random {num_examples}x32x32x3 float32", (x / np.float32(255)), y, repeats)


def suite(repeats=5, num_examples=50_000):
    """Prints the table of `rows`, and returns it."""
    table = rows(repeats, num_examples)
    data = None
    for row in table:
        if row["data"] != data:
            data = row["data"]
            print(f"\n{data}, batches of {BATCH}, median of {repeats} rounds")
            print(f"{'transform':<26}{'examples/s':>12}{'us/example':>12}{'x identity map':>16}{'x no map':>10}")
        verdict = {True: "", False: f"  above {LIMIT}", None: ""}[row["within_limit"]]
        print(
            f"{row['transform']:<26}{row['examples_per_second']:>12,.0f}{row['microseconds']:>12.2f}"
            f"{row['of_identity_map']:>16.2f}{row['of_no_map']:>10.2f}{verdict}"
        )
    return table


def transforms(x, y):
    """name -> `Transform`, every kind there is, for examples x [N, H, W, C] and y [N] of ten classes."""
    rng = np.random.default_rng(1)
    bases = rng.permutation(len(x))[: len(x) // 20]
    crafted = poison.Poisons(x=x[bases], y=(y[bases] + 1) % 10, base=bases, num_examples=len(x))
    scale = 8 if x.dtype == np.uint8 else 8 / 255
    deltas = rng.uniform(-scale, scale, (len(x), *x.shape[1:])).astype(np.float32)
    triggers = {
        "patch": poison.patch(),
        "blend": poison.blend(),
        "sinusoid": poison.sinusoid(),
        "warp": poison.warp(),
    }
    return {
        "flip_labels 10%": poison.flip_labels(0.1, 10),
        "flip_labels pairwise 10%": poison.flip_labels(0.1, 10, mapping="pairwise"),
        **{f"stamp {name} 5%": poison.stamp(trigger, 0.05, target_class=7) for name, trigger in triggers.items()},
        **{f"stamp_test {name}": poison.stamp_test(trigger, target_class=7) for name, trigger in triggers.items()},
        "insert 5%": poison.insert(crafted),
        "replace 5%": poison.replace(crafted),
        "perturb by sample": poison.perturb(deltas),
        "perturb by class": poison.perturb(deltas[:10], by="class"),
    }


def _measure(name, x, y, repeats):
    clean = tf.data.Dataset.from_tensor_slices((x, y))
    kept = tf.data.Options()
    kept.experimental_optimization.noop_elimination = False
    pipelines = {
        "identity_map": clean.map(lambda x, y: (x, y), tf.data.AUTOTUNE).with_options(kept),
        "no_map": clean,
        **{key: clean.apply(transform) for key, transform in transforms(x, y).items()},
    }
    times: dict[str, list[float]] = {key: [] for key in pipelines}
    for _ in range(repeats):
        for key, pipeline in pipelines.items():
            start = time.perf_counter()
            for _ in pipeline.batch(BATCH):
                pass
            times[key].append(time.perf_counter() - start)
    return [_row(name, key, len(x), times) for key in times]


def _row(data, key, count, times):
    def ratio(reference):
        return statistics.median(mine / other for mine, other in zip(times[key], times[reference]))

    seconds = statistics.median(times[key])
    reference = key in ("identity_map", "no_map")
    return {
        "schema": SCHEMA,
        "data": data,
        "transform": key,
        "examples_per_second": count / seconds,
        "microseconds": 1e6 * seconds / count,
        "of_identity_map": ratio("identity_map"),
        "of_no_map": ratio("no_map"),
        "limit": LIMIT,
        "within_limit": None if reference else ratio("identity_map") <= LIMIT,
    }
