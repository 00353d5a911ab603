"""Epsilon of DP-SGD, computed by dp_accounting."""

import functools
import math

SAMPLING = {
    "poisson": "each step takes each example independently with probability batch_size / num_examples",
    "shuffle": "the data are shuffled anew each epoch and cut into batches, an example used at most once an epoch",
}

MEANINGLESS = 30.0  # beyond it privacy loss distributions take minutes and the Rényi bound, also valid, says as much


def epsilon(noise_multiplier, batch_size, num_examples, steps, delta, sampling="poisson"):
    """Epsilon at `delta` of `steps` DP-SGD updates, adding or removing one example.

    Args:
        noise_multiplier: standard deviation of the noise in the summed gradients / their l2 sensitivity, >= 0.
        batch_size: (expected) examples a step, 1 to `num_examples`.
        num_examples: size of the training set, >= 1.
        steps: number of updates, >= 0.
        delta: probability, 0 < delta < 1.
        sampling: "poisson", where subsampling amplifies privacy; or "shuffle", for which no amplification is claimed:
            the Gaussian mechanism composed once for each time an example can be used, in closed form.

    Returns:
        Epsilon as a float; inf where the noise is 0 (and steps are not).

    Raises:
        ValueError: for a value outside these ranges.

    Source: Abadi et al. 2016 (arXiv 1607.00133) for DP-SGD; privacy loss distributions as in Doroshenko et al. 2022
    (arXiv 2207.04380), or Rényi DP (Mironov et al. 2019, arXiv 1908.10530) where epsilon exceeds 30; Balle & Wang 2018
    (arXiv 1805.06530, theorem 8) for "shuffle". The two readings of a run follow tensorflow-privacy's statement.
    """
    _check("noise_multiplier", noise_multiplier, 0 <= noise_multiplier < math.inf, "a number >= 0")
    _check("num_examples", num_examples, num_examples >= 1, "a count >= 1")
    _check("batch_size", batch_size, 1 <= batch_size <= num_examples, f"1 to num_examples={num_examples}")
    _check("steps", steps, steps >= 0, "a count >= 0")
    _check("delta", delta, 0 < delta < 1, "0 < delta < 1")
    _check("sampling", sampling, sampling in SAMPLING, ", ".join(SAMPLING))
    if steps == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    if sampling == "poisson":
        return _poisson(noise_multiplier, batch_size / num_examples, steps, delta)
    return _gaussian(noise_multiplier / math.sqrt(participations(batch_size, num_examples, steps)), delta)


def participations(batch_size, num_examples, steps):
    """How often one example can be used in `steps` shuffled batches whose remainder is dropped: the epochs begun."""
    return math.ceil(steps / (num_examples // batch_size))


def _check(name, value, allowed, words):
    if not allowed:
        raise ValueError(f"{name}={value!r}: allowed is {words}")


@functools.cache
def _poisson(noise_multiplier, probability, steps, delta):
    import dp_accounting
    from dp_accounting import pld, rdp

    event = dp_accounting.PoissonSampledDpEvent(probability, dp_accounting.GaussianDpEvent(noise_multiplier))
    event = dp_accounting.SelfComposedDpEvent(event, steps)
    loose = rdp.RdpAccountant().compose(event).get_epsilon(delta)
    if loose > MEANINGLESS:
        return loose
    return pld.PLDAccountant().compose(event).get_epsilon(delta)


def _gaussian(noise_multiplier, delta):
    from dp_accounting.pld import privacy_loss_mechanism
    from scipy import optimize

    loss = privacy_loss_mechanism.GaussianPrivacyLoss(noise_multiplier)
    if loss.get_delta_for_epsilon(0.0) <= delta:
        return 0.0
    above = 0.5 / noise_multiplier**2 + math.sqrt(2 * math.log(1 / delta)) / noise_multiplier
    return optimize.brentq(lambda value: loss.get_delta_for_epsilon(value) - delta, 0.0, above)
