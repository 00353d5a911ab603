"""What the numbers of an image mean where nobody says: one rule for datasets, triggers and poison."""

from __future__ import annotations

from typing import Any


def white(dtype: Any, largest: float) -> int:
    """The value of white: 255 in bytes (uint8) of which some are above 1, else 1.

    Bytes that are all 0 or 1 are a drawing in black and white, as they would be in any other dtype.

    Args:
        dtype: a NumPy or TensorFlow dtype. largest: the largest of all values there are.
    """
    return 255 if getattr(dtype, "name", dtype) == "uint8" and largest > 1 else 1
