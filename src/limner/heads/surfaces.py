"""A surface of a head, ready to be drawn: where it is, how light falls on its vertices, what colour lies between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from limner.heads.geometry import dot, head_rotation, normalised
from limner.heads.pack import Mesh
from limner.heads.raster import Facets, blend
from limner.heads.shot import Shot
from limner.heads.textures import look_up, look_up_sum


def linear(colour: np.ndarray) -> np.ndarray:
    """An sRGB colour (3,) as linear light (3, 1)."""
    return np.square(colour).astype(np.float32)[:, None]


@dataclass(frozen=True)
class Material:
    """How a surface takes light: `wrap` (3, 1) softens the edge of shade per colour; `gloss` is the strength of its
    highlight, `gloss_doublings` how narrow that is (the cosine is squared that often); `gain` scales all light.
    """

    wrap: np.ndarray
    gloss: float
    gloss_doublings: int
    gain: float = 1.0


def _wrap(*shares: float) -> np.ndarray:
    return np.array(shares, np.float32)[:, None]


SKIN = Material(_wrap(0.34, 0.20, 0.15), 0.09, 4)  # light seeps through skin round into shade, red the furthest
HAIR = Material(_wrap(0.3, 0.3, 0.3), 0.045, 3)
EYES = Material(_wrap(0.2, 0.2, 0.2), 0.5, 6, 1.15)
TEETH = Material(_wrap(0.5, 0.5, 0.5), 0.1, 4, 1.3)
CLOTH = Material(_wrap(0.3, 0.3, 0.3), 0.0, 0)


@dataclass(frozen=True)
class Spread:
    """How large a surface of `mesh` is in the picture: `own` of the `facets` are its triangles, numbered there from
    `first_triangle`.
    """

    mesh: Mesh
    facets: Facets
    own: slice
    first_triangle: int

    def texels_per_sample(self, shape: tuple[int, ...], uv: np.ndarray | None = None) -> float:
        """How many texels of a texture of (height, width) one sample's side spans; `uv` (2, v) per vertex, if not the
        mesh's own.
        """
        if uv is None:
            return self._texture_scale * math.sqrt(shape[0] * shape[1])
        area = _area_within(uv, self.mesh.triangles, self.facets.index[self.own] - self.first_triangle)
        return math.sqrt(area / self._area * shape[0] * shape[1])

    @cached_property
    def _area(self) -> float:
        return max(float(np.add.reduce(self.facets.areas[self.own])), 1e-9)

    @cached_property
    def _texture_scale(self) -> float:
        areas = self.mesh.texture_areas.take(self.facets.index[self.own] - self.first_triangle)
        return math.sqrt(float(np.add.reduce(areas)) / self._area)


def _area_within(uv: np.ndarray, triangles: np.ndarray, chosen: np.ndarray) -> float:
    """Area in a texture of side 1 of the `chosen` ones (t,) of `triangles` (3, f) between points uv (2, v)."""
    u, v = (axis.take(triangles.take(chosen, 1)) for axis in uv)
    return float(np.abs((u[1] - u[0]) * (v[2] - v[0]) - (u[2] - u[0]) * (v[1] - v[0])).sum()) / 2


@dataclass(frozen=True)
class Hits:
    """Where a surface of `mesh` is hit, k times: triangle (k,) of the mesh, barycentric weights (3, k), and the light
    (4, k) that falls there, as `Surface.lighting` at the vertices, where it is asked for.
    """

    mesh: Mesh
    triangle: np.ndarray
    weights: np.ndarray
    spread: Spread
    light: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.triangle)

    @cached_property
    def corners(self) -> np.ndarray:
        """Vertices (3, k) around each hit."""
        return self.mesh.triangles.take(self.triangle, 1)

    @cached_property
    def uv(self) -> np.ndarray:
        """Texture coordinates (2, k)."""
        return blend(self.mesh.uv, self.mesh.texture_triangles.take(self.triangle, 1), self.weights)

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Vertex `values` (c, v) at the hits, (c, k)."""
        return blend(values, self.corners, self.weights)


@dataclass(frozen=True)
class Paint:
    """A colour over part of a surface: share (1, v) at the vertices, whose 0.5 line is a crisp edge; colour (3, 1)."""

    share: np.ndarray
    colour: np.ndarray

    def cover(self, colour: np.ndarray, hits: Hits) -> np.ndarray:
        """`colour` (3, k) of the hits with this paint over it."""
        share = hits.interpolate(self.share)
        share = np.clip((share - np.float32(0.5)) * np.float32(8) + np.float32(0.5), 0, 1)
        return colour + (self.colour - colour) * share


