"""All surfaces of a head in one picture: what each sample sees, and the light that comes from there.

Opaque surfaces and those with holes (hair) compete for samples by depth; decals (brows, lashes) are then blended over
what lies behind them. All are rasterised as one list of triangles: so small surfaces cost little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from limner.heads.depth import DepthBuffer
from limner.heads.geometry import Camera
from limner.heads.pack import Mesh
from limner.heads.raster import Fragments, blend, rasterise
from limner.heads.remember import Remembered
from limner.heads.surfaces import Hits, Spread, Surface
from limner.heads.textures import opacity_range

# Hair covers a sample where its opacity exceeds the sample's own threshold; the four thresholds of a pixel average out
# to the opacity, which needs no sorting of layers.
COVERAGE_THRESHOLDS = np.array([0.15, 0.6, 0.75, 0.35], np.float32)
SPREAD_STEP = 4  # how large texels are in the picture is told by every fourth triangle
DECAL_BIAS = 0.05  # decimetres brows and lashes may lie behind the skin and still show


def paint(light: np.ndarray, surfaces: list[Surface], camera: Camera, samples: int) -> None:
    """Put what the camera sees of `surfaces` into `light` (3, samples²)."""
    scene = Scene.of(surfaces, camera, samples)
    buffer = DepthBuffer(samples, len(scene.fragments))
    scene.compete(buffer)
    for layer, hits, sample in scene.look(buffer.kept()):
        _put(light, sample, layer.surface.shade(hits))
    for layer, hits, sample in scene.look(scene.decals_in_front(buffer)):
        behind = light.take(sample, 1)
        _put(light, sample, behind + (layer.surface.shade(hits) - behind) * layer.surface.coverage(hits))


@dataclass(frozen=True)
class Layer:
    """A surface, its triangles ordered: first those that cover all samples, then those that have holes. Its fragments
    are numbered from `start` to `stop`, those with holes from `solid`; its triangles from `first_triangle`.
    """

    surface: Surface
    start: int
    solid: int
    stop: int
    first_triangle: int
    spread: Spread


@dataclass(frozen=True)
class Scene:
    """Layers, first those without holes, decals last; all fragments; all triangles (3, f); all lighting (4, v)."""

    layers: list[Layer]
    fragments: Fragments
    triangles: np.ndarray
    lighting: np.ndarray

    @classmethod
    def of(cls, surfaces: list[Surface], camera: Camera, samples: int) -> Scene:
        """The scene of surfaces in a picture of samples × samples."""
        ordered = [_ordered(surface) for surface in sorted(surfaces, key=lambda s: (s.decal, s.cut_out))]
        surfaces = [surface for surface, _ in ordered]
        counts = [surface.mesh.triangles.shape[1] for surface in surfaces]
        vertices = [0, *accumulate(surface.vertices.shape[1] for surface in surfaces)]
        triangles = np.concatenate([s.mesh.triangles + start for s, start in zip(surfaces, vertices, strict=False)], 1)
        screen = camera.project(np.concatenate([surface.vertices for surface in surfaces], 1))
        cull = np.repeat([surface.cull for surface in surfaces], counts)
        fragments = rasterise(screen, triangles, samples, cull=cull)
        return cls(
            layers=_layers(ordered, fragments),
            fragments=fragments,
            triangles=triangles,
            lighting=np.concatenate([surface.lighting for surface in surfaces], 1),
        )

    def compete(self, buffer: DepthBuffer) -> None:
        """Offer all fragments but the decals' to the depth buffer: of those with holes, the ones that are opaque."""
        holed = [layer for layer in self.layers if layer.surface.cut_out]
        first = holed[0].start if holed else self._first_decal()
        for start, stop in ((0, first), *((layer.start, layer.solid) for layer in holed)):
            buffer.offer(self.fragments.select(slice(start, stop)), np.arange(start, stop))
        passing = [
            layer.solid + buffer.passes(self.fragments.select(slice(layer.solid, layer.stop))) for layer in holed
        ]
        if passing:
            partly = np.concatenate(passing)
            opaque = [layer.surface.coverage(hits) for layer, hits, _ in self.look(partly, lit=False)]
            thresholds = _thresholds(self.fragments.sample.take(partly), self.fragments.size)
            partly = partly.take(np.flatnonzero(np.concatenate(opaque or [thresholds]) > thresholds))
            buffer.offer(self.fragments.select(partly), partly)

    def decals_in_front(self, buffer: DepthBuffer) -> np.ndarray:
        """The decals' fragments that show, ascending."""
        start = self._first_decal()
        decals = self.fragments.select(slice(start, None))
        return start + np.flatnonzero(decals.depth - np.float32(DECAL_BIAS) <= buffer.depths(decals.sample))

    def _first_decal(self) -> int:
        return min((layer.start for layer in self.layers if layer.surface.decal), default=len(self.fragments))

    def look(self, numbers: np.ndarray, *, lit: bool = True) -> Iterator[tuple[Layer, Hits, np.ndarray]]:
        """The fragments of ascending `numbers` (k,) as the hits of each layer, with the samples they are at."""
        fragments = self.fragments.select(numbers)
        triangle, weights = fragments.triangle, fragments.weights
        light = blend(self.lighting, self.triangles.take(triangle, 1), weights) if lit else None
        bounds = np.searchsorted(numbers, [*(layer.start for layer in self.layers), len(self.fragments)]).tolist()
        for layer, (first, last) in zip(self.layers, pairwise(bounds), strict=True):
            own = slice(first, last)
            if last > first:
                of_layer = triangle[own] - layer.first_triangle
                falling = None if light is None else light[:, own]
                hits = Hits(layer.surface.mesh, of_layer, weights[:, own], layer.spread, falling)
                yield layer, hits, fragments.sample[own]


