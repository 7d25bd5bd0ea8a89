"""Reading textures: each at the size that suits the picture, so that it neither sparkles nor blurs.

A pyramid holds a texture at halved sizes, each texel the mean of four. A surface is read at the level whose texels are
about as large as the picture's samples.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass

import numpy as np

_SMALLEST_SIDE = 4
_SHARPNESS = 0.1  # 0.5 would choose the level nearest to one texel a sample; four samples make a pixel
_pyramids: dict[int, tuple[weakref.ref[np.ndarray], tuple[np.ndarray, ...]]] = {}


def level(planes: np.ndarray, texels_per_sample: float) -> np.ndarray:
    """`planes` (…, h, w), halved as often as brings `texels_per_sample`, along a side, nearest to 1."""
    halvings = int(math.log2(max(texels_per_sample, 1.0)) + _SHARPNESS)
    if halvings == 0:
        return planes
    smaller = _halved_sizes(planes)
    return smaller[min(halvings, len(smaller)) - 1] if smaller else planes


def _halved_sizes(planes: np.ndarray) -> tuple[np.ndarray, ...]:
    """All smaller levels, kept for as long as `planes` themselves are."""
    number = id(planes)
    known = _pyramids.get(number)
    if known is None or known[0]() is not planes:
        gone = weakref.ref(planes, lambda _: _pyramids.pop(number, None))
        known = _pyramids[number] = (gone, _halve(planes))
    return known[1]


def _halve(planes: np.ndarray) -> tuple[np.ndarray, ...]:
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
