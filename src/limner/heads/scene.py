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
from limner.heads.surfaces import Hits, Spread, Surface

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


@dataclass
class Layer:
    """A surface and its fragments, which are numbered from `start`; its triangles are numbered from `first_triangle`.

    hits: the fragments as the surface sees them, once that is worked out.
    """

    surface: Surface
    fragments: Fragments
    start: int
    first_triangle: int
    spread: Spread
    hits: Hits | None = None

    def compete(self, buffer: DepthBuffer) -> None:
        """Offer the fragments to the depth buffer; of a cut-out surface, keep only those in front and opaque."""
        if self.surface.cut_out:
            self.fragments = self.fragments.select(buffer.passes(self.fragments))
            thresholds = _thresholds(self.fragments.sample, self.fragments.size)
            hits = self._look(self.fragments)
            opaque = np.flatnonzero(self.surface.coverage(hits) > thresholds)
            self.fragments, self.hits = self.fragments.select(opaque), hits.select(opaque)
        buffer.offer(self.fragments, np.arange(self.start, self.start + len(self.fragments)))

    def fill(self, light: np.ndarray, seen: np.ndarray) -> None:
        """Shade the fragments that are among those `seen` (ascending numbers) into `light`."""
        first, last = np.searchsorted(seen, [self.start, self.start + len(self.fragments)])
        if last > first:
            chosen = seen[first:last] - self.start
            hits = self.hits.select(chosen) if self.hits else self._look(self.fragments.select(chosen))
            _put(light, self.fragments.sample.take(chosen), self.surface.shade(hits))

    def blend(self, light: np.ndarray, buffer: DepthBuffer) -> None:
        """Paint a decal over what lies behind it, by its opacity."""
        in_front = self.fragments.depth - np.float32(DECAL_BIAS) <= buffer.depths(self.fragments.sample)
        fragments = self.fragments.select(np.flatnonzero(in_front))
        if len(fragments):
            hits = self._look(fragments)
            behind = light.take(fragments.sample, 1)
            _put(light, fragments.sample, behind + (self.surface.shade(hits) - behind) * self.surface.coverage(hits))

    def _look(self, fragments: Fragments) -> Hits:
        triangle = fragments.triangle - self.first_triangle
        return Hits(self.surface.mesh, triangle, fragments.weights, self.spread)


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
    layers = []
    for surface, ends, own, first in zip(surfaces, pairwise(starts), pairwise(facets), boundaries, strict=False):
        seen = slice(*own)
        spread = Spread(surface.mesh, fragments.facets.index[seen] - first, fragments.facets.areas[seen])
        layers.append(Layer(surface, fragments.select(slice(*ends)), ends[0], first, spread))
    return layers


def _put(light: np.ndarray, sample: np.ndarray, values: np.ndarray) -> None:
    """Set `light` (3, s) at samples (k,): plane by plane, which is much faster than at once."""
    for plane, plane_values in zip(light, values, strict=True):
        plane[sample] = plane_values


def _thresholds(sample: np.ndarray, size: int) -> np.ndarray:
    row, column = np.divmod(sample, size)
    return COVERAGE_THRESHOLDS.take(2 * (row & 1) + (column & 1))
