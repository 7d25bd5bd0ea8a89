"""Reading textures: each at the size that suits the picture, so that it neither sparkles nor blurs.

A pyramid holds a texture at halved sizes, each texel the mean of four. A surface is read at the level whose texels are
about as large as the picture's samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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


def _mix(shares: tuple[np.ndarray, ...], planes: tuple[np.ndarray, ...]) -> np.ndarray:
    """The sum (c, h, w) of shares (c or 1, 1) of planes (c, h, w)."""
    mixed = planes[0] * shares[0][:, :, None]
    for share, plane in zip(shares[1:], planes[1:], strict=True):
        mixed += plane * share[:, :, None]
    return mixed


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


def look_up(planes: np.ndarray, uv: np.ndarray, texels_per_sample: float) -> np.ndarray:
    """What points uv (2, k), v upwards, see of planes (c, h, w) or (h, w): (c, k), one row for a single plane.

    Where texels are no larger than samples, the nearest one is taken; larger ones are blended bilinearly. Outside the
    texture, its edge goes on.
    """
    chosen = level(planes, texels_per_sample)
    height, width = chosen.shape[-2:]
    smooth = texels_per_sample * width < planes.shape[-1]
    reader = _blended(uv, height, width) if smooth else _nearest(uv, height, width)
    return reader(chosen.reshape(-1, height * width))


def look_up_sum(
    textures: tuple[tuple[np.ndarray, np.ndarray], ...], uv: np.ndarray, texels_per_sample: float
) -> np.ndarray:
    """The sum (c, k) of share (c or 1, 1) · what points see of planes, as `look_up` has it; all planes of one size."""
    shares, levels = zip(*((share, level(planes, texels_per_sample)) for share, planes in textures), strict=True)
    height, width = levels[0].shape[-2:]
    if texels_per_sample * width >= textures[0][1].shape[-1]:
        reader = _nearest(uv, height, width)
    else:
        reader = _blended(uv, height, width)
        if len(levels) > 1 and levels[0].ndim > 2 and 4 * uv.shape[1] > height * width:
            return reader(_mix(shares, levels).reshape(-1, height * width))  # cheaper than to read them all
    total = reader(levels[0].reshape(-1, height * width)) * shares[0]
    for share, planes in zip(shares[1:], levels[1:], strict=True):
        total += reader(planes.reshape(-1, height * width)) * share
    return total


Reader = Callable[[np.ndarray], np.ndarray]


def _nearest(uv: np.ndarray, height: int, width: int) -> Reader:
    column, row = uv[0] * np.float32(width), np.float32(height) - uv[1] * np.float32(height)
    texel = _index(column, row, height - 1, width - 1, width)
    return lambda flat: flat.take(texel, 1)


def _blended(uv: np.ndarray, height: int, width: int) -> Reader:
    column = uv[0] * np.float32(width) - np.float32(0.5)
    row = np.float32(height - 0.5) - uv[1] * np.float32(height)
    upper_left = _index(column, row, height - 2, width - 2, width)
    top = upper_left // width
    right_share, low_share = _share(column, upper_left - top * width), _share(row, top)

    def read(flat: np.ndarray) -> np.ndarray:
        upper = _along_row(flat, upper_left, right_share)
        lower = _along_row(flat, upper_left + width, right_share)
        lower -= upper
        lower *= low_share
        lower += upper
        return lower

    return read


def _index(column: np.ndarray, row: np.ndarray, last_row: int, last_column: int, width: int) -> np.ndarray:
    """The texels (k,), row by row, that hold the points, or the nearest ones that there are."""
    left = np.minimum(np.maximum(column, 0), np.float32(max(last_column, 0))).astype(np.int32)
    top = np.minimum(np.maximum(row, 0), np.float32(max(last_row, 0))).astype(np.int32)
    top *= np.int32(width)
    top += left
    return top


def _share(place: np.ndarray, before: np.ndarray) -> np.ndarray:
    """How far (k,), from 0 to 1, each place is from the texel before it to the next."""
    return np.minimum(np.maximum(place - before.astype(np.float32), 0), np.float32(1))


def _along_row(flat: np.ndarray, left: np.ndarray, right_share: np.ndarray) -> np.ndarray:
    near = flat.take(left, 1)
    far = flat.take(left + np.int32(1), 1)
    far -= near
    far *= right_share
    far += near
    return far
