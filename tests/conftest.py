"""Shared test settings: quiet TensorFlow, two threads, slow tests only on request."""

import os
from importlib.metadata import version

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest
from hypothesis import HealthCheck, settings

UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large]  # a busy machine is no failure
settings.register_profile("tests", deadline=None, suppress_health_check=UNHURRIED)
settings.load_profile("tests")


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the slow, statistical tests too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--all"):
        left_out = {"slow"} if version("keras").startswith("2.") else {"slow", "one_stack"}
        kept = [item for item in items if not left_out & {marker.name for marker in item.iter_markers()}]
        config.hook.pytest_deselected(items=list({*items} - {*kept}))
        items[:] = kept


@pytest.fixture
def rng(request):
    """A NumPy generator that is the same for the same test."""
    import zlib

    import numpy as np

    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
