"""What is behind a head: walls, horizons, lights, windows, leaves and shelves, all far out of focus.

A backdrop is painted on a coarse grid and enlarged smoothly, so it costs little and looks the same at every resolution.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

SIDE = 40  # points of the coarse grid along each axis
KINDS = {"wall": 0.26, "horizon": 0.14, "lights": 0.15, "window": 0.15, "leaves": 0.15, "shelves": 0.15}
LEAF_HUES = (0.14, 0.36)
DISC_RANGES = ((0, 1), (0, 1), (0.7, 1.2), (0.25, 0.8))  # across, down, size, strength


@dataclass(frozen=True)
class Backdrop:
    """kind: a key of KINDS; palette: (3, 3) sRGB colours, one a row; seed: of the places of what is in it."""

    kind: str
    palette: np.ndarray
    seed: int
    flipped: bool = False

    def mirrored(self) -> Backdrop:
        """The same as seen in a mirror."""
        return replace(self, flipped=not self.flipped)


def sample_backdrop(rng: np.random.Generator) -> Backdrop:
    """Draw a backdrop."""
    cumulative = np.cumsum(list(KINDS.values()))
    kind = list(KINDS)[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))]
    palette = np.stack([_colour(kind, share, rng) for share in rng.permutation(3).tolist()])
    return Backdrop(kind, palette, int(rng.integers(2**31)))


def muted_colour(rng: np.random.Generator, values: tuple[float, float]) -> np.ndarray:
    """An sRGB colour (3,) of little saturation, its brightness within `values`."""
    warm, place, saturation, value = rng.random(), rng.random(), 0.32 * rng.random(), rng.uniform(*values)
    hue = 0.02 + 0.12 * place if warm < 0.4 else 0.42 + 0.25 * place  # sand and rose, or sea-green to blue
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def paint_backdrop(backdrop: Backdrop, samples: int) -> np.ndarray:
    """Linear light (3, samples²) of a backdrop."""
    rng = np.random.default_rng(backdrop.seed)
    palette = np.square(backdrop.palette).astype(np.float32)[:, :, None, None]
    coarse = PAINTERS[backdrop.kind](palette, rng)
    if backdrop.flipped:
        coarse = coarse[:, :, ::-1]
    return np.ascontiguousarray(_enlarged(coarse.astype(np.float32), samples).reshape(3, -1))


def _colour(kind: str, share: int, rng: np.random.Generator) -> np.ndarray:
    """One of a palette's three colours: `share` 0, 1, 2 from dark to light."""
    value = rng.uniform(0.16 + 0.2 * share, 0.42 + 0.24 * share)
    if kind == "leaves":
        return np.array(colorsys.hsv_to_rgb(rng.uniform(*LEAF_HUES), rng.uniform(0.15, 0.42), 0.85 * value))
    if kind == "lights":
        return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.5), 0.75 * value + 0.05))
    return muted_colour(rng, (value, value))


@lru_cache(maxsize=1)
def _places() -> tuple[np.ndarray, np.ndarray]:
    """Fractions of the picture's side across and down of the grid's points, (1, SIDE) and (SIDE, 1)."""
    along = np.linspace(0, 1, SIDE, dtype=np.float32)
    return along[None, :], along[:, None]


