"""Arrays as pictures inside of a page."""

from __future__ import annotations

import base64
import io

import numpy as np


def data_uri(image):
    """A PNG as a data: URI.

    image: float [H, W, C] in [0, 1], C 1 or 3 (of other numbers the mean is drawn), or [H, W].
    """
    from matplotlib import image as files

    image = np.asarray(image, np.float32)
    if image.ndim == 3 and image.shape[-1] != 3:
        image = image.mean(-1)
    file = io.BytesIO()
    files.imsave(file, np.clip(image, 0, 1), format="png", cmap="gray", vmin=0, vmax=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def amplified(change):
    """A perturbation around mid grey, as large as it can be drawn.

    Args:
        change: float [N, ...], poison minus base.

    Returns:
        (the amplified ones in [0, 1], the factor: a whole number >= 1, or 1 where nothing changed).
    """
    largest = float(np.abs(change).max(initial=0.0))
    factor = max(1, int(0.5 / largest + 1e-3)) if largest > 0 else 1
    return np.clip(0.5 + factor * change, 0, 1), factor
