"""Lines that age draws in a face, and the grain of a beard shaved yesterday: shades in the head's map."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

from limner.heads.face_map import SIDE, face_points, noise, rising

Line = tuple[tuple[float, float], ...]
# Lines of one half of the face, as (x, y) in decimetres on the neutral head: depth, half width, points.
LINES: tuple[tuple[float, float, Line], ...] = (
    (0.34, 0.020, ((0.0, 7.70), (0.15, 7.73), (0.30, 7.71), (0.40, 7.66))),
    (0.38, 0.022, ((0.0, 7.81), (0.12, 7.835), (0.30, 7.815), (0.46, 7.76))),
    (0.28, 0.020, ((0.0, 7.935), (0.16, 7.93), (0.32, 7.91))),
    (0.50, 0.030, ((0.19, 6.91), (0.27, 6.82), (0.345, 6.68), (0.36, 6.57))),
    (0.36, 0.024, ((0.285, 6.58), (0.32, 6.47), (0.31, 6.36))),
    (0.28, 0.013, ((0.51, 7.31), (0.57, 7.355), (0.62, 7.375))),
    (0.32, 0.013, ((0.52, 7.28), (0.59, 7.285), (0.65, 7.275))),
    (0.26, 0.013, ((0.51, 7.25), (0.57, 7.205), (0.61, 7.16))),
    (0.24, 0.016, ((0.055, 7.46), (0.065, 7.58))),
)
BROAD, BROAD_DEPTH = 2.8, 0.5  # each line lies in a hollow this much broader and shallower
DEEPEST = 0.5
GRAIN = (0.5, 0.35)  # mean and spread of how much light stubble takes


@lru_cache(maxsize=1)
def wrinkles() -> np.ndarray:
    """Share of the light (h, w) that the lines of an old face take."""
    x, y, z = face_points()
    taken = np.zeros((SIDE, SIDE), np.float32)
    for depth, width, points in LINES:
        away = distance_to(np.abs(x), y, points) / width
        line = depth * (np.exp(-np.square(away)) + BROAD_DEPTH * np.exp(-np.square(away / BROAD)))
        line *= np.clip(0.8 + 0.35 * noise(4, 9, 9), 0.2, 1.2)  # no line is of one depth all along
        taken = 1 - (1 - taken) * (1 - line.astype(np.float32))
    spots = 0.16 * rising(noise(5, 7, 7), 1.1, 2.2)
    return np.minimum(taken + spots, DEEPEST).astype(np.float32) * rising(z, 0.6, 0.8)


@lru_cache(maxsize=1)
def grain() -> np.ndarray:
    """Share of the light (h, w) that short hairs take where they grow thickest."""
    return np.clip(GRAIN[0] + GRAIN[1] * noise(6, 2, 3), 0, 1).astype(np.float32)


def distance_to(x: np.ndarray, y: np.ndarray, points: Line) -> np.ndarray:
    """From (x, y) to a line through `points`."""
    nearest = np.full(x.shape, np.inf)
    for (ax, ay), (bx, by) in pairwise(points):
        along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)
        along = np.clip(along, 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay)))
    return nearest
