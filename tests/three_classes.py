"""A small dataset for whole experiments."""

import numpy as np


def write(folder, train, test):
    """Three classes of 12 features, easy but for some noise, in a file of the folder: its name as a dataset."""
    generator = np.random.default_rng(0)
    centres = generator.uniform(0.2, 0.8, size=(3, 12))
    arrays = {}
    for part, size in (("train", train), ("test", test)):
        y = np.arange(size) % 3
        arrays[f"x_{part}"] = np.clip(centres[y] + 0.1 * generator.normal(size=(size, 12)), 0, 1).astype(np.float32)
        arrays[f"y_{part}"] = y.astype(np.int32)
    np.savez(folder / "small.npz", **arrays)
    return f"npz:{folder / 'small.npz'}"
