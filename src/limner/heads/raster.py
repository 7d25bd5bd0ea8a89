"""Triangles to samples: which triangle covers each sample centre, where inside it, and how far away.

All triangles are handled at once, in widening steps: the triangles whose bounds hold a sample centre; the two halves of
each, above and below its middle corner; the rows of samples of each half; the span of each row between two edges; the
samples of the spans. Two triangles that share an edge find where it crosses a row by the same sum, so that between them
no sample is missed and none covered twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FAR = np.float32(1e9)
_SMALLEST_AREA = 1e-9  # in samples, doubled
_SMALLEST_RISE = 1e-6  # in samples
# Which corner is highest, which in the middle, which lowest, by: first below second + 2 · first below third + 4 ·
# second below third. Two of the eight cannot be.
_DOWNWARDS = np.array([[0, 1, 0, 1, 0, 0, 2, 2], [1, 0, 0, 2, 2, 0, 0, 1], [2, 2, 0, 0, 1, 0, 1, 0]])


@dataclass(frozen=True)
class Facets:
    """Triangles that may cover something: index (m,) of each in the list it came from; areas (m,) in samples; frames
    (6, m): column and row of its first corner, and per column and per row its second and third barycentric coordinates.
    """

    index: np.ndarray
    areas: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True)
class Fragments:
    """Samples covered by triangles, k of them.

    span: (k,) which row of which facet it is in, an index into `facet_of_span`, itself an index into `facets`; sample:
    (k,) row-major index of the sample on a grid `size` wide; depth: (k,) float32 distance from the camera.
    """

    facets: Facets
    facet_of_span: np.ndarray
    span: np.ndarray
    sample: np.ndarray
    depth: np.ndarray
    size: int

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def facet(self) -> np.ndarray:
        """Which facet each belongs to (k,)."""
        return pick(self.facet_of_span, self.span)

    @property
    def triangle(self) -> np.ndarray:
        """The triangles' indices (k,)."""
        return pick(self.facets.index, self.facet)

    @property
    def weights(self) -> np.ndarray:
        """Barycentric coordinates (3, k) float32."""
        row = np.floor((self.sample + np.float32(0.5)) * np.float32(1 / self.size))
        column = self.sample - row * np.float32(self.size)
        facet = self.facet
        x, y, *slopes = (pick(frame, facet) for frame in self.facets.frames)
        column -= x
        row -= y
        weights = np.empty((3, len(self)), np.float32)
        np.add(slopes[0] * column, slopes[1] * row, out=weights[1])
        np.add(slopes[2] * column, slopes[3] * row, out=weights[2])
        np.subtract(1 - weights[1], weights[2], out=weights[0])
        return weights

    def interpolate(self, values: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        """Vertex `values` (c, v) at the fragments, (c, k); `triangles` (3, f) indexes the vertices."""
        return blend(values, triangles.take(self.triangle, 1), self.weights)

    def starts(self, facets: np.ndarray) -> np.ndarray:
        """How many fragments, of all that a call of `rasterise` gave, belong to facets before each of `facets`."""
        return np.searchsorted(self.span, np.searchsorted(self.facet_of_span, facets))

    def select(self, chosen: np.ndarray | slice) -> Fragments:
        """The fragments at an index array or a slice."""
        return Fragments(
            self.facets, self.facet_of_span, self.span[chosen], self.sample[chosen], self.depth[chosen], self.size
        )


def pick(values: np.ndarray, index: np.ndarray, axis: int | None = None) -> np.ndarray:
    """`values.take(index, axis)` for indices that are known to be in range: in this mode it checks less."""
    return values.take(index, axis, mode="wrap")


def blend(values: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sums (c, k) of `values` (c, v) at three `corners` (3, k) each, by their weights (3, k)."""
    shares = pick(values, corners, 1)
    shares *= weights
    result = shares[:, 0] + shares[:, 1]
    result += shares[:, 2]
    return result


def rasterise(screen: np.ndarray, triangles: np.ndarray, size: int, *, cull: bool | np.ndarray) -> Fragments:
    """Every sample centre of a `size` × `size` grid that a triangle covers, those of each triangle together.

    screen: (3, v) rows x, y (samples, y downwards) and depth. triangles: (3, f). With `cull`, for all or for each (f,),
    triangles that face away (clockwise in the mesh's own order) are dropped; without, both sides are drawn.
    """
    index = _reaching(screen, triangles, size)
    corners = pick(triangles, index, 1)
    x, y = pick(screen[0], corners), pick(screen[1], corners)
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    culled = cull if isinstance(cull, bool) else cull[index]
    facing = np.flatnonzero((area < -_SMALLEST_AREA) | ((area > _SMALLEST_AREA) & np.logical_not(culled)))
    x, y, area = pick(x, facing, 1), pick(y, facing, 1), area[facing]
    frames = _frames(x, y, area)
    depths = _depth_planes(frames, pick(screen[2], pick(corners, facing, 1)))
    spans = _spans(_halves(x, y, size), size)
    return _fill(Facets(index[facing], np.abs(area) / 2, frames), depths, spans, size)


def _reaching(screen: np.ndarray, triangles: np.ndarray, size: int) -> np.ndarray:
    """The triangles (m,) whose bounding box holds a sample centre."""
    passed = _samples_before(screen[:2], size).astype(np.int16)
    pairs = np.ascontiguousarray(passed.T).view(np.int32).ravel().take(triangles).view(np.int16)
    low = np.minimum(np.minimum(pairs[0], pairs[1]), pairs[2])
    inside = np.maximum(np.maximum(pairs[0], pairs[1]), pairs[2]) > low
    return np.flatnonzero(inside[::2] & inside[1::2])


def _samples_before(places: np.ndarray, size: int) -> np.ndarray:
    """How many sample centres along an axis lie before each of `places`, as floats."""
    return np.ceil(np.minimum(np.maximum(places - np.float32(0.5), 0), np.float32(size)))


def _frames(x: np.ndarray, y: np.ndarray, area: np.ndarray) -> np.ndarray:
    """`Facets.frames` (6, m) of triangles with corners x, y (3, m) and doubled signed `area` (m,)."""
    inverse = 1 / area
    frames = np.empty((6, len(area)), np.float32)
    frames[0], frames[1] = x[0] - np.float32(0.5), y[0] - np.float32(0.5)
    frames[2], frames[3] = (y[2] - y[0]) * inverse, (x[0] - x[2]) * inverse
    frames[4], frames[5] = (y[0] - y[1]) * inverse, (x[1] - x[0]) * inverse
    return frames


def _depth_planes(frames: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Depth (3, m) at the first corner, per column and per row, of triangles whose corners are at `depth` (3, m)."""
    planes = np.empty_like(depth)
    planes[0] = depth[0]
    planes[1:] = frames[2:4] * (depth[1] - depth[0]) + frames[4:] * (depth[2] - depth[0])
    return planes


@dataclass(frozen=True)
class _Halves:
    """The parts of triangles above and below their middle corners: facet, first row and number of rows (h,); left and
    right edge (3, h), as `_edge` gives them.
    """

    facet: np.ndarray
    start: np.ndarray
    heights: np.ndarray
    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class _Spans:
    """Samples of one row between two edges of a facet: facet, row, first column and number of samples, (r,) each."""

    facet: np.ndarray
    row: np.ndarray
    first: np.ndarray
    counts: np.ndarray


def _halves(x: np.ndarray, y: np.ndarray, size: int) -> _Halves:
    """The halves of triangles with corners x, y (3, m), as far as they have rows."""
    below = (y[0] > y[1]) + np.int8(2) * (y[0] > y[2]) + np.int8(4) * (y[1] > y[2])
    places = pick(_DOWNWARDS, below, 1) * np.intp(x.shape[1]) + np.arange(x.shape[1])
    x, y = pick(x, places), pick(y, places)
    rows = _samples_before(y, size)
    long = _edge(x[0], y[0], x[2], y[2], rows[0])
    bends_left = long[0] * (y[1] - y[0]) > x[1] - x[0]
    half = np.flatnonzero((rows[1:] > rows[:-1]).ravel("F"))  # the upper one of each facet, then the lower one
    facet = half >> 1
    upper = facet + (half & 1) * x.shape[1]
    lower = upper + x.shape[1]
    x, y, rows = x.ravel(), y.ravel(), rows.ravel()
    start = pick(rows, upper)
    by_short = _edge(pick(x, upper), pick(y, upper), pick(x, lower), pick(y, lower), start)
    by_long, bends = pick(long, facet, 1), pick(bends_left, facet)
    left, right = _swap_where(bends, by_long, by_short)
    return _Halves(facet, start.astype(np.int32), (pick(rows, lower) - start).astype(np.int32), left, right)


def _edge(x: np.ndarray, y: np.ndarray, low_x: np.ndarray, low_y: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Lines from upper ends x, y to lower ends, as rows (3, h): columns per row; column at `row`, which is the first
    below the upper end; that row. Two triangles that share an edge get the same to the last bit.
    """
    edge = np.empty((3, len(x)), np.float32)
    rise = low_y - y
    rise[rise < _SMALLEST_RISE] = np.inf
    np.divide(low_x - x, rise, out=edge[0])
    np.multiply(edge[0], row + np.float32(0.5) - y, out=edge[1])
    edge[1] += x
    edge[1] -= np.float32(0.5)
    edge[2] = row
    return edge


def _swap_where(swapped: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two float32 arrays (…, n), exchanged where `swapped` (n,): without branches, which take ten times as long."""
    first_bits, second_bits = first.view(np.int32), second.view(np.int32)
    change = (first_bits ^ second_bits) & -swapped.astype(np.int32)
    return (first_bits ^ change).view(np.float32), (second_bits ^ change).view(np.float32)


def _spans(halves: _Halves, size: int) -> _Spans:
    """The spans of samples in the rows of halves."""
    heights = halves.heights
    half = np.repeat(np.arange(len(heights)), heights)
    row = np.arange(len(half), dtype=np.int32)
    row -= (np.cumsum(heights, dtype=np.int32) - heights - halves.start).take(half)
    place = row.astype(np.float32)
    left, right = (_columns_before(place, half, edge, size) for edge in (halves.left, halves.right))
    counts = right - left
    filled = np.flatnonzero(counts > 0)
    return _Spans(pick(halves.facet, pick(half, filled)), pick(row, filled), pick(left, filled), pick(counts, filled))


def _columns_before(row: np.ndarray, half: np.ndarray, edge: np.ndarray, size: int) -> np.ndarray:
    """How many samples of each row lie before the edge of its half."""
    slope, column, first = edge
    bound = row - pick(first, half)
    bound *= pick(slope, half)
    bound += pick(column, half)
    np.minimum(np.maximum(bound, 0, out=bound), np.float32(size), out=bound)
    return np.ceil(bound, out=bound).astype(np.int32)


def _fill(facets: Facets, depths: np.ndarray, spans: _Spans, size: int) -> Fragments:
    """The fragments of spans; `depths` (3, m) are the facets' planes of depth."""
    at_corner, along, down = (pick(plane, spans.facet) for plane in depths)
    x, y = (pick(axis, spans.facet) for axis in facets.frames[:2])
    at_left = at_corner + along * (spans.first.astype(np.float32) - x) + down * (spans.row.astype(np.float32) - y)
    end = np.cumsum(spans.counts)
    start = end - spans.counts
    span = np.repeat(np.arange(len(start)), spans.counts)
    number = np.arange(len(span))
    within = number - pick(start, span)
    sample = within + (spans.row * size + spans.first).take(span)
    depth = pick(along, span) * within.astype(np.float32) + pick(at_left, span)
    return Fragments(facets, spans.facet, span, sample, depth, size)


def nearest(fragments: Fragments, depths: np.ndarray) -> np.ndarray:
    """Lower the depths (s,) in place; indices of the fragments that are now in front of all others."""
    np.minimum.at(depths, fragments.sample, fragments.depth)
    front = np.flatnonzero(fragments.depth <= depths[fragments.sample])
    owner = np.full(len(depths), -1, np.int64)
    owner[fragments.sample[front]] = front  # equal depths: the last one wins, always the same
    return owner[owner >= 0]
