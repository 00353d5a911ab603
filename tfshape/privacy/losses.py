"""Privacy loss distributions that not every dp_accounting can make: groups, replacement, and balls in bins.

A loss is put on a grid of losses by replacing each piece of it by the two grid points around it, with the same
probability under both distributions. That spreads the likelihood ratio and keeps its mean, and delta(epsilon) is the
mean of a convex function of the ratio: so the bound can only grow, and only by the square of the step. What is cut off
at the top counts as a loss of inf. Source: Doroshenko et al. 2022, Connect the Dots (arXiv 2207.04380).
"""

from __future__ import annotations

import functools
import math

import numpy as np

from tfshape.privacy import curves

STEP = 1e-4  # of the grid of losses, as in dp_accounting
FAR = 100.0  # losses beyond it count as inf
CUT = 1e-15  # probability that composing may cut off
ROUNDING = 1e-16  # of a Fourier transform, for each distribution that it composes
WIDTH = 1_500  # grid points of a ratio or a loss that is made by doubling
TOP = 1e-20  # probability that doubling may cut off where a loss is large
BOTTOM = 1e-140  # and where it is small: the product of two such can still be represented
ORDERS = 1 + np.geomspace(1e-3, 1e5, 100)  # of Rényi divergences
MOMENTS = 512  # the highest order for `random_allocation`


@functools.lru_cache(maxsize=64)
def mixture(noise_multiplier, probability, size, count, replace=False):
    """`count` Poisson-sampled Gaussian sums with or without `size` examples, each sampled with `probability`.

    In the worst case all of them pull one way, and the sum moves by their number in the batch: a binomial mixture of
    Gaussians against one (Ganesh 2024, arXiv 2401.10294). With `replace`, for size 1, the example against its opposite
    (Zhu et al. 2022, arXiv 2106.08567; dp_accounting takes the same pair).

    Returns: a `Curve`.
    """
    sums = noise_multiplier, probability, size, replace
    divergences = [curves.Renyi(ORDERS, count * each) for each in _divergences(*sums)]
    tables, lost = _tables(*sums)
    return curves.Least((_compose(tables, lost, count), curves.Worst(tuple(divergences))))


@functools.lru_cache(maxsize=4)
def _tables(noise_multiplier, probability, size, replace):
    """P-masses on the grid of one sum of `mixture` in each direction, and the probability that they leave out."""
    moves, weights, rare = _moves(probability, size, 1e-18)
    pairs = _pairs(moves, weights, noise_multiplier, 9, 100_001, replace)
    beyond = 1e-18  # 9 standard deviations, twice
    return [_cells(noise_multiplier, *pair) for pair in pairs], rare + beyond


@functools.lru_cache(maxsize=64)
def _divergences(noise_multiplier, probability, size, replace):
    """Rényi divergences of `ORDERS` of one sum of `mixture` in each direction; they say more where delta is tiny."""
    from scipy import special

    moves, weights, _ = _moves(probability, size, 1e-305)
    found = []
    for x, loss, *sides, odds in _pairs(moves, weights, noise_multiplier, 38, 10_001, replace):
        p, q = (_between(x, side, odds, noise_multiplier) for side in sides)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            up = (p - np.exp(loss[:-1]) * q) / -np.expm1(-np.diff(loss))
            up = np.where(np.isfinite(up), np.clip(up, 0, p), p)
            logs = np.log(np.append(p - up, 0) + np.append(0, up))
        found.append(np.array([special.logsumexp(logs + (n - 1) * loss) for n in ORDERS]) / (ORDERS - 1))
    return found


def _moves(probability, size, least):
    """How many of `size` may be in a batch, the probabilities of that, and the sum of those below `least`, left out."""
    from scipy import stats

    moves = np.arange(size + 1)
    weights = stats.binom.pmf(moves, size, probability)
    used = weights > least
    return moves[used], weights[used], float(weights[~used].sum())


def _pairs(moves, weights, noise_multiplier, reach, points, replace):
    """(x, loss at x, moves under P, moves under Q, weights) for each direction; the loss rises along x."""
    reach = reach * noise_multiplier
    x = np.linspace(-reach - moves[-1] * replace, reach + moves[-1], points)
    loss = _log_ratio(x, moves, weights, noise_multiplier)
    if replace:
        loss = loss - _log_ratio(x, -moves, weights, noise_multiplier)
        return [(x, loss, moves, -moves, weights)]
    return [(x, loss, moves, 0 * moves, weights), (-x[::-1], -loss[::-1], 0 * moves, -moves, weights)]


