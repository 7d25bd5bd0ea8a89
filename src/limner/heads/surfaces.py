"""A surface of a head, ready to be drawn: where it is, how light falls on its vertices, what colour lies between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.geometry import dot, head_rotation, normalised
from limner.heads.pack import Mesh
from limner.heads.raster import Fragments
from limner.heads.shot import Shot


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
class Paint:
    """A colour over part of a surface: share (1, v) at the vertices, whose 0.5 line is a crisp edge; colour (3, 1)."""

    share: np.ndarray
    colour: np.ndarray

    def cover(self, colour: np.ndarray, fragments: Fragments, triangles: np.ndarray) -> np.ndarray:
        """`colour` (3, k) of the fragments with this paint over it."""
        share = fragments.interpolate(self.share, triangles)
        share = np.clip((share - np.float32(0.5)) * np.float32(8) + np.float32(0.5), 0, 1)
        return colour + (self.colour - colour) * share


@dataclass(frozen=True)
class Detail:
    """Fine shade over a surface: plane (1, h, w), which multiplies its colour; uv (2, v) places the vertices in it."""

    uv: np.ndarray
    plane: np.ndarray

    def read(self, fragments: Fragments, triangles: np.ndarray) -> np.ndarray:
        """The factor (1, k) at the fragments."""
        return Texels.at(fragments.interpolate(self.uv, triangles), self.plane.shape[1:]).read(self.plane)


@dataclass(frozen=True)
class Surface:
    """One surface of a head.

    vertices: (3, v); lighting: (4, v) diffuse red, green, blue and highlight; tint: (3, 1) that the colour is
    multiplied by; textures: (share, planes (1 or 3, h, w)) that are mixed into the colour; opacity: (h, w) or None;
    cut_out: opacity decides which samples it covers; decal: it is painted over what lies behind.
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

    def shade(self, fragments: Fragments) -> np.ndarray:
        """Linear light (3, k) that leaves the fragments towards the camera."""
        light = fragments.interpolate(self.lighting, self.mesh.triangles)
        colour = np.broadcast_to(self.tint, (3, len(fragments)))
        if self.textures:
            texels = Texels.at(self._uv(fragments), self.textures[0][1].shape[1:])
            colour = colour * sum(share * texels.read(planes) for share, planes in self.textures)
        if self.detail is not None:
            colour = colour * self.detail.read(fragments, self.mesh.triangles)
        if self.paint is not None:
            colour = self.paint.cover(colour, fragments, self.mesh.triangles)
        return colour * light[:3] + light[3]

    def coverage(self, fragments: Fragments) -> np.ndarray:
        """Opacity (k,) at the fragments."""
        if self.opacity is None:
            return np.ones(len(fragments), np.float32)
        return Texels.at(self._uv(fragments), self.opacity.shape).read(self.opacity[None])[0]

    def _uv(self, fragments: Fragments) -> np.ndarray:
        return fragments.interpolate(self.mesh.uv, self.mesh.texture_triangles)


@dataclass(frozen=True)
class Texels:
    """Where k points fall between the texels of a texture: the upper left one, and the shares of the other three."""

    upper_left: np.ndarray
    width: int
    right_share: np.ndarray
    low_share: np.ndarray

    @classmethod
    def at(cls, uv: np.ndarray, shape: tuple[int, ...]) -> Texels:
        """Points uv (2, k), v upwards, in a texture of (height, width)."""
        height, width = shape
        column = np.clip(uv[0] * np.float32(width - 1), 0, width - 1.001)
        row = np.clip((1 - uv[1]) * np.float32(height - 1), 0, height - 1.001)
        left, top = column.astype(np.int32), row.astype(np.int32)
        return cls(top * np.int32(width) + left, width, column - left.astype(np.float32), row - top.astype(np.float32))

    def read(self, planes: np.ndarray) -> np.ndarray:
        """Bilinear samples (c, k) of planes (c, h, w)."""
        flat = planes.reshape(len(planes), -1)
        upper = self._read_row(flat, self.upper_left)
        lower = self._read_row(flat, self.upper_left + np.int32(self.width))
        lower -= upper
        lower *= self.low_share
        lower += upper
        return lower

    def _read_row(self, flat: np.ndarray, left: np.ndarray) -> np.ndarray:
        near = flat.take(left, 1)
        far = flat.take(left + np.int32(1), 1)
        far -= near
        far *= self.right_share
        far += near
        return far


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

    def fall_on(self, normals: np.ndarray, lit: np.ndarray, openness: np.ndarray, material: Material) -> np.ndarray:
        """Lighting (4, v) of vertices with unit `normals` (3, v) that the key light reaches by shares `lit` (v,), under
        shares `openness` (v,) of the sky.
        """
        cosine = dot(normals, self.direction)
        lighting = np.empty((4, normals.shape[1]), np.float32)
        diffuse = np.maximum((cosine + material.wrap) * (1 / (1 + material.wrap)), np.float32(0)) * lit
        sky = openness * (np.float32(0.8) + np.float32(0.2) * normals[1])
        lighting[:3] = (self.key * diffuse + self.ambient * sky) * np.float32(material.gain)
        halfway = normalised((self.direction + self.view)[:, None])[:, 0]
        highlight = np.maximum(dot(normals, halfway), np.float32(0))
        for _ in range(material.gloss_doublings):
            highlight *= highlight
        lighting[3] = np.float32(material.gloss) * highlight * lit
        return lighting
