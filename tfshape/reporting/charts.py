"""Charts as SVG that follows the page's colours; sizes are chosen so that words stay readable on a telephone."""

from __future__ import annotations

import math

from tfshape.reporting import escaping

WIDTH, HEIGHT = 440, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 12, 46
LEVELS = ((1.0, "below 1"), (10.0, "1 to 10"), (math.inf, "above 10"), (None, "∞: no privacy"))
_NEAR = 18  # between two marks, so that their numbers can be read
SERIES = 6  # colours and dashes there are


class Axes:
    """An SVG with axes from `low` to `high`, linear, or logarithmic along x."""

    def __init__(self, x_words, y_words, x_range, y_range=(0.0, 1.0), log=False):
        self._x_range, self._y_range, self._log = x_range, y_range, log
        self._parts, self._words = [], (x_words, y_words)

    def x(self, value):
        """Where `value` is drawn."""
        low, high, value = (math.log(v) if self._log else v for v in (*self._x_range, value))
        return _LEFT + (value - low) / ((high - low) or 1) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value):
        """Where `value` is drawn."""
        low, high = self._y_range
        return HEIGHT - _BOTTOM - (value - low) / ((high - low) or 1) * (HEIGHT - _TOP - _BOTTOM)

    def add(self, text):
        """Adds SVG elements."""
        self._parts.append(text)

    def line(self, x1, y1, x2, y2, kind, aside=0):
        """Adds a line between values, `aside` to the right."""
        ends = (self.x(x1) + aside, self.y(y1), self.x(x2) + aside, self.y(y2))
        self.add('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(kind, *ends))

    def svg(self, title, x_ticks, y_ticks):
        """The whole picture; `title` is what a screen reader says of it."""
        parts = []
        for value, words in y_ticks:
            place = self.y(value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{words}</text>')
        for value, words in x_ticks:
            place = self.x(value)
            parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
            parts.append(f'<text x="{place:.1f}" y="{HEIGHT - _BOTTOM + 17}" text-anchor="middle">{words}</text>')
        across, up = self._words
        parts.append(
            f'<text x="{(WIDTH + _LEFT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escaping.html(across)}</text>'
        )
        middle = (HEIGHT - _BOTTOM + _TOP) / 2
        turned = f'transform="translate(13 {middle}) rotate(-90)" text-anchor="middle"'
        parts.append(f"<text {turned}>{escaping.html(up)}</text>")
        name = escaping.html(title)
        start = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">'
        return start + "".join([*parts, *self._parts]) + "</svg>"


def level(epsilon):
    """Which of `LEVELS` an epsilon is on, an index."""
    if math.isinf(epsilon):
        return len(LEVELS) - 1
    return next(i for i, (limit, _) in enumerate(LEVELS) if epsilon < limit)


def plane(points, y_words):
    """The robustness-utility-epsilon plane.

    points: list of dicts: number, words, epsilon, x and y: (low, value, high), all within 0 and 1.
    """
    low = _floor(min(point["x"][0] for point in points))
    bottom = _floor(min(point["y"][0] for point in points))
    high = 1.0 - _floor(1.0 - max(point["x"][2] for point in points))
    axes = Axes("utility: test accuracy without attack", y_words, (low, high), (bottom, 1.0))
    for point in points:
        (x_low, x, x_high), (y_low, y, y_high) = point["x"], point["y"]
        axes.line(x_low, y, x_high, y, "whisker")
        axes.line(x, y_low, x, y_high, "whisker")
    for x, y, kind, group in _groups(axes, points):
        words = "&#10;".join(escaping.html(point["words"]) for point in group)
        axes.add(f'<g class="level{kind}"><title>{words}</title>{marker(kind, x, y)}')
        number = f"{group[0]['number']}{'+' if len(group) > 1 else ''}"
        fits = "in" if len(number) < 3 else "in small"
        axes.add(f'<text class="{fits}" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{number}</text></g>')
    said = "; ".join(point["words"] for point in points)
    return axes.svg(f"{y_words} against utility. {said}", _ticks(low, high), _ticks(bottom, 1.0))


def _groups(axes, points):
    """Points that would lie on each other, of one level, as one: list of (x, y, level, points)."""
    found: list[tuple] = []
    for point in points:
        x, y, kind = axes.x(point["x"][1]), axes.y(point["y"][1]), level(point["epsilon"])
        near = (group for a, b, k, group in found if k == kind and math.hypot(a - x, b - y) < _NEAR)
        group = next(near, None)
        if group is None:
            found.append((x, y, kind, [point]))
        else:
            group.append(point)
    return found


def curves(series):
    """Success rate against number of poisons.

    series: list of (words, counts, rates, lows, highs), by turns in other colours and dashes.
    """
    counts = sorted({count for _, found, *_ in series for count in found})
    axes = Axes("poisons", "attack success rate", (counts[0] / 1.15, counts[-1] * 1.15), log=True)
    for index, (words, found, rates, lows, highs) in enumerate(series):
        kind = f"series{index % SERIES}"
        aside = 4 * (index - (len(series) - 1) / 2)  # beside each other, where curves lie on each other
        path = " ".join(f"{axes.x(count) + aside:.1f},{axes.y(rate):.1f}" for count, rate in zip(found, rates))
        axes.add(f'<g class="{kind}"><title>{escaping.html(words)}</title><polyline points="{path}"/>')
        for count, rate, low, high in zip(found, rates, lows, highs):
            axes.line(count, low, count, high, "whisker", aside)
            axes.add(f'<circle cx="{axes.x(count) + aside:.1f}" cy="{axes.y(rate):.1f}" r="4"/>')
        axes.add("</g>")
    parts = (
        f"{words}: {', '.join(f'{r:.2f} of {c}' for c, r in zip(found, rates))}" for words, found, rates, *_ in series
    )
    ticks = [(count, f"{count:,}") for count in counts]
    return axes.svg("Attack success rate by number of poisons. " + "; ".join(parts), ticks, _ticks(0.0, 1.0))


def swatch(index):
    """A piece of the line of series `index`."""
    line = '<polyline points="1,7 33,7"/><circle cx="17" cy="7" r="4"/>'
    return f'<svg class="swatch series{index % SERIES}" viewBox="0 0 34 14" aria-hidden="true">{line}</svg>'


def marker(index, x, y, size=10):
    """The shape of an epsilon level: circle, square, diamond, hollow circle."""
    if index in (0, len(LEVELS) - 1):
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'
    if index == 1:
        return f'<rect x="{x - 0.9 * size:.1f}" y="{y - 0.9 * size:.1f}" width="{1.8 * size}" height="{1.8 * size}"/>'
    corners = ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0))
    return '<polygon points="{}"/>'.format(" ".join(f"{x + a * size:.1f},{y + b * size:.1f}" for a, b in corners))


def _floor(value):
    return max(0.0, math.floor(value * 10 - 1e-9) / 10)


def _ticks(low, high):
    step = next((step for most, step in ((0.15, 0.02), (0.25, 0.05), (0.65, 0.1)) if high - low < most), 0.2)
    count = int((high - low) / step + 1e-9)
    return [(high - i * step, f"{high - i * step:.{1 if step >= 0.1 else 2}f}") for i in range(count + 1)]
