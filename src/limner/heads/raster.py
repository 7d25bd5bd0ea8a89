"""Triangles to samples: which triangle covers each sample centre, where inside it, and how far away.

All triangles of a surface are handled at once: each one's bounding box is listed sample by sample, and the samples
outside the triangle are dropped. At the sizes drawn here a triangle covers a sample or two, so little is wasted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FAR = np.float32(1e9)
DEGENERATE_AREA = 1e-9


@dataclass(frozen=True)
class Fragments:
    """Samples covered by triangles, k of them.

    triangle: (k,) index of the triangle; sample: (k,) row-major index of the sample; weights: (3, k) barycentric
    coordinates; depth: (k,) distance from the camera.
    """

    triangle: np.ndarray
    sample: np.ndarray
    weights: np.ndarray
    depth: np.ndarray

    def __len__(self) -> int:
        return len(self.triangle)

    def select(self, chosen: np.ndarray) -> Fragments:
        """The fragments at an index or mask array."""
        return Fragments(self.triangle[chosen], self.sample[chosen], self.weights[:, chosen], self.depth[chosen])

    def interpolate(self, values: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        """Vertex `values` (c, v) at the fragments, (c, k); `triangles` (3, f) indexes the vertices."""
        corners = triangles[:, self.triangle]
        result = values[:, corners[0]] * self.weights[0]
        result += values[:, corners[1]] * self.weights[1]
        result += values[:, corners[2]] * self.weights[2]
        return result


def rasterise(screen: np.ndarray, triangles: np.ndarray, size: int, *, cull: bool) -> Fragments:
    """Every sample centre of a `size` × `size` grid that a triangle covers.

    screen: (3, v) float32 rows x, y (samples, y downwards) and depth. triangles: (3, f). With `cull`, triangles that
    face away (clockwise in the mesh's own order) are dropped; without, both sides are drawn.
    """
    corner_x, corner_y = screen[0][triangles], screen[1][triangles]
    left, right = _sample_span(corner_x, size)
    top, bottom = _sample_span(corner_y, size)
    area = (corner_x[1] - corner_x[0]) * (corner_y[2] - corner_y[0])
    area -= (corner_x[2] - corner_x[0]) * (corner_y[1] - corner_y[0])
    facing = area < -DEGENERATE_AREA if cull else np.abs(area) > DEGENERATE_AREA
    kept = np.flatnonzero((right > left) & (bottom > top) & facing)
    widths, heights = (right - left)[kept], (bottom - top)[kept]
    owner, column, row = _list_boxes(widths, heights)
    column += left[kept][owner]
    row += top[kept][owner]
    slopes = _barycentric_slopes(corner_x[:, kept], corner_y[:, kept], area[kept])[:, owner]
    offset_x = column.astype(np.float32) - (corner_x[0][kept] - np.float32(0.5))[owner]
    offset_y = row.astype(np.float32) - (corner_y[0][kept] - np.float32(0.5))[owner]
    second = slopes[0] * offset_x + slopes[1] * offset_y
    third = slopes[2] * offset_x + slopes[3] * offset_y
    first = 1 - second - third
    inside = np.flatnonzero((first >= 0) & (second >= 0) & (third >= 0))
    weights = np.stack([first[inside], second[inside], third[inside]])
    triangle = kept[owner[inside]]
    depth = (screen[2][triangles[:, triangle]] * weights).sum(0)
    return Fragments(triangle, row[inside] * size + column[inside], weights, depth)


def _sample_span(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last sample (f,) whose centres lie within the corners (3, f) along one axis."""
    low = np.minimum(np.minimum(corners[0], corners[1]), corners[2])
    high = np.maximum(np.maximum(corners[0], corners[1]), corners[2])
    first = np.ceil(np.clip(low - np.float32(0.5), 0, size)).astype(np.int32)
    last = np.ceil(np.clip(high - np.float32(0.5), 0, size)).astype(np.int32)
    return first, last


def _list_boxes(widths: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For boxes of the given sizes: owner, column and row of every sample, box after box."""
    areas = widths * heights
    starts = np.cumsum(areas) - areas
    owner = np.repeat(np.arange(len(areas), dtype=np.int32), areas)
    within = np.arange(len(owner), dtype=np.int32) - starts.astype(np.int32)[owner]
    row = within // widths[owner]
    column = within - row * widths[owner]
    return owner, column, row


def _barycentric_slopes(corner_x: np.ndarray, corner_y: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Rows (4, f): d second/dx, d second/dy, d third/dx, d third/dy."""
    inverse = 1 / area
    return np.stack(
        [
            (corner_y[2] - corner_y[0]) * inverse,
            (corner_x[0] - corner_x[2]) * inverse,
            (corner_y[0] - corner_y[1]) * inverse,
            (corner_x[1] - corner_x[0]) * inverse,
        ]
    )


def nearest(fragments: Fragments, depths: np.ndarray) -> np.ndarray:
    """Lower the depth buffer `depths` (s,) in place; indices of the fragments that are now in front of all others."""
    np.minimum.at(depths, fragments.sample, fragments.depth)
    front = np.flatnonzero(fragments.depth <= depths[fragments.sample])
    owner = np.full(len(depths), -1, np.int64)
    owner[fragments.sample[front]] = front  # equal depths: the last one wins, always the same
    return owner[owner >= 0]
