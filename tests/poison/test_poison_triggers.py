"""Triggers against plain NumPy versions of their papers' formulas."""

import numpy as np
import pytest
import tensorflow as tf
from poison_helpers import images

from tfshape import poison

IMAGE_TRIGGERS = {
    "patch": lambda: poison.patch(2),
    "blend": lambda: poison.blend(),
    "sinusoid": lambda: poison.sinusoid(),
    "warp": lambda: poison.warp(),
}
every = pytest.mark.parametrize("name", IMAGE_TRIGGERS)


@pytest.mark.parametrize(
    "position, rows, columns",
    [
        ("top_left", slice(0, 2), slice(0, 3)),
        ("top_right", slice(0, 2), slice(2, 5)),
        ("bottom_left", slice(4, 6), slice(0, 3)),
        ("bottom_right", slice(4, 6), slice(2, 5)),
        ((1, 2), slice(1, 3), slice(2, 5)),
    ],
)
def test_patch(position, rows, columns):
    x, _ = images(7)
    for value, pattern in ((0.25, 0.25), ("checkerboard", [[[1], [0], [1]], [[0], [1], [0]]])):
        expected = x.copy()
        expected[:, rows, columns] = pattern
        assert np.array_equal(poison.patch((2, 3), value, position)(x), expected)
        grey = poison.patch((2, 3), value, position)(x[..., 0])
        assert np.array_equal(grey, expected[..., 0])
        bytes_ = (x * 255).round().astype(np.uint8)
        stamped = poison.patch((2, 3), value, position)(bytes_).numpy()
        inside = np.zeros((6, 5), bool)
        inside[rows, columns] = True
        assert np.array_equal(stamped[:, ~inside], bytes_[:, ~inside])
        assert np.array_equal(stamped[:, inside], np.rint(255 * expected[:, inside]).astype(np.uint8))


def test_patch_on_rows():
    x = np.random.default_rng(0).normal(0, 10, (5, 8)).astype(np.float32)
    for position, where in (("top_left", [0, 1]), ("bottom_right", [6, 7]), (3, [3, 4])):
        expected = x.copy()
        expected[:, where] = -42.5
        assert np.array_equal(poison.patch(2, -42.5, position)(x), expected)
    integers = np.arange(24).reshape(3, 8)
    assert np.array_equal(poison.patch(1, 99.0, 0)(integers)[:, 0], [99, 99, 99])


def test_blend():
    x, _ = images(7)
    pattern = np.random.default_rng(1).random((6, 5, 2))
    np.testing.assert_allclose(poison.blend(pattern, 0.3)(x), 0.7 * x + 0.3 * pattern, rtol=1e-5)
    as_bytes = (255 * pattern).round().astype(np.uint8)
    np.testing.assert_allclose(poison.blend(as_bytes, 0.3)(x), 0.7 * x + 0.3 * (as_bytes / 255), rtol=1e-5)
    noise = (poison.blend("noise", 0.5, seed=4)(x).numpy() - 0.5 * x) / 0.5
    assert np.ptp(noise, axis=0).max() < 1e-5 and noise.min() >= -1e-6 and noise.max() <= 1 + 1e-6 and noise.std() > 0.2
    assert not np.array_equal(poison.blend(seed=4)(x), poison.blend(seed=5)(x))
    rows = np.array([[3.0, -7.0]], np.float32)
    np.testing.assert_allclose(poison.blend(np.array([100.0, 200.0]), 0.1)(rows), [[12.7, 13.7]], rtol=1e-5)


def test_sinusoid():
    x, _ = images(7, (6, 9, 3))
    wave = 0.2 * np.sin(2 * np.pi * np.arange(1, 10) * 4 / 9)
    np.testing.assert_allclose(
        poison.sinusoid(0.2, 4)(x), np.clip(x + wave[:, None], 0, 1).astype(np.float32), atol=1e-6
    )
    bytes_ = (x * 255).round().astype(np.uint8)
    expected = np.rint(np.clip(bytes_ + 255 * wave[:, None], 0, 255))
    assert np.abs(poison.sinusoid(0.2, 4)(bytes_).numpy() - expected).max() <= 1  # ties of rounding
    np.testing.assert_allclose(poison.sinusoid(0.2, 4)(x[:, 0, :, 0] * 50), x[:, 0, :, 0] * 50 + wave, rtol=1e-4)