def _ordered(surface: Surface) -> tuple[Surface, int]:
    """The surface with the triangles that cover all samples first, and how many those are; those that cover none are
    left out.
    """
    if surface.opacity is None or surface.decal:
        return surface, surface.mesh.triangles.shape[1]
    mesh, solid = _by_opacity(_order, surface.mesh, surface.opacity)
    return replace(surface, mesh=mesh), solid


_by_opacity: Remembered[tuple[Mesh, int]] = Remembered()


def _order(mesh: Mesh, opacity: np.ndarray) -> tuple[Mesh, int]:
    least, most = opacity_range(mesh, opacity)
    solid = least > COVERAGE_THRESHOLDS.max()
    partly = ~solid & (most > COVERAGE_THRESHOLDS.min())
    return mesh.keep(np.concatenate([np.flatnonzero(solid), np.flatnonzero(partly)])), int(solid.sum())


def _layers(ordered: list[tuple[Surface, int]], fragments: Fragments) -> list[Layer]:
    """The layers of surfaces, each with the number of its triangles that come first."""
    stops = [*accumulate(surface.mesh.triangles.shape[1] for surface, _ in ordered)]
    firsts = [0, *stops[:-1]]
    boundaries = [[first, first + solid, stop] for first, stop, (_, solid) in zip(firsts, stops, ordered, strict=True)]
    facets = np.searchsorted(fragments.facets.index, boundaries)
    numbers = fragments.starts(facets)
    layers = []
    for (surface, _), first, own, (start, solid, stop) in zip(
        ordered, firsts, facets.tolist(), numbers.tolist(), strict=True
    ):
        spread = Spread(surface.mesh, fragments.facets, slice(own[0], own[2], SPREAD_STEP), first)
        layers.append(Layer(surface, start, solid, stop, first, spread))
    return layers


def _put(light: np.ndarray, sample: np.ndarray, values: np.ndarray) -> None:
    """Set `light` (3, s) at samples (k,): plane by plane, which is much faster than at once."""
    for plane, plane_values in zip(light, values, strict=True):
        plane[sample] = plane_values


def _thresholds(sample: np.ndarray, size: int) -> np.ndarray:
    row, column = np.divmod(sample, size)
    return COVERAGE_THRESHOLDS.take(2 * (row & 1) + (column & 1))
