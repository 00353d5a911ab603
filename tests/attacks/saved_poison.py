"""What holds for the saved file of every clean-label attack."""

import numpy as np

import tfshape as ts


def assert_within_eps_with_labels_untouched(poisons, path, train, eps, reach):
    """Saves poison and reads it again: different examples of the intended class with their own labels, moved by at most
    eps and by more than `reach` somewhere, and within [0, 1], all exactly."""
    poisons.save(path)
    saved = ts.poison.Poisons.load(path)
    np.testing.assert_array_equal(saved.x, poisons.x)
    moved = np.abs(saved.x.astype(np.float64) - train.x[saved.base].astype(np.float64))
    assert (moved <= eps).all() and moved.max() > reach
    assert saved.x.min() >= 0 and saved.x.max() <= 1
    np.testing.assert_array_equal(saved.y, train.y[saved.base])
    assert set(saved.y) == set(saved.intended_y)
    assert len(set(saved.base)) == len(saved)