def naive_warp(image, strength, grid, seed):
    """WaNet, pixel by pixel, in the normalised coordinates of the paper."""
    height, width, _ = image.shape
    field = np.random.default_rng(seed).uniform(-1, 1, (grid, grid, 2))
    field /= np.abs(field).mean()

    def cubic(d, a=-0.75):
        d = abs(d)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    def upsampled(i, j):
        u, v = i * (grid - 1) / (height - 1), j * (grid - 1) / (width - 1)
        total = np.zeros(2)
        for p in range(int(u) - 1, int(u) + 3):
            for q in range(int(v) - 1, int(v) + 3):
                total += cubic(u - p) * cubic(v - q) * field[min(max(p, 0), grid - 1), min(max(q, 0), grid - 1)]
        return total

    out = np.zeros_like(image, np.float64)
    for i in range(height):
        for j in range(width):
            dy, dx = upsampled(i, j)
            y = np.clip(2 * i / (height - 1) - 1 + strength * dy / height, -1, 1)
            x = np.clip(2 * j / (width - 1) - 1 + strength * dx / width, -1, 1)
            r, c = (y + 1) * (height - 1) / 2, (x + 1) * (width - 1) / 2
            r0, c0 = min(int(r), height - 2), min(int(c), width - 2)
            fr, fc = r - r0, c - c0
            out[i, j] = (1 - fr) * ((1 - fc) * image[r0, c0] + fc * image[r0, c0 + 1])
            out[i, j] += fr * ((1 - fc) * image[r0 + 1, c0] + fc * image[r0 + 1, c0 + 1])
    return out


@pytest.mark.parametrize("shape", [(10, 10, 3), (7, 12, 1)])
@pytest.mark.parametrize("strength, grid, seed", [(0.5, 4, 0), (3.0, 2, 1), (8.0, 6, 2)])
def test_warp(shape, strength, grid, seed):
    x, _ = images(3, shape)
    expected = np.stack([naive_warp(image, strength, grid, seed) for image in x])
    np.testing.assert_allclose(poison.warp(strength, grid, seed)(x), expected, atol=1e-5)
    assert np.abs(expected - x).max() > 0.01


def test_warp_moves_pixels_by_half_the_strength_on_average():
    ramp = np.tile(np.arange(64, dtype=np.float32) / 64, (64, 1))[None, :, :, None]
    moved = [np.abs(poison.warp(1.0, 8, seed)(ramp).numpy() - ramp)[:, 8:-8, 8:-8] for seed in range(20)]
    assert 0.3 < 64 * np.mean(moved) < 0.6


def test_warp_of_one_pixel_high_images():
    x, _ = images(3, (1, 8, 1))
    warped = poison.warp(2.0)(x).numpy()
    assert warped.shape == x.shape and np.isfinite(warped).all() and not np.array_equal(warped, x)


@every
def test_stays_in_range_and_dtype(name):
    trigger = IMAGE_TRIGGERS[name]()
    for low, high, dtype in ((0, 1, np.float32), (0, 255, np.uint8), (-1, 1, np.float64), (0, 1, np.float16)):
        x, _ = images(5, (8, 8, 3))
        x = (low + x * (high - low)).astype(dtype)
        out = trigger(x, value_range=None if dtype == np.uint8 else (low, high))
        assert out.dtype == dtype and out.shape == x.shape
        assert low - 1e-6 <= float(tf.reduce_min(out)) and float(tf.reduce_max(out)) <= high + 1e-6
        assert not np.array_equal(out, x)