@dataclass(frozen=True)
class Detail:
    """Fine shade over a surface: (strength, plane (h, w)) of one size, each of which takes strength · plane of the
    light; uv (2, v) places the vertices in them.
    """

    uv: np.ndarray
    shades: tuple[tuple[float, np.ndarray], ...]

    def read(self, hits: Hits) -> np.ndarray:
        """The factor (1, k) at the hits."""
        uv = hits.interpolate(self.uv)
        texels_per_sample = hits.spread.texels_per_sample(self.shades[0][1].shape, self.uv)
        factor = np.ones((1, len(hits)), np.float32)
        for strength, plane in self.shades:
            factor *= 1 - np.float32(strength) * look_up(plane, uv, texels_per_sample)
        return factor


@dataclass(frozen=True)
class Surface:
    """One surface of a head.

    vertices: (3, v); lighting: (4, v) diffuse red, green, blue and highlight; tint: (3, 1) that the colour is
    multiplied by; textures: (share, planes (1 or 3, h, w)) that are mixed into the colour, all of one size; opacity:
    (h, w) or None; cut_out: opacity decides which samples it covers; decal: it is painted over what lies behind.
    """

    vertices: np.ndarray
    mesh: Mesh
    lighting: np.ndarray
    tint: np.ndarray
    textures: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    opacity: np.ndarray | None = None
    detail: Detail | None = None
    paint: Paint | None = None
    cull: bool = False
    decal: bool = False

    @property
    def cut_out(self) -> bool:
        return self.opacity is not None and not self.decal

    def shade(self, hits: Hits) -> np.ndarray:
        """Linear light (3, k) that leaves the hits towards the camera."""
        light = hits.interpolate(self.lighting) if hits.light is None else hits.light
        colour = self._colour(hits)
        if self.detail is not None:
            colour = colour * self.detail.read(hits)
        if self.paint is not None:
            colour = self.paint.cover(colour, hits)
        return colour * light[:3] + light[3]

    def _colour(self, hits: Hits) -> np.ndarray:
        if not self.textures:
            return self.tint
        texels_per_sample = hits.spread.texels_per_sample(self.textures[0][1].shape[-2:])
        if len(self.textures) == 1:
            ((share, planes),) = self.textures
            return (self.tint * share) * look_up(planes, hits.uv, texels_per_sample)
        return self.tint * look_up_sum(self.textures, hits.uv, texels_per_sample)

    def coverage(self, hits: Hits) -> np.ndarray:
        """Opacity (k,) at the hits."""
        if self.opacity is None:
            return np.ones(len(hits), np.float32)
        return look_up(self.opacity, hits.uv, hits.spread.texels_per_sample(self.opacity.shape))[0]


@dataclass(frozen=True)
class Lamp:
    """The lights of a shot in the head's frame. direction, view: (3,); key, ambient: (3, 1) linear intensities."""

    direction: np.ndarray
    view: np.ndarray
    key: np.ndarray
    ambient: np.ndarray

    @classmethod
    def of(cls, shot: Shot) -> Lamp:
        """The lamp of a shot; it stays with the camera when the head turns."""
        rotation = head_rotation(shot.yaw, shot.pitch, shot.roll)
        direction = np.einsum("i,ij->j", shot.light_direction, rotation)
        return cls(
            direction=direction.astype(np.float32),
            view=rotation[2],
            key=shot.key_light.astype(np.float32)[:, None],
            ambient=shot.ambient_light.astype(np.float32)[:, None],
        )

    @cached_property
    def halfway(self) -> np.ndarray:
        """The unit direction (3,) between lamp and eye: what faces it mirrors the one to the other."""
        return normalised((self.direction + self.view)[:, None])[:, 0]

    def fall_on(self, normals: np.ndarray, lit: np.ndarray, openness: np.ndarray, material: Material) -> np.ndarray:
        """Lighting (4, v) of vertices with unit `normals` (3, v) that the key light reaches by shares `lit` (v,), under
        shares `openness` (v,) of the sky.
        """
        lighting = np.empty((4, normals.shape[1]), np.float32)
        gain = np.float32(material.gain)
        diffuse = np.add(dot(normals, self.direction), material.wrap, out=lighting[:3])
        np.maximum(diffuse, 0, out=diffuse)
        diffuse *= lit
        diffuse *= self.key * (gain / (1 + material.wrap))
        sky = normals[1] * np.float32(0.2)
        sky += np.float32(0.8)
        sky *= openness
        diffuse += sky * (self.ambient * gain)
        highlight = np.maximum(dot(normals, self.halfway), 0, out=lighting[3])
        for _ in range(material.gloss_doublings):
            highlight *= highlight
        highlight *= lit
        highlight *= np.float32(material.gloss)
        return lighting
