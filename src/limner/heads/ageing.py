"""Lines that age draws in a face, and the grain of a beard shaved yesterday: shades in the head's map."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

from limner.heads.face_map import SIDE, face_points, noise, rising

Line = tuple[tuple[float, float], ...]
# Lines of one half of the face, as (x, y) in decimetres on the neutral head: depth, half width, points.
LINES: tuple[tuple[float, float, Line], ...] = (
    (0.55, 0.022, ((0.0, 7.71), (0.15, 7.725), (0.30, 7.71), (0.45, 7.68))),
    (0.60, 0.022, ((0.0, 7.82), (0.16, 7.83), (0.32, 7.82), (0.48, 7.78))),
    (0.45, 0.022, ((0.0, 7.93), (0.16, 7.935), (0.32, 7.92), (0.44, 7.90))),
    (0.80, 0.034, ((0.19, 6.91), (0.27, 6.82), (0.345, 6.68), (0.36, 6.57))),
    (0.60, 0.026, ((0.285, 6.58), (0.32, 6.47), (0.31, 6.36))),
    (0.55, 0.016, ((0.50, 7.31), (0.57, 7.36), (0.64, 7.38))),
    (0.60, 0.016, ((0.51, 7.28), (0.59, 7.28), (0.66, 7.27))),
    (0.50, 0.016, ((0.50, 7.25), (0.57, 7.20), (0.63, 7.15))),
    (0.55, 0.018, ((0.17, 7.19), (0.30, 7.145), (0.44, 7.18))),
    (0.50, 0.018, ((0.055, 7.45), (0.07, 7.56), (0.06, 7.62))),
)
BROAD, BROAD_DEPTH = 2.6, 0.35  # each line lies in a hollow this much broader and shallower
DEEPEST = 0.55
GRAIN = (0.5, 0.35)  # mean and spread of how much light stubble takes


@lru_cache(maxsize=1)
def wrinkles() -> np.ndarray:
    """Share of the light (h, w) that the lines of an old face take."""
    x, y, z = face_points()
    taken = np.zeros((SIDE, SIDE), np.float32)
    for depth, width, points in LINES:
        away = distance_to(np.abs(x), y, points) / width
        line = depth * (np.exp(-np.square(away)) + BROAD_DEPTH * np.exp(-np.square(away / BROAD)))
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
