"""Reading textures: each at the size that suits the picture, so that it neither sparkles nor blurs.

A pyramid holds a texture at halved sizes, each texel the mean of four. A surface is read at the level whose texels are
about as large as the picture's samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from limner.heads.pack import Mesh
from limner.heads.raster import rasterise
from limner.heads.remember import Remembered

_SMALLEST_SIDE = 4
_SHARPNESS = 0.1  # 0.5 would choose the level nearest to one texel a sample; four samples make a pixel
_smaller_levels: Remembered[tuple[np.ndarray, ...]] = Remembered()


def level(planes: np.ndarray, texels_per_sample: float) -> np.ndarray:
    """`planes` (…, h, w), halved as often as brings `texels_per_sample`, along a side, nearest to 1."""
    halvings = int(math.log2(max(texels_per_sample, 1.0)) + _SHARPNESS)
    if halvings == 0:
        return planes
    smaller = _smaller_levels(_halve, planes)
    return smaller[min(halvings, len(smaller)) - 1] if smaller else planes


def _halve(planes: np.ndarray) -> tuple[np.ndarray, ...]:
    """All smaller levels of a texture."""
    levels = []
    while min(planes.shape[-2:]) >= 2 * _SMALLEST_SIDE:
        height, width = (side // 2 * 2 for side in planes.shape[-2:])
        rows = planes[..., 0:height:2, :width] + planes[..., 1:height:2, :width]
        planes = (rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25)
        levels.append(planes)
    return tuple(levels)


def mix(textures: tuple[tuple[np.ndarray, np.ndarray], ...], texels_per_sample: float) -> np.ndarray:
    """The sum (c, h, w) of (share, planes (c, h, w)) of one size, at the level for `texels_per_sample`."""
    (share, planes), *others = ((share, level(planes, texels_per_sample)) for share, planes in textures)
    mixed = planes * _per_plane(share)
    for share, planes in others:
        mixed += planes * _per_plane(share)
    return mixed


def _per_plane(share: np.ndarray | float) -> np.ndarray:
    return np.asarray(share, np.float32).reshape(-1, 1, 1)


def opacity_range(mesh: Mesh, opacity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest opacity (f,) of the texels in and next to each triangle."""
    height, width = opacity.shape
    screen = np.stack([mesh.uv[0] * width, (1 - mesh.uv[1]) * height, np.ones(mesh.uv.shape[1])]).astype(np.float32)
    size = max(height, width)
    fragments = rasterise(screen, mesh.texture_triangles, size, cull=False)
    fragments = fragments.select(
        np.flatnonzero((fragments.sample % size < width) & (fragments.sample // size < height))
    )
    column, row = np.clip(screen[:2], 0, [[width - 1], [height - 1]]).astype(int)
    ranges = []
    for choose in (np.minimum, np.maximum):
        near = _among_neighbours(opacity, choose)
        found = choose.reduce(near[row, column].take(mesh.texture_triangles))
        inside = near[fragments.sample // size, fragments.sample % size]
        choose.at(found, fragments.triangle, inside)
        ranges.append(found)
    return ranges[0], ranges[1]


def _among_neighbours(plane: np.ndarray, choose: np.ufunc) -> np.ndarray:
    """The least or greatest among each texel of (h, w) and the eight around it."""
    for axis in (0, 1):
        first, last = plane.take([0], axis), plane.take([-1], axis)
        around = np.concatenate([first, plane, last], axis)
        count = plane.shape[axis]
        plane = choose.reduce([around.take(range(step, step + count), axis) for step in range(3)])
    return plane


@dataclass(frozen=True)
class Texels:
    """Where k points fall between the texels of a texture: the upper left one, the steps to the right and lower ones,
    and the shares of those.
    """

    upper_left: np.ndarray
    width: int
    right_share: np.ndarray
    low_share: np.ndarray

    @classmethod
    def at(cls, uv: np.ndarray, shape: tuple[int, ...]) -> Texels:
        """Points uv (2, k), v upwards, in a texture of (height, width); outside it, its edge goes on."""
        height, width = shape
        column = np.clip(uv[0] * np.float32(width) - np.float32(0.5), 0, np.float32(width - 1.001))
        row = np.clip(np.float32(height - 0.5) - uv[1] * np.float32(height), 0, np.float32(height - 1.001))
        left, top = column.astype(np.int32), row.astype(np.int32)
        column -= left
        row -= top
        return cls((top * np.int32(width) + left).astype(np.intp), width, column, row)

    def read(self, planes: np.ndarray) -> np.ndarray:
        """Bilinear samples (c, k) of planes (c, h, w)."""
        flat = planes.reshape(len(planes), -1)
        upper = self._read_row(flat, self.upper_left)
        lower = self._read_row(flat, self.upper_left + self.width)
        lower -= upper
        lower *= self.low_share
        lower += upper
        return lower

    def _read_row(self, flat: np.ndarray, left: np.ndarray) -> np.ndarray:
        near = flat.take(left, 1)
        far = flat.take(left + 1, 1)
        far -= near
        far *= self.right_share
        far += near
        return far
