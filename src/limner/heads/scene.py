"""All surfaces of a head in one picture: what each sample sees, and the light that comes from there.

Opaque surfaces and those with holes (hair) compete for samples by depth; decals (brows, lashes) are then blended over
what lies behind them. All are rasterised as one list of triangles: so small surfaces cost little.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from limner.heads.geometry import Camera
from limner.heads.raster import DepthBuffer, Fragments, rasterise
from limner.heads.surfaces import Hits, Surface

# Hair covers a sample where its opacity exceeds the sample's own threshold; the four thresholds of a pixel average out
# to the opacity, which needs no sorting of layers.
COVERAGE_THRESHOLDS = np.array([0.15, 0.6, 0.75, 0.35], np.float32)
DECAL_BIAS = 0.05  # decimetres brows and lashes may lie behind the skin and still show


def paint(light: np.ndarray, surfaces: list[Surface], camera: Camera, samples: int) -> None:
    """Put what the camera sees of `surfaces` into `light` (3, samples²)."""
    layers = _rasterise(surfaces, camera, samples)
    buffer = DepthBuffer(samples)
    for layer in layers:
        if not layer.surface.decal:
            layer.compete(buffer)
    seen = buffer.kept()
    for layer in layers:
        if not layer.surface.decal:
            layer.fill(light, seen)
    for layer in layers:
        if layer.surface.decal:
            layer.blend(light, buffer)


@dataclass(frozen=True)
class Layer:
    """A surface and its fragments, the first of which is number `start` of all; its triangles are numbered from
    `first_triangle`, its facets from `first_facet` to `last_facet`.
    """

    surface: Surface
    fragments: Fragments
    start: int
    first_triangle: int
    facets: slice

    def compete(self, buffer: DepthBuffer) -> None:
        """Offer the fragments to the depth buffer: of a cut-out surface, those that are in front and opaque."""
        fragments, numbers = self.fragments, np.arange(self.start, self.start + len(self.fragments))
        if self.surface.cut_out:
            numbers = buffer.passes(fragments)
            fragments = fragments.select(numbers)
            thresholds = _thresholds(fragments.sample, fragments.size)
            opaque = np.flatnonzero(self.surface.coverage(self._hits(fragments)) > thresholds)
            fragments, numbers = fragments.select(opaque), numbers[opaque] + self.start
        buffer.offer(fragments, numbers)

    def fill(self, light: np.ndarray, seen: np.ndarray) -> None:
        """Shade the fragments that are among those `seen` (ascending numbers) into `light`."""
        first, last = np.searchsorted(seen, [self.start, self.start + len(self.fragments)])
        if last > first:
            fragments = self.fragments.select(seen[first:last] - self.start)
            light[:, fragments.sample] = self.surface.shade(self._hits(fragments))

    def blend(self, light: np.ndarray, buffer: DepthBuffer) -> None:
        """Paint a decal over what lies behind it, by its opacity."""
        in_front = self.fragments.depth - np.float32(DECAL_BIAS) <= buffer.depths(self.fragments.sample)
        fragments = self.fragments.select(np.flatnonzero(in_front))
        if len(fragments):
            hits = self._hits(fragments)
            behind = light[:, fragments.sample]
            light[:, fragments.sample] += (self.surface.shade(hits) - behind) * self.surface.coverage(hits)

    def _hits(self, fragments: Fragments) -> Hits:
        spread = fragments.facets.index[self.facets] - self.first_triangle
        triangle = fragments.triangle - self.first_triangle
        return Hits(self.surface.mesh, triangle, fragments.weights, spread, fragments.facets.areas[self.facets])


def _rasterise(surfaces: list[Surface], camera: Camera, samples: int) -> list[Layer]:
    """The layers of surfaces, those that are opaque first."""
    surfaces = sorted(surfaces, key=lambda surface: surface.cut_out)
    counts = [surface.mesh.triangles.shape[1] for surface in surfaces]
    vertex_starts = accumulate((surface.vertices.shape[1] for surface in surfaces), initial=0)
    triangles = [surface.mesh.triangles + start for surface, start in zip(surfaces, vertex_starts, strict=False)]
    screen = camera.project(np.concatenate([surface.vertices for surface in surfaces], 1))
    cull = np.repeat([surface.cull for surface in surfaces], counts)
    fragments = rasterise(screen, np.concatenate(triangles, 1), samples, cull=cull)
    boundaries = [*accumulate(counts, initial=0)]
    facets = np.searchsorted(fragments.facets.index, boundaries).tolist()
    starts = np.searchsorted(fragments.facet, facets).tolist()
    return [
        Layer(surface, fragments.select(slice(*ends)), ends[0], first, slice(*own))
        for surface, ends, own, first in zip(surfaces, pairwise(starts), pairwise(facets), boundaries, strict=False)
    ]


def _thresholds(sample: np.ndarray, size: int) -> np.ndarray:
    row, column = np.divmod(sample, size)
    return COVERAGE_THRESHOLDS.take(2 * (row & 1) + (column & 1))
