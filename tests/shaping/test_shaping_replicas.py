"""Two replicas make the update of one, and their noise has the variance of one."""

import json
import math
import pathlib

import forked
import numpy as np
import pytest
from scipy import stats


@pytest.fixture(scope="module")
def found():
    here = pathlib.Path(__file__).parent
    run = forked.script(here, here / "replicas.py")
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("name", ["uneven", "adaptive", "momentum"])
def test_the_update_is_that_of_one_replica(found, name):
    one, two = found["1"][name], found["2"][name]
    np.testing.assert_allclose(two["changes"], one["changes"], rtol=1e-4, atol=1e-6)
    for a, b in zip(one["state"], two["state"]):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-7)
    for key in ("loss", "accuracy", "nonfinite"):
        # Keras 3 averages the replicas' metrics however few rows one of them had.
        np.testing.assert_allclose(two["logs"][key], one["logs"][key], rtol=0.1 if name == "uneven" else 1e-4)


@pytest.mark.parametrize("replicas", ["1", "2"])
def test_the_total_noise_has_the_variance_of_one(found, replicas):
    z = np.array(found[replicas]["noise"]["changes"]) * 8 / (0.5 * 2.0)
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], z.size)
    assert low < (z**2).sum() < high
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4
    assert abs((z[1:] * z[:-1]).mean()) < 5 / math.sqrt(z[1:].size)


def test_replicas_draw_noise_of_their_own(found):
    """Were replica 0 to draw what one replica alone does, the two sums would be correlated."""
    one, two = (np.array(found[replicas]["noise"]["changes"]).ravel() for replicas in ("1", "2"))
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / math.sqrt(len(one))


@pytest.mark.parametrize("replicas", ["1", "2"])
def test_a_layer_that_mixes_rows_is_refused_by_name(found, replicas):
    assert found[replicas]["refusal"].startswith("layer it (BatchMean) mixes the examples of a batch")
