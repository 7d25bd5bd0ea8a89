"""Line plots as inline SVG: axes, ticks, a legend, several series. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from limner.training.page import text

COLOURS = 8
"""classes s0 … s7 of the style sheet; more series begin again"""
_WIDTH, _HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 18, 36
_MOST_POINTS = 600
_FEWEST_TO_SMOOTH = 60
_FEWEST_WITHOUT_DOTS = 40


@dataclass(frozen=True)
class Series:
    """One line: x ascending; None and non-finite y leave a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Mark:
    """An upright dashed line at x: its label stands above it where there is room, `meaning` is shown on pointing."""

    x: float
    label: str
    meaning: str


@dataclass(frozen=True)
class _Axes:
    x0: float
    x1: float
    y0: float
    y1: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        across = (x - self.x0) / (self.x1 - self.x0)
        up = (y - self.y0) / (self.y1 - self.y0)
        return _LEFT + across * width, _TOP + (1 - min(max(up, -9.0), 10.0)) * height


def line_plot(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "thousand images seen (kimg)",
    marks: Sequence[Mark] = (),
    x_range: tuple[float, float] | None = None,
    smooth: bool = True,
) -> str:
    """A `<figure>` with the plot, or "" where no series has a finite point.

    Long series are drawn twice: faint as they are, and bold as their moving average. Where a few points lie far outside
    the rest, the axis shows the rest and the caption says how many lie beyond it.

    Args:
        title: the caption; it and every name are escaped here.
        series: the lines, in the order of the legend.
        x_label: under the axis.
        marks: such as a resume or a growth of the resolution; x ascending.
        x_range: what the axis shows at least; by default from the first point to the last.
        smooth: draw the moving average of long series.
    """
    drawn = [(one, _finite(one)) for one in series]
    drawn = [(one, points) for one, points in drawn if len(points)]
    if not drawn:
        return ""
    every = np.concatenate([points for _, points in drawn])
    low, high, beyond = _range(every[:, 1])
    y_ticks = ticks(low, high)
    among = [*(x_range or ()), float(every[:, 0].min()), float(every[:, 0].max())]
    x0, x1 = min(among), max(among)
    axes = _Axes(x0, x1 if x1 > x0 else x0 + 1, min(low, y_ticks[0]), max(high, y_ticks[-1]))
    parts = [_grid(axes, ticks(axes.x0, axes.x1), y_ticks, x_label), _marks(axes, marks), _clip_open(axes)]
    parts += [_line(axes, one, index, smooth) for index, (one, _) in enumerate(drawn)]
    note = f' <span class="aside">{beyond} points beyond the axis</span>' if beyond else ""
    return (
        f'<figure class="plot"><figcaption>{text(title)}{note}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(title)}">{"".join(parts)}</svg></svg>'
        f"{_legend([(one.name, points) for one, points in drawn])}</figure>"
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 × 10^k apart) that cover [low, high] from inside or just outside."""
    step = _step(low, high, about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _step(low: float, high: float, about: int) -> float:
    rough = max((high - low) / about, abs(high) * 1e-9, 1e-12)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)


def tick_label(value: float, step: float) -> str:
    """A tick's number with as many decimals as its neighbours need: 0.05, 2.5, 1,500, 20k, 3e-06."""
    if abs(value) < step / 2:
        return "0"
    if step < 1e-4 and abs(value) < 0.01:
        digits = max(math.floor(math.log10(abs(value)) + 1e-9) - math.floor(math.log10(step) + 1e-9), 0)
        return f"{value:.{digits}e}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        divisor = 1e3 if unit == "k" else size
        if step >= size / 10 and abs(value) >= size:
            return f"{value / divisor:.4g}{unit}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _finite(series: Series) -> np.ndarray:
    points = [(x, y) for x, y in series.points if y is not None and math.isfinite(x) and math.isfinite(y)]
    return np.array(points, np.float64).reshape(-1, 2)


def _range(values: np.ndarray) -> tuple[float, float, int]:
    """Lowest and highest value to show, and how many points lie outside."""
    low, high = float(values.min()), float(values.max())
    if len(values) >= 20:
        inner_low, inner_high = np.percentile(values, [2, 98])
        margin = 0.5 * (inner_high - inner_low)
        if margin > 0 and high - low > 8 * margin:
            low, high = max(low, float(inner_low - margin)), min(high, float(inner_high + margin))
    if low == high:
        low, high = low - max(abs(low) * 0.1, 0.1), high + max(abs(high) * 0.1, 0.1)
    return low, high, int(((values < low) | (values > high)).sum())


