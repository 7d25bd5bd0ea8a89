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
        """The fragments at an index array."""
        weights = self.weights.take(chosen, 1)
        return Fragments(self.triangle[chosen], self.sample[chosen], weights, self.depth[chosen])

    def interpolate(self, values: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        """Vertex `values` (c, v) at the fragments, (c, k); `triangles` (3, f) indexes the vertices."""
        corners = triangles.take(self.triangle, 1)
        result = values.take(corners[0], 1)
        result *= self.weights[0]
        for corner, weight in zip(corners[1:], self.weights[1:], strict=True):
            share = values.take(corner, 1)
            share *= weight
            result += share
        return result


def rasterise(screen: np.ndarray, triangles: np.ndarray, size: int, *, cull: bool) -> Fragments:
    """Every sample centre of a `size` × `size` grid that a triangle covers.

    screen: (3, v) float32 rows x, y (samples, y downwards) and depth. triangles: (3, f). With `cull`, triangles that
    face away (clockwise in the mesh's own order) are dropped; without, both sides are drawn.
    """
    corner_x, corner_y = screen[0].take(triangles), screen[1].take(triangles)
    area = (corner_x[1] - corner_x[0]) * (corner_y[2] - corner_y[0])
    area -= (corner_x[2] - corner_x[0]) * (corner_y[1] - corner_y[0])
    facing = np.flatnonzero(area < -DEGENERATE_AREA if cull else np.abs(area) > DEGENERATE_AREA)
    corner_x, corner_y = corner_x.take(facing, 1), corner_y.take(facing, 1)
    left, right = _sample_span(corner_x, size)
    top, bottom = _sample_span(corner_y, size)
    covering = np.flatnonzero((right > left) & (bottom > top))
    owner, column, row = _list_boxes(np.stack([left, right, top, bottom]).take(covering, 1))
    planes = _edge_planes(corner_x.take(covering, 1), corner_y.take(covering, 1), area[facing[covering]])
    second, third = _heights(planes.take(owner, 1), column, row)
    first = 1 - second - third
    inside = np.flatnonzero(np.minimum(np.minimum(first, second), third) >= 0)
    weights = np.stack([first, second, third]).take(inside, 1)
    triangle = facing[covering[owner[inside]]]
    depth = screen[2].take(triangles.take(triangle, 1)) * weights
    return Fragments(triangle, row[inside] * size + column[inside], weights, depth[0] + depth[1] + depth[2])


def _sample_span(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last sample (f,) whose centres lie within the corners (3, f) along one axis."""
    half, limit, zero = np.float32(0.5), np.float32(size), np.float32(0)
    low = np.minimum(np.minimum(corners[0], corners[1]), corners[2]) - half
    high = np.maximum(np.maximum(corners[0], corners[1]), corners[2]) - half
    first = np.ceil(np.minimum(np.maximum(low, zero), limit)).astype(np.int32)
    last = np.ceil(np.minimum(np.maximum(high, zero), limit)).astype(np.int32)
    return first, last


def _list_boxes(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For boxes (left, right, top, bottom) (4, f): owner, column and row of every sample in them, box after box."""
    left, right, top, bottom = boxes
    widths = right - left
    areas = widths * (bottom - top)
    starts = (np.cumsum(areas) - areas).astype(np.int32)
    owner = np.repeat(np.arange(len(areas), dtype=np.int32), areas)
    within = np.arange(len(owner), dtype=np.int32) - starts[owner]
    width = widths[owner]
    down = within // width
    return owner, within - down * width + left[owner], down + top[owner]


def _edge_planes(corner_x: np.ndarray, corner_y: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Rows (6, f): first corner x, y less half a sample; d second/dx, dy; d third/dx, dy."""
    inverse = 1 / area
    return np.stack(
        [
            corner_x[0] - np.float32(0.5),
            corner_y[0] - np.float32(0.5),
            (corner_y[2] - corner_y[0]) * inverse,
            (corner_x[0] - corner_x[2]) * inverse,
            (corner_y[0] - corner_y[1]) * inverse,
            (corner_x[1] - corner_x[0]) * inverse,
        ]
    )


def _heights(planes: np.ndarray, column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The second and third barycentric coordinates (k,) of samples, `planes` (6, k) being their triangles'."""
    across, down = column.astype(np.float32) - planes[0], row.astype(np.float32) - planes[1]
    return planes[2] * across + planes[3] * down, planes[4] * across + planes[5] * down


def nearest(fragments: Fragments, depths: np.ndarray) -> np.ndarray:
    """Lower the depth buffer `depths` (s,) in place; indices of the fragments that are now in front of all others."""
    np.minimum.at(depths, fragments.sample, fragments.depth)
    front = np.flatnonzero(fragments.depth <= depths[fragments.sample])
    owner = np.full(len(depths), -1, np.int64)
    owner[fragments.sample[front]] = front  # equal depths: the last one wins, always the same
    return owner[owner >= 0]