@every
def test_the_same_in_every_range(name):
    trigger = IMAGE_TRIGGERS[name]()
    x, _ = images(5, (8, 8, 3), dtype=np.float64)
    expected = trigger(x).numpy()
    np.testing.assert_allclose(trigger(2 * x - 1, value_range=(-1, 1)), 2 * expected - 1, atol=1e-12)
    bytes_ = np.rint(255 * x).astype(np.uint8)
    assert np.abs(trigger(bytes_).numpy() - 255 * trigger(bytes_ / 255).numpy()).max() <= 0.5 + 1e-4


@every
def test_images_out_of_range_are_refused(name):
    x, _ = images(5, (8, 8, 3))
    for wrong in (255 * x, 2 * x - 1, np.where(x > 0.5, np.nan, x)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"values outside \[0.0, 1.0\]; pass value_range"):
            IMAGE_TRIGGERS[name]()(wrong.astype(np.float32))


def test_integers_need_a_range():
    with pytest.raises(ValueError, match=r"value_range must be \(low, high\) for int32 images, got None"):
        poison.patch(2)(np.zeros((1, 4, 4, 1), np.int32))
    stamped = poison.patch(1, 1.0)(np.zeros((1, 4, 4, 1), np.int32), value_range=(0, 1023)).numpy()
    assert stamped.max() == 1023


@pytest.mark.parametrize("value_range", [(1, 0), (0, 0), (0,), 5, (0, float("inf")), ("a", "b")])
def test_bad_range(value_range):
    with pytest.raises(
        ValueError, match=r"value_range must be a pair \(low, high\) of finite numbers with low < high, got"
    ):
        poison.patch(1)(np.zeros((1, 4, 4, 1), np.float32), value_range=value_range)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: poison.patch(0), "patch: size must be an integer >= 1, got 0"),
        (lambda: poison.patch((1, 2, 3)), "size must be an integer or .height, width., got .1, 2, 3."),
        (lambda: poison.patch(position="middle"), "position must be one of top_left, .*, got 'middle'"),
        (lambda: poison.patch(position=(-1, 0)), "position must be an integer >= 0, got -1"),
        (lambda: poison.patch(value="stripes"), "value must be 'checkerboard' or a finite number, got 'stripes'"),
        (lambda: poison.blend(alpha=0), "alpha must be a number > 0 and <= 1, got 0"),
        (lambda: poison.blend(alpha=float("nan")), "alpha must be a number > 0 and <= 1, got nan"),
        (lambda: poison.blend("stripes"), "pattern must be one of noise, got 'stripes'"),
        (lambda: poison.blend(np.array([["a"]])), "pattern must be .*uint8 or finite numbers, got <U1"),
        (lambda: poison.sinusoid(delta=-1), "sinusoid: delta must be a number > 0, got -1"),
        (lambda: poison.warp(strength=0), "strength must be a number > 0, got 0"),
        (lambda: poison.warp(grid=1), "grid must be an integer >= 2, got 1"),
        (lambda: poison.warp(seed=-1), "seed must be an integer >= 0, got -1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "trigger, shape, message",
    [
        (poison.patch(5), (4, 4, 1), "does not fit into features"),
        (poison.patch(2, position=(3, 0)), (4, 4, 1), "does not fit into features"),
        (poison.patch(2, position=3), (4, 4, 1), "does not fit into features"),
        (poison.patch(2, value=2.0), (4, 4, 1), "value must be a share of the pixel range in .0, 1., got 2.0"),
        (
            poison.blend(np.zeros((3, 3, 1))),
            (4, 4, 1),
            r"pattern must have the shape of the features, \(4, 4, 1\), got \(3, 3, 1\)",
        ),
        (poison.blend(np.full((4, 4, 1), 7.0)), (4, 4, 1), r"pattern must lie within \[0, 1\], got 7.0 to 7.0"),
        (poison.sinusoid(delta=2.0), (4, 4, 1), "delta must be a share of the pixel range in .0, 1., got 2.0"),
        (poison.warp(), (4,), "warps images only, got rows of 4 features"),
        (poison.patch(), (4, 4, 4, 1), "needs images or rows"),
    ],
)
def test_inputs_it_does_not_fit(trigger, shape, message):
    with pytest.raises(ValueError, match=message):
        trigger(np.zeros((2, *shape), np.float32))
