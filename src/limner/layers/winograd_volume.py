"""Convolutions of volumes, kernel 3, stride 1 and padding 1, with an eighth or a quarter of the multiplications.

Minimal filtering as in `winograd3`, whose matrices A, B and G these are. `Cubes` take them along three sides at once:
6³ products for 4³ outputs, where a convolution needs 27 x 4³; and 5³ where cubes of 2³ outputs are averaged, whose
adjoint is a convolution after nearest-neighbour doubling. `Slices` take them along height and width alone, and the
depth's three taps one after the other: 6² products for 4² outputs of every slice and tap. They are for maps of 4 x 4,
where 6³ numbers for each of many weights cost more than they save, and where the taps that reach outside the volume,
a part of them all that counts, are left out.

A and B are put together for a whole side: every tile of it by one matrix, in which the zeros outside the volume and
what exceeds its side are left out. So there is nothing to cut out, to pad and to add up again where tiles overlap: a
matrix product for each side takes voxels to points, and the transposed ones back. Rounding errors are up to ten times a
convolution's (tests/test_volume.py).

Inside, channels are last and images next to them: [height, width, depth, images x channels].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limner.layers.scratch import Scratch
from limner.layers.winograd3 import MATRICES, STEP, TAPS, WINDOW, FilterName

ROOM = 2**20
"""numbers at the points of one column that are computed at once: many images make long rows, few fit the cache"""

_scratch = Scratch()


@dataclass(frozen=True)
class Cubes:
    """The three maps of a convolution, for any sides."""

    name: FilterName = "same"
    """halved: the outputs' cubes of 2³ are averaged; its sides are even"""

    def convolve(self, x: Float[Tensor, "n c d h w"], w: Float[Tensor, "c2 c 3 3 3"]) -> Float[Tensor, "n c2 d2 h2 w2"]:
        """x * w."""
        a, b = _whole_sides(self.name, [side // self.factor for side in x.shape[2:]], x.dtype)
        return self._through_points(x, w.transpose(0, 1), b, a)

    def spread(self, y: Float[Tensor, "n c2 d2 h2 w2"], w: Float[Tensor, "c2 c 3 3 3"]) -> Float[Tensor, "n c d h w"]:
        """The adjoint of `convolve` in x."""
        a, b = _whole_sides(self.name, y.shape[2:], y.dtype)
        return self._through_points(y, w, a.transposed(), b.transposed())

    def correlate(
        self, x: Float[Tensor, "n c d h w"], y: Float[Tensor, "n c2 d2 h2 w2"]
    ) -> Float[Tensor, "c2 c 3 3 3"]:
        """The adjoint of `convolve` in w."""
        a, b = _whole_sides(self.name, y.shape[2:], y.dtype)
        a, p = a.transposed(), b.points
        kernels = x.new_zeros(p, p, p, y.shape[1], x.shape[1])
        for images in _blocks(x, b, max(x.shape[1], y.shape[1])):
            planes = _to_planes(x[images], b, "planes"), _to_planes(y[images], a, "gradient planes")
            for i, j in b.places():
                points = _to_points(planes[0][i, :, :, j], b, x.shape[1], "points")
                products = _to_points(planes[1][i, :, :, j], a, y.shape[1], "products")
                kernels[i, j].baddbmm_(products.transpose(1, 2), points)
        taps = _kernel_matrix(self.name, x.dtype).T @ kernels.view(p**3, -1)
        return _as_weight(taps, y.shape[1], x.shape[1])

    @property
    def factor(self) -> int:
        """of the sides before to those after"""
        return 2 if self.name == "halved" else 1

    def _through_points(
        self, x: Float[Tensor, "n i d h w"], w: Float[Tensor, "i j 3 3 3"], forth: Along, back: Along
    ) -> Float[Tensor, "n j d2 h2 w2"]:
        y = _empty(len(x), w.shape[1], [len(each) for each in back[:3]], x.dtype)
        taps = w.permute(2, 3, 4, 0, 1).reshape(TAPS**3, -1)
        kernels = _times("kernels", _kernel_matrix(self.name, x.dtype), taps).view(*[forth.points] * 3, *w.shape[:2])
        for images in _blocks(x, forth, max(w.shape[:2])):
            planes, made = _to_planes(x[images], forth, "planes"), _planes_to_fill(y[images], back)
            for i, j in forth.places():
                points = _to_points(planes[i, :, :, j], forth, len(w), "points")
                room = _scratch.room("products", (*points.shape[:2], w.shape[1]), x.dtype)
                _from_points(torch.bmm(points, kernels[i, j], out=room), back, made[i, :, :, j])
            _from_planes(made, back, y[images])
        return y


@dataclass(frozen=True)
class Slices:
    """The three maps, for sides of at most 4 x 4, as deep as they like."""

    def convolve(self, x: Float[Tensor, "n c d h w"], w: Float[Tensor, "c2 c 3 3 3"]) -> Float[Tensor, "n c2 d h w"]:
        """x * w."""
        a, b = _squares(x)
        made = _slice_products(_to_slices(x, b, "points"), w, len(x), transposed=False)
        return _from_slices(made, a, _empty(len(x), len(w), x.shape[2:], x.dtype))

    def spread(self, y: Float[Tensor, "n c2 d h w"], w: Float[Tensor, "c2 c 3 3 3"]) -> Float[Tensor, "n c d h w"]:
        """The adjoint of `convolve` in x."""
        a, b = _squares(y)
        made = _slice_products(_to_slices(y, a.T, "points"), w, len(y), transposed=True)
        return _from_slices(made, b.T, _empty(len(y), w.shape[1], y.shape[2:], y.dtype))

    def correlate(self, x: Float[Tensor, "n c d h w"], y: Float[Tensor, "n c2 d h w"]) -> Float[Tensor, "c2 c 3 3 3"]:
        """The adjoint of `convolve` in w."""
        a, b = _squares(x)
        points, products = _to_slices(x, b, "points"), _to_slices(y, a.T, "products").transpose(1, 2)
        taps = x.new_empty(TAPS, TAPS**2, y.shape[1] * x.shape[1])
        kernels = _scratch.room("kernels", (WINDOW**2, y.shape[1], x.shape[1]), x.dtype)
        for tap, (outputs, inputs) in _taps(len(x)):
            torch.bmm(products[:, :, outputs], points[:, inputs], out=kernels)
            torch.mm(_slice_kernel_matrix(x.dtype).T, kernels.flatten(1), out=taps[tap])
        return _as_weight(taps, y.shape[1], x.shape[1])


# --- cubes --------------------------------------------------------------------------------------------------------


class Along(NamedTuple):
    """What takes each side to the points of its tiles, or back."""

    depth: Tensor
    height: Tensor
    width: Tensor
    points: int
    """of a tile"""

    def transposed(self) -> Along:
        return Along(self.depth.T, self.height.T, self.width.T, self.points)

    def places(self) -> Iterator[tuple[int, int]]:
        """Points along height and width: those of the depth at one of them fit the cache."""
        return ((i, j) for i in range(self.points) for j in range(self.points))


def _blocks(x: Float[Tensor, "n c d h w"], forth: Along, channels: int) -> Iterator[slice]:
    """Of about the same number of images."""
    tiles = math.prod(len(each) // forth.points for each in forth[:3])
    blocks = -(-len(x) * tiles * forth.points * channels // ROOM)
    size = -(-len(x) // min(blocks, len(x)))
    return (slice(low, low + size) for low in range(0, len(x), size))


def _to_planes(x: Float[Tensor, "n c d h w"], forth: Along, name: str) -> Float[Tensor, "p th d p k"]:
    """Along height and width; what is not points or tiles along them is k: tiles along width, images, channels."""
    n, c, d, h, w = x.shape
    voxels = _scratch.room("voxels", (h, d, w, n, c), x.dtype).copy_(x.permute(3, 2, 4, 0, 1))
    lines = _times("lines", forth.height, voxels.view(h, -1)).view(-1, w, n * c)
    room = _scratch.room(name, (len(lines), len(forth.width), n * c), x.dtype)
    planes = torch.bmm(forth.width.expand(len(lines), -1, -1), lines, out=room)
    return planes.view(forth.points, -1, d, forth.points, len(forth.width) // forth.points * n * c)


def _planes_to_fill(y: Float[Tensor, "n c d h w"], back: Along) -> Float[Tensor, "p th d p k"]:
    n, c, d = y.shape[:3]
    tiles_h, tiles_w = back.height.shape[1] // back.points, back.width.shape[1] // back.points
    return _scratch.room("made planes", (back.points, tiles_h, d, back.points, tiles_w * n * c), y.dtype)


def _from_planes(planes: Float[Tensor, "p th d p k"], back: Along, y: Float[Tensor, "n c d h w"]) -> None:
    n, c, d, h, w = y.shape
    room = _scratch.room("lines", (back.height.shape[1] * d, w, n * c), y.dtype)
    lines = torch.bmm(back.width.expand(len(room), -1, -1), planes.view(len(room), -1, n * c), out=room)
    voxels = _times("voxels", back.height, lines.view(back.height.shape[1], -1))
    y.copy_(voxels.view(h, d, w, n, c).permute(3, 4, 1, 0, 2))


def _to_points(planes: Float[Tensor, "th d k"], forth: Along, channels: int, name: str) -> Float[Tensor, "p tn c"]:
    """Along depth; one row for each tile and image."""
    points = _scratch.room(name, (len(forth.depth), len(planes), planes.shape[2]), planes.dtype)
    for tile, plane in enumerate(planes):
        torch.mm(forth.depth, plane, out=points[:, tile])
    return points.view(forth.points, -1, channels)


def _from_points(products: Float[Tensor, "p tn c"], back: Along, planes: Float[Tensor, "th d k"]) -> None:
    points = products.view(back.depth.shape[1], len(planes), -1)
    for tile, plane in enumerate(planes):
        torch.mm(back.depth, points[:, tile], out=plane)


# --- slices -------------------------------------------------------------------------------------------------------


def _to_slices(x: Float[Tensor, "n c d h w"], matrix: Float[Tensor, "36 hw"], name: str) -> Float[Tensor, "36 dn c"]:
    n, c, d, h, w = x.shape
    voxels = _scratch.room("voxels", (h, w, d, n, c), x.dtype).copy_(x.permute(3, 4, 2, 0, 1))
    return _times(name, matrix, voxels.view(h * w, -1)).view(WINDOW**2, d * n, c)


def _from_slices(made: Float[Tensor, "36 dn c"], matrix: Float[Tensor, "hw 36"], y: Tensor) -> Tensor:
    n, c, d, h, w = y.shape
    voxels = _times("voxels", matrix, made.flatten(1)).view(h, w, d, n, c)
    return y.copy_(voxels.permute(3, 4, 2, 0, 1))


def _slice_products(points: Float[Tensor, "36 dn i"], w: Tensor, images: int, transposed: bool) -> Tensor:
    """Tap after tap: the kernel of one at all points stays in the cache."""
    taps = w.permute(2, 3, 4, 0, 1).reshape(TAPS, TAPS**2, -1)
    made = _scratch.room("products", (*points.shape[:2], w.shape[1 if transposed else 0]), points.dtype)
    for tap, (outputs, inputs) in _taps(images):
        kernel = _times("kernels", _slice_kernel_matrix(points.dtype), taps[tap]).view(-1, *w.shape[:2])
        if transposed:
            made[:, inputs].baddbmm_(points[:, outputs], kernel, beta=0 if tap == 1 else 1)
        else:
            made[:, outputs].baddbmm_(points[:, inputs], kernel.transpose(1, 2), beta=0 if tap == 1 else 1)
    return made


def _taps(images: int) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Each tap of the depth, the rows of outputs that it has a part in and the rows of their inputs.

    The middle one, which has a part in all, comes first.
    """
    all_but_first, all_but_last = slice(images, None), slice(None, -images)
    yield 1, (slice(None), slice(None))
    yield 0, (all_but_first, all_but_last)
    yield 2, (all_but_last, all_but_first)


# --- matrices and tensors -----------------------------------------------------------------------------------------


def _whole_sides(name: FilterName, sides: Sequence[int], dtype: torch.dtype) -> tuple[Along, Along]:
    """A and B for outputs of these sides: depth, height and width."""
    depth, height, width = (_whole_side(name, side, dtype) for side in sides)
    points = len(MATRICES[name]()[2])
    return Along(depth[0], height[0], width[0], points), Along(depth[1], height[1], width[1], points)


@cache
def _whole_side(
    name: FilterName, length: int, dtype: torch.dtype
) -> tuple[Float[Tensor, "s k"], Float[Tensor, "k s2"]]:
    """A and B of all tiles along a side of so many outputs; points before tiles."""
    a, b, _ = MATRICES[name]()
    outputs, points = a.shape
    tiles = -(-length // outputs)
    whole_a, whole_b = np.zeros((outputs * tiles, points, tiles)), np.zeros((points, tiles, STEP * tiles + 2))
    for tile in range(tiles):
        whole_a[outputs * tile : outputs * (tile + 1), :, tile] = a
        whole_b[:, tile, STEP * tile : STEP * tile + WINDOW] = b  # one voxel before the first is outside
    inputs = length * STEP // outputs
    whole_a = whole_a.reshape(-1, points * tiles)[:length].copy()
    whole_b = whole_b.reshape(points * tiles, -1)[:, 1 : inputs + 1].copy()
    return torch.from_numpy(whole_a).to(dtype), torch.from_numpy(whole_b).to(dtype)


def _squares(x: Float[Tensor, "n c d h w"]) -> tuple[Float[Tensor, "hw 36"], Float[Tensor, "36 hw"]]:
    """A and B along height and width together."""
    a, b = _whole_sides("same", x.shape[2:], x.dtype)
    return torch.kron(a.height, a.width), torch.kron(b.height, b.width)


@cache
def _kernel_matrix(name: FilterName, dtype: torch.dtype) -> Float[Tensor, "p 27"]:
    """G along three sides; points by height, width and depth, taps by depth, height and width."""
    g = MATRICES[name]()[2]
    points = np.einsum("hi, wj, dk -> hwdkij", g, g, g).reshape(-1, TAPS**3)
    return torch.from_numpy(points).to(dtype)


@cache
def _slice_kernel_matrix(dtype: torch.dtype) -> Float[Tensor, "36 9"]:
    g = MATRICES["same"]()[2]
    return torch.from_numpy(np.kron(g, g)).to(dtype)


def _times(name: str, matrix: Float[Tensor, "i j"], values: Float[Tensor, "j k"]) -> Float[Tensor, "i k"]:
    return torch.mm(matrix, values, out=_scratch.room(name, (len(matrix), values.shape[1]), values.dtype))


def _empty(images: int, channels: int, sides: Sequence[int], dtype: torch.dtype) -> Float[Tensor, "n c d h w"]:
    return torch.empty((images, channels, *sides), dtype=dtype, memory_format=torch.channels_last_3d)


def _as_weight(taps: Tensor, after: int, before: int) -> Float[Tensor, "c2 c 3 3 3"]:
    weight = taps.view(TAPS, TAPS, TAPS, after, before).permute(3, 4, 0, 1, 2)
    return weight.contiguous(memory_format=torch.channels_last_3d)