@functools.lru_cache(maxsize=64)
def random_allocation(noise_multiplier, bins, epochs):
    """`epochs` rounds, in each of which an example falls into one of `bins` Gaussian sums.

    The likelihood ratio of a round is the mean of `bins` independent ratios, one a sum (Chua et al. 2025,
    Balls-and-Bins Sampling for DP-SGD). Its distribution is made by doubling: the mean of 2n ratios from two means of
    n, put on a grid of its logarithm by the spread above, which keeps the bound because a mean is linear; the step
    shrinks as the distribution does. The losses of rounds are added by doubling too. All sums are of positive numbers,
    so that small probabilities keep their digits. No random draws are involved.

    Returns: a `Curve`.
    """
    step, (low, masses, missing, lost) = _mean_ratio(noise_multiplier, bins)
    loss = (low + np.arange(len(masses))) * step
    remove = curves.Losses([_repeat(low, masses * np.exp(loss), step, missing, epochs)])
    add = curves.Losses([_repeat(1 - low - len(masses), masses[::-1], step, lost, epochs)])
    renyi = curves.Renyi(np.arange(2, MOMENTS + 1), epochs * _mean_divergences(noise_multiplier, bins))
    return curves.Worst((curves.Least((remove, renyi)), add))


@functools.lru_cache(maxsize=64)
def _mean_divergences(noise_multiplier, bins):
    """Rényi divergences, of orders from 2 to `MOMENTS`, of removing an example.

    They say more where delta is less than what `_mean_ratio` cuts off. The moment of order n of a sum of `bins` ratios
    is n! times the n-th coefficient of the `bins`-th power of the series of one ratio's moments / n!, and one ratio is
    lognormal. All is kept as logarithms.
    """
    from scipy import special

    orders = np.arange(MOMENTS + 1)
    factorials = special.gammaln(orders + 1)
    single = power = orders * (orders - 1) / (2 * noise_multiplier**2) - factorials

    def times(a, b):
        turned = np.append(b[::-1], np.full(MOMENTS, -np.inf))  # row n of the windows: b[n], …, b[0], then nothing
        windows = np.lib.stride_tricks.sliding_window_view(turned, len(b))[::-1]
        return special.logsumexp(a + windows, axis=1)

    for bit in bin(bins)[3:]:
        power = times(power, power)
        power = times(power, single) if bit == "1" else power
    return (power + factorials - orders * math.log(bins))[2:] / (orders[2:] - 1)


@functools.lru_cache(maxsize=64)
def _mean_ratio(noise_multiplier, bins):
    """-> (step, law) of the logarithm of the mean of `bins` ratios, all under Q.

    A law is (index of its first grid point, masses, mean that it misses, probability that it misses). Above its end,
    ratios are lowered to it. Adding an example, delta can only grow by that; removing one, it falls by no more than the
    mean that goes missing, which counts as a loss of inf.
    """
    from scipy import special

    half = 0.5 / noise_multiplier
    low, high = (special.ndtri(BOTTOM) - half) / noise_multiplier, (-special.ndtri(TOP) + half) / noise_multiplier
    step = (high - low) / WIDTH
    first = math.floor(low / step)
    edges = np.arange(first, math.ceil(high / step) + 1)
    x = edges * (step * noise_multiplier)
    q, p = (_between(x, np.array([move]), np.ones(1), 1.0) for move in (-half, half))
    up = np.clip((p * np.exp(-edges[:-1] * step) - q) / math.expm1(step), 0, q)
    masses = np.append(q - up, 0) + np.append(0, up)
    masses[-1] += special.ndtr(-x[-1] - half)
    beyond = [float(special.ndtr(z)) for z in (half - x[-1], x[0] + half)]
    law = _cut(first, masses, step, *beyond)
    one, more, size = law, None, 1
    for bit in bin(bins)[3:]:
        more = more or _mean(one, one, 1, 1, step, 1)
        ratio = 2 if max(len(one[1]), len(more[1])) < WIDTH else 1
        wide = (one, more, size, size + 1, step, ratio)
        small = (one, one, size, size, step, ratio)
        large = (more, more, size + 1, size + 1, step, ratio)
        one, more = (_mean(*wide), _mean(*large)) if bit == "1" else (_mean(*small), _mean(*wide))
        size, step = 2 * size + int(bit), step / ratio
    return step, one


def _mean(left, right, m, k, step, ratio):
    """The law, on a grid `ratio` times as fine, of the mean of m + k ratios, from those of m and of k."""
    (first, a, *left_misses), (other, b, *right_misses) = left, right
    low, high = min(first, other) * ratio, max(first + len(a), other + len(b)) * ratio
    lower, upper = np.zeros((2, high - low + 1))
    fine = step / ratio
    same = left is right
    for distance in range(0 if same else first - other - len(b) + 1, first - other + len(a)):
        # Of all pairs whose logarithms differ by `distance`, the mean lies equally far above that of `right`.
        start, end = max(other, first - distance), min(other + len(b), first + len(a) - distance)
        product = a[start + distance - first : end + distance - first] * b[start - other : end - other]
        if same and distance:
            product *= 2
        shift = math.log1p(m / (m + k) * math.expm1(distance * step))
        up = math.floor(shift / fine)
        share = math.expm1(shift - up * fine) / math.expm1(fine)
        place = slice(start * ratio + up - low, (end - 1) * ratio + up - low + 1, ratio)
        upper[place] += share * product
        lower[place] += (1 - share) * product
    lower[1:] += upper[:-1]
    missing = (m * left_misses[0] + k * right_misses[0]) / (m + k)
    return _cut(low, lower, fine, missing, left_misses[1] + right_misses[1])


