"""Privacy loss distributions that not every dp_accounting can make: groups, replacement, and balls in bins.

A loss is put on the grid of losses by replacing each piece of it by the two grid points around it, with the same
probability under both distributions. That spreads the likelihood ratio and keeps its mean, and delta(epsilon) is the
mean of a convex function of the ratio: so the bound can only grow, and only by the square of the step. What is cut off
at the ends counts as a loss of inf. Source: Doroshenko et al. 2022, Connect the Dots (arXiv 2207.04380).
"""

from __future__ import annotations

import functools
import math

import numpy as np

from tfshape.privacy import curves

STEP = 1e-4  # of the grid of losses, as in dp_accounting
FAR = 100.0  # losses beyond it count as inf
TAIL = 1e-10  # probability of the ratios that `random_allocation` cuts off
CUT = 1e-15  # probability that composing may cut off
POINTS = 1 << 20  # of its grid of ratios


@functools.lru_cache(maxsize=64)
def mixture(noise_multiplier, probability, size, count, replace=False):
    """`count` Poisson-sampled Gaussian sums with or without `size` examples, each sampled with `probability`.

    In the worst case all of them pull one way, and the sum moves by their number in the batch: a binomial mixture of
    Gaussians against one (Ganesh 2024, arXiv 2401.10294). With `replace`, for size 1, the example against its opposite
    (Zhu et al. 2022, arXiv 2106.08567; dp_accounting takes the same pair).

    Returns: a `Curve`.
    """
    from scipy import stats

    moves = np.arange(size + 1)
    weights = stats.binom.pmf(moves, size, probability)
    used = weights > 1e-18
    moves, weights = moves[used], weights[used]
    reach = 9 * noise_multiplier
    x = np.linspace(-reach - moves[-1] * replace, reach + moves[-1], 100_001)
    loss = _log_ratio(x, moves, weights, noise_multiplier)
    if replace:
        loss = loss - _log_ratio(x, -moves, weights, noise_multiplier)
        return _compose([_cells(x, loss, moves, -moves, weights, noise_multiplier)], count)
    remove = _cells(x, loss, moves, 0 * moves, weights, noise_multiplier)
    add = _cells(-x[::-1], -loss[::-1], 0 * moves, -moves, weights, noise_multiplier)
    return _compose([remove, add], count)


@functools.lru_cache(maxsize=64)
def random_allocation(noise_multiplier, bins, epochs):
    """`epochs` rounds, in each of which an example falls into one of `bins` Gaussian sums.

    The likelihood ratio of a round is the mean of `bins` independent ratios, one a sum (Chua et al. 2025,
    Balls-and-Bins Sampling for DP-SGD). Each is put on an even grid by the spread above, which keeps the bound because
    a mean is linear; the mean's distribution is then a power of a Fourier transform. No random draws are involved.

    Returns: a `Curve`.
    """
    from scipy import special

    # Where one ratio is cut: under P it lies beyond with probability TAIL, which goes to a loss of inf; for the other
    # direction ratios above the cut are lowered to it, which only raises the bound.
    far = -special.ndtri(TAIL) / noise_multiplier
    values, masses = _mean_ratio(far + 0.5 / noise_multiplier**2, noise_multiplier, bins, biased=True)
    remove = _atoms(np.log(values), masses)
    values, masses = _mean_ratio(far - 0.5 / noise_multiplier**2, noise_multiplier, bins, biased=False)
    add = _atoms(-np.log(values), masses)
    return _compose([remove, add], epochs, least=TAIL)


