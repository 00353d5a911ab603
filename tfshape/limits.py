"""`ulimit -v`: what must be had while there is memory."""

from __future__ import annotations

import resource


def address_space() -> int | None:
    """How many bytes of address space this process may have; None without a limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def prepare() -> None:
    """Under a limit, lets the OpenBLAS of NumPy and that of SciPy have their buffers.

    Each takes 32 MB when it is first used, and asks again and again, for ever, for what it cannot have.
    """
    if address_space() is not None:
        import numpy as np
        from scipy import linalg

        for invert in (np.linalg.inv, linalg.inv):
            invert(np.eye(2))