def _wall(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darker towards the floor, with a glow behind the head."""
    across, down = _places()
    wall = palette[0] * (1 - (1 - rng.uniform(0.2, 0.7)) * down)
    away = np.square(across - rng.uniform(0.2, 0.8)) + np.square(down - rng.uniform(0.25, 0.6))
    return wall * (0.8 + rng.uniform(0.1, 0.7) * np.square(np.maximum(1 - away / 0.7, 0)))


def _horizon(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A light upper part over a dark lower one, their border tilted a little."""
    across, down = _places()
    border = rng.uniform(0.35, 0.85) + rng.normal(0, 0.08) * (across - 0.5)
    below = _step((down - border) / rng.uniform(0.03, 0.15))
    upper, lower = (palette[0], palette[1]) if palette[0].sum() > palette[1].sum() else (palette[1], palette[0])
    upper = upper * (1.1 - 0.3 * down)
    return upper + (lower - upper) * below


def _lights(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Discs of light out of focus before a dark ground."""
    across, down = _places()
    order = np.argsort(palette.sum((1, 2, 3)))
    ground = palette[order[0]] * (0.7 + 0.5 * down)
    count, radius = int(rng.integers(9, 18)), rng.uniform(0.06, 0.12)
    x, y, size, strength = (rng.uniform(low, high, count).astype(np.float32) for low, high in DISC_RANGES)
    away = np.sqrt(np.square(across - x[:, None, None]) + np.square(down - y[:, None, None]))
    discs = _step((np.float32(radius) * size[:, None, None] - away) / np.float32(0.045)) * strength[:, None, None]
    first = count // 2
    total = ground + palette[order[1]] * discs[:first].sum(0) + palette[order[2]] * discs[first:].sum(0)
    return np.minimum(total, np.float32(1))


def _window(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A bright window to one side, its light fading along the wall."""
    across, down = _places()
    order = np.argsort(palette.sum((1, 2, 3)))
    left, top = rng.uniform(-0.25, 0.75), rng.uniform(-0.3, 0.15)
    width, height = rng.uniform(0.35, 0.55), rng.uniform(0.6, 1.0)
    x, y = (across - left) / width, (down - top) / height
    frame = 0.06
    panes = _inside(x, frame) * _inside(y, frame)
    bars = (1 - _inside(x - 0.5 + 0.025, 0.03, 0.05)) * (1 - _inside(y - 0.45, 0.03, 0.04))
    fade = np.exp(-2.2 * np.abs(x - 0.5).clip(0.5) + 1.1)
    wall = palette[order[1]] * (0.35 + 0.65 * fade) * (1.05 - 0.3 * down)
    day = 0.35 + 0.65 * np.sqrt(palette[order[2]])
    return _blurred(_blurred(np.minimum(wall + (day - wall) * panes * bars, np.float32(1))))


def _leaves(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blotches of three colours at three sizes, lighter towards the sky."""
    _, down = _places()
    blotches = sum(
        weight * _enlarged(rng.standard_normal((1, points, points)).astype(np.float32), SIDE)
        for points, weight in ((4, 0.8), (9, 0.5), (16, 0.35))
    )
    order = np.argsort(palette.sum((1, 2, 3)))
    light = _blurred(_step((blotches + 0.8 * (0.5 - down)) / 1.8))
    dark, middle, bright = palette[order]
    low = dark + (middle - dark) * np.clip(2 * light, 0, 1)
    return low + (bright - low) * np.clip(2 * light - 1, 0, 1)


def _shelves(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of things of several colours on shelves."""
    rows, columns = int(rng.integers(3, 6)), int(rng.integers(5, 11))
    things = rng.integers(0, 3, (rows, columns))
    shade = rng.uniform(0.5, 1.2, (rows, columns)).astype(np.float32)
    across, down = _places()
    column, row = (across * columns).astype(int).clip(0, columns - 1), (down * rows).astype(int).clip(0, rows - 1)
    colours = palette[:, :, 0, 0].T[:, things] * shade
    picture = colours[:, np.broadcast_to(row, (SIDE, SIDE)), np.broadcast_to(column, (SIDE, SIDE))]
    board = ((down * rows) % 1 > 0.86).astype(np.float32)
    picture = picture * (1 - 0.6 * board)
    for _ in range(int(rng.integers(2, 5))):
        picture = _blurred(picture)
    return picture


PAINTERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "wall": _wall,
    "horizon": _horizon,
    "lights": _lights,
    "window": _window,
    "leaves": _leaves,
    "shelves": _shelves,
}


def _step(values: np.ndarray) -> np.ndarray:
    """0 far below zero to 1 far above it, smoothly within -1 … 1."""
    share = np.clip(0.5 + 0.5 * values, 0, 1)
    return share * share * (3 - 2 * share)


def _inside(values: np.ndarray, edge: float, width: float = 1.0) -> np.ndarray:
    """1 where values are within 0 … width, 0 outside, softly over `edge`."""
    return _step(values / edge) * _step((width - values) / edge)


def _blurred(planes: np.ndarray) -> np.ndarray:
    along = np.arange(SIDE)
    before, after = np.maximum(along - 1, 0), np.minimum(along + 1, SIDE - 1)
    for axis in (1, 2):
        planes = 0.25 * (planes.take(before, axis) + planes.take(after, axis)) + 0.5 * planes
    return planes


def _enlarged(planes: np.ndarray, side: int) -> np.ndarray:
    """Planes (c, n, n) bilinearly enlarged to (c, side, side)."""
    low, share = _between(planes.shape[1], side)
    rows = planes.take(low, 1)
    rows += (planes.take(low + 1, 1) - rows) * share[:, None]
    columns = rows.take(low, 2)
    columns += (rows.take(low + 1, 2) - columns) * share
    return columns


@lru_cache(maxsize=32)
def _between(points: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `side` sample centres the point before it, and how far it is towards the next."""
    place = (np.arange(side) + 0.5) / side * (points - 1)
    low = np.minimum(place.astype(int), points - 2)
    return low, (place - low).astype(np.float32)