def _cut(first, masses, step, missing, lost):
    """A law without its ends: what is cut off at the upper is lowered to it, what is at the lower is lost."""
    means = masses * np.exp((first + np.arange(len(masses))) * step)
    above, below = np.cumsum(means[::-1]), np.cumsum(masses)
    high = max(int(np.searchsorted(above, TOP, "right")), 1)
    low = min(int(np.searchsorted(below, BOTTOM, "right")), len(masses) - high)
    kept = masses[low : len(masses) - high + 1].copy()
    kept[-1] = masses[len(masses) - high :].sum()
    kept /= kept.sum()  # rounding shall not add up to a probability that is nowhere
    return first + low, kept, missing + float(above[high - 1]), lost + float(below[low - 1] if low else 0)


def _repeat(first, masses, step, lost, count):
    """A table for `Losses` of the sum of `count` losses, by doubling; where it gets long, the step doubles."""
    start = power = (first, masses, step, lost)
    for bit in bin(count)[3:]:
        power = _sum(power, power)
        if bit == "1":
            while start[2] < power[2]:
                start = _coarser(*start)
            power = _sum(power, start)
        while len(power[1]) > WIDTH:
            power = _coarser(*power)
    return power


def _sum(left, right):
    first, masses = left[0] + right[0], np.convolve(left[1], right[1])
    above, below = np.cumsum(masses[::-1]), np.cumsum(masses)
    high = len(masses) - int(np.searchsorted(above, BOTTOM, "right"))
    low = min(int(np.searchsorted(below, TOP, "right")), high - 1)
    lost = left[3] + right[3] + (float(above[len(masses) - high - 1]) if high < len(masses) else 0.0)
    kept = masses[low:high].copy()
    kept[0] += masses[:low].sum()  # a larger loss only raises the bound
    kept /= kept.sum()  # so does a larger probability
    return first + low, kept, left[2], min(1.0, lost)


def _coarser(first, masses, step, lost):
    """The same on every second point, those between being spread to their neighbours."""
    masses = np.concatenate([np.zeros(first % 2), masses, np.zeros(2)])
    masses = masses[: len(masses) // 2 * 2]
    even, odd = masses[::2].copy(), masses[1::2]
    up = odd / (1 + math.exp(-step))
    even += odd - up
    even[1:] += up[:-1]
    return first // 2, even, 2 * step, lost


def _log_ratio(x, moves, weights, noise_multiplier):
    """log of sum_j weights_j N(moves_j, noise²)(x) / N(0, noise²)(x)."""
    from scipy import special

    return np.concatenate(
        [
            special.logsumexp((part[:, None] * moves - moves**2 / 2) / noise_multiplier**2, axis=1, b=weights)
            for part in np.array_split(x, 1 + x.size * moves.size // 4_000_000)
        ]
    )


def _cells(noise_multiplier, x, loss, upper, lower, weights):
    """P-masses on the grid, of a loss that rises along x; `upper` and `lower` are the moves under P and Q."""
    first, last = (int(end / STEP) for end in np.clip(loss[[0, -1]], -FAR, FAR))
    stride = max(1, (last - first) // 100_000)
    index = np.arange(first - stride, last + stride + 1, stride)
    edges = np.interp(index * STEP, loss, x, left=-np.inf)
    edges[0] = -np.inf
    p, q = (_between(edges, moves, weights, noise_multiplier) for moves in (upper, lower))
    up = np.clip((p - np.exp(index[:-1] * STEP) * q) / -math.expm1(-stride * STEP), 0, p)
    masses: dict[int, float] = {}
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


def _compose(directions, lost, count):
    """The curve of `directions`, `count` times, each of which loses a probability of `lost` to a loss of inf."""
    from dp_accounting.pld import common

    tables = []
    for masses in directions:
        missing = max(lost, 1 - math.fsum(masses.values()))
        if missing >= 1 or count * math.log1p(-missing) < math.log(CUT):  # dp_accounting cannot compose next to nothing
            tables.append((0, np.zeros(1), STEP, 1.0))
            continue
        first, table = common.dictionary_to_list(masses)
        start, composed = common.self_convolve(table, count, tail_mass_truncation=CUT)
        infinite = CUT + ROUNDING * count - math.expm1(count * math.log1p(-missing))
        tables.append((first * count + start, np.asarray(composed), STEP, min(1.0, infinite)))
    return curves.Losses(tables)
