"""Which cases of a test run always, and which only under --all."""

import pytest


def most_slow(names, *fast):
    """Parameters of a test that is fast for those named `fast`, one of each kind, and slow for the rest."""
    assert set(fast) <= set(names)
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]