def _mean_ratio(log_cut, noise_multiplier, bins, biased):
    """Values > 0 of the mean of `bins` ratios, and their masses: with one ratio under P if `biased`, all under Q."""
    from scipy import special

    spread = math.sqrt(bins * math.expm1(min(noise_multiplier**-2, 300.0)))
    cut = math.exp(min(log_cut, 300.0))
    step = (2 * cut + bins + 12 * spread) / POINTS
    edges = np.arange(math.ceil(cut / step) + 1) * step
    with np.errstate(divide="ignore"):
        place = noise_multiplier * np.log(edges)
    under_q, under_p = (np.diff(special.ndtr(place + side / (2 * noise_multiplier))) for side in (1, -1))
    upper = np.clip(under_p / step - np.arange(len(under_q)) * under_q, 0, under_q)
    single = np.zeros(POINTS)
    single[: len(upper)] = under_q - upper
    single[1 : len(upper) + 1] += upper
    single[len(upper)] += max(0.0, 1 - single.sum())
    first = single * np.arange(POINTS) * step if biased else single
    total = np.fft.irfft(np.fft.rfft(single) ** (bins - 1) * np.fft.rfft(first), POINTS)
    # The transform wraps around; the last eighth holds more than what lay beyond, and is given up to a loss of inf,
    # as are ratios of 0.
    kept = np.arange(1, POINTS * 7 // 8)
    return kept * (step / bins), np.clip(total[kept], 0, None)


def _log_ratio(x, moves, weights, noise_multiplier):
    """log of sum_j weights_j N(moves_j, noise²)(x) / N(0, noise²)(x)."""
    from scipy import special

    return np.concatenate(
        [
            special.logsumexp((part[:, None] * moves - moves**2 / 2) / noise_multiplier**2, axis=1, b=weights)
            for part in np.array_split(x, 1 + x.size * moves.size // 4_000_000)
        ]
    )


def _cells(x, loss, upper, lower, weights, noise_multiplier):
    """P-masses on the grid, of a loss that rises along x; `upper` and `lower` are the moves under P and Q."""
    first, last = (int(end / STEP) for end in np.clip(loss[[0, -1]], -FAR, FAR))
    stride = max(1, (last - first) // 100_000)
    index = np.arange(first - stride, last + stride + 1, stride)
    edges = np.interp(index * STEP, loss, x, left=-np.inf)
    edges[0] = -np.inf
    p, q = (_between(edges, moves, weights, noise_multiplier) for moves in (upper, lower))
    up = np.clip((p - np.exp(index[:-1] * STEP) * q) / -math.expm1(-stride * STEP), 0, p)
    masses = {}
    for places, part in ((index[:-1], p - up), (index[1:], up)):
        for place, mass in zip(places.tolist(), part.tolist()):
            masses[place] = masses.get(place, 0.0) + mass
    return masses


def _between(edges, moves, weights, noise_multiplier):
    """The mixture's probability between neighbouring edges; from the nearer tail, so that digits are kept."""
    from scipy import special

    def part(edges):
        z = (edges[:, None] - moves) / noise_multiplier
        low, high = z[:-1], z[1:]
        left = special.ndtr(np.where(low > 0, -low, high)) - special.ndtr(np.where(low > 0, -high, low))
        return left @ weights

    cuts = np.array_split(np.arange(edges.size - 1), 1 + edges.size * moves.size // 4_000_000)
    return np.concatenate([part(edges[cut[0] : cut[-1] + 2]) for cut in cuts])


def _atoms(loss, masses):
    """P-masses on the grid, of single losses."""
    loss = np.maximum(loss, -FAR)
    kept = (loss < FAR) & (masses > 0)
    loss, masses = loss[kept], masses[kept]
    place = np.floor(loss / STEP).astype(int)
    up = np.clip(masses * np.expm1(place * STEP - loss) / math.expm1(-STEP), 0, masses)
    low = int(place.min())
    table = np.bincount(place - low, masses - up, place.max() - low + 2)
    table += np.bincount(place - low + 1, up, len(table))
    return {low + i: mass for i, mass in enumerate(table.tolist()) if mass > 0}


def _compose(directions, count, least=0.0):
    """The curve of `directions`, `count` times; what their masses lack to 1, but at least `least`, is a loss of inf."""
    from dp_accounting.pld import common

    tables = []
    for masses in directions:
        lost = max(least, 1 - math.fsum(masses.values()))
        if lost >= 1 or count * math.log1p(-lost) < math.log(CUT):  # dp_accounting cannot compose next to nothing
            tables.append((0, np.zeros(1), 1.0))
            continue
        first, table = common.dictionary_to_list(masses)
        start, composed = common.self_convolve(table, count, tail_mass_truncation=CUT)
        tables.append((first * count + start, np.asarray(composed), CUT - math.expm1(count * math.log1p(-lost))))
    return curves.Losses(tables, STEP)