def _grid(axes: _Axes, x_ticks: list[float], y_ticks: list[float], x_label: str) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    lines, labels = [], []
    for value in y_ticks:
        _, y = axes.at(axes.x0, value)
        lines.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        label = tick_label(value, y_ticks[1] - y_ticks[0])
        labels.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for value in x_ticks:
        if axes.x0 <= value <= axes.x1:
            x, _ = axes.at(value, axes.y0)
            lines.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}"/>')
            label = tick_label(value, x_ticks[1] - x_ticks[0])
            labels.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    middle = (_LEFT + right) / 2
    labels.append(f'<text x="{middle}" y="{_HEIGHT - 5}" text-anchor="middle">{text(x_label)}</text>')
    return f'<g class="grid">{"".join(lines)}</g><g class="ticks">{"".join(labels)}</g>'


def _marks(axes: _Axes, marks: Sequence[Mark]) -> str:
    parts, free = [], 0.0
    for mark in marks:
        if not axes.x0 <= mark.x <= axes.x1:
            continue
        x, _ = axes.at(mark.x, axes.y0)
        path = f"M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"
        parts.append(f'<path class="mark" d="{path}"><title>{text(mark.meaning)}</title></path>')
        half = 3.2 * len(mark.label)
        if x - half >= free and x + half <= _WIDTH:
            parts.append(
                f'<text class="label" x="{x:.1f}" y="{_TOP - 4}" text-anchor="middle">{text(mark.label)}</text>'
            )
            free = x + half + 4
    return "".join(parts)


def _clip_open(axes: _Axes) -> str:
    """A nested svg element cuts off what lies beyond the axes; a clipPath would need an id unique in the page."""
    width, height = _WIDTH - _LEFT - _RIGHT + 8, _HEIGHT - _TOP - _BOTTOM + 8
    box = f"{_LEFT - 4} {_TOP - 4} {width} {height}"
    return f'<svg x="{_LEFT - 4}" y="{_TOP - 4}" width="{width}" height="{height}" viewBox="{box}">'


def _line(axes: _Axes, series: Series, index: int, smooth: bool) -> str:
    points = [(x, y if y is not None and math.isfinite(y) else None) for x, y in series.points if math.isfinite(x)]
    colour, name = f"s{index % COLOURS}", text(series.name)
    if len(points) < _FEWEST_TO_SMOOTH or not smooth:
        body = f'<path class="line {colour}" d="{_path(axes, _thinned(points))}"><title>{name}</title></path>'
        return body + (_dots(axes, points, series.name, colour) if len(points) <= _FEWEST_WITHOUT_DOTS else "")
    faint = f'<path class="faint {colour}" d="{_path(axes, _thinned(points))}"/>'
    bold = _path(axes, _thinned(_averaged(points)))
    return f'{faint}<path class="line {colour}" d="{bold}"><title>{name}</title></path>'


def _path(axes: _Axes, points: Sequence[tuple[float, float | None]]) -> str:
    commands, down = [], False
    for x, y in points:
        if y is not None:
            across, up = axes.at(x, y)
            commands.append(f"{'L' if down else 'M'}{across:.1f} {up:.1f}")
        down = y is not None
    return "".join(commands)


def _dots(axes: _Axes, points: Sequence[tuple[float, float | None]], name: str, colour: str) -> str:
    dots = []
    for x, y in points:
        if y is not None:
            across, up = axes.at(x, y)
            title = f"<title>{text(name)}: {y:.5g} at {x:g}</title>"
            dots.append(f'<circle class="{colour}" cx="{across:.1f}" cy="{up:.1f}" r="2.6">{title}</circle>')
    return "".join(dots)


def _averaged(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """The mean of each point and its neighbours within 1/40 of the line; gaps stay gaps."""
    values = np.array([math.nan if y is None else y for _, y in points])
    known = np.isfinite(values)
    reach = max(len(points) // 40, 1)
    totals = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    places = np.arange(len(points))
    first, last = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(points))
    means = (totals[last] - totals[first]) / np.maximum(counts[last] - counts[first], 1)
    return [(x, float(mean) if there else None) for (x, _), mean, there in zip(points, means, known, strict=True)]


def _thinned(points: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most about `_MOST_POINTS`: of each run of neighbours its lowest and highest, so that no spike is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    thinned: list[tuple[float, float | None]] = []
    for start in range(0, len(points), size):
        group = points[start : start + size]
        known = sorted((y, place) for place, (_, y) in enumerate(group) if y is not None)
        if not known:
            thinned.append(group[0])
            continue
        thinned += [group[place] for place in sorted({known[0][1], known[-1][1]})]
    return thinned


def _legend(lines: Sequence[tuple[str, np.ndarray]]) -> str:
    items = [
        f'<li><i class="s{index % COLOURS}"></i>{text(name)} <b>{_signed(points[-1, 1])}</b></li>'
        for index, (name, points) in enumerate(lines)
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _signed(value: float) -> str:
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}") if "e" not in f"{value:.4g}" else f"{value:.4g}"
