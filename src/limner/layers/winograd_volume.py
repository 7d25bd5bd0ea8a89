"""Convolutions of volumes, kernel 3, stride 1 and padding 1, with an eighth or a quarter of the multiplications.

Minimal filtering as in `winograd3`, whose matrices A, B and G these are. `Cubes` take them along three sides at once:
6³ products for 4³ outputs, where a convolution needs 27 x 4³. `Slices` take them along height and width alone, and the
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

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limner.layers.scratch import Scratch
from limner.layers.winograd3 import MATRICES, STEP, TAPS, WINDOW

POINTS = WINDOW**3
ROOM = 2**20
"""numbers at the points of one column that are computed at once: many images make long rows, few fit the cache"""

_scratch = Scratch()


class Cubes:
    """Maps of any sides."""

    @staticmethod
    def convolve(x: Float[Tensor, "n c d h w"], w: Float[Tensor, "c2 c 3 3 3"]) -> Float[Tensor, "n c2 d h w"]:
        """x * w."""
        return _through_points(x, w.transpose(0, 1), transposed=False)

    @staticmethod
    def spread(y: Float[Tensor, "n c2 d h w"], w: Float[Tensor, "c2 c 3 3 3"]) -> Float[Tensor, "n c d h w"]:
        """The adjoint of `convolve` in x."""
        return _through_points(y, w, transposed=True)

    @staticmethod
    def correlate(x: Float[Tensor, "n c d h w"], y: Float[Tensor, "n c2 d h w"]) -> Float[Tensor, "c2 c 3 3 3"]:
        """The adjoint of `convolve` in w."""
        forth, _ = _matrices(x, transposed=False)
        onto, _ = _matrices(y, transposed=True)
        kernels = x.new_zeros(WINDOW, WINDOW, WINDOW, y.shape[1], x.shape[1])
        for images in _blocks(x, max(x.shape[1], y.shape[1])):
            planes = _to_planes(x[images], forth, "planes"), _to_planes(y[images], onto, "gradient planes")
            for i, j in _places():
                points = _to_points(planes[0][i, :, :, j], forth, x.shape[1], "points")
                products = _to_points(planes[1][i, :, :, j], onto, y.shape[1], "products")
                kernels[i, j].baddbmm_(products.transpose(1, 2), points)
        return _as_weight(_kernel_matrix(x.dtype).T @ kernels.view(POINTS, -1), y.shape[1], x.shape[1])


class Slices:
    """Maps of at most 4 x 4, as deep as they like."""

    @staticmethod
    def convolve(x: Float[Tensor, "n c d h w"], w: Float[Tensor, "c2 c 3 3 3"]) -> Float[Tensor, "n c2 d h w"]:
        """x * w."""
        (_, b_height, b_width), (_, a_height, a_width) = _matrices(x, transposed=False)
        made = _slice_products(_to_slices(x, torch.kron(b_height, b_width), "points"), w, len(x), transposed=False)
        return _from_slices(made, torch.kron(a_height, a_width), _like(x, len(w)))

    @staticmethod
    def spread(y: Float[Tensor, "n c2 d h w"], w: Float[Tensor, "c2 c 3 3 3"]) -> Float[Tensor, "n c d h w"]:
        """The adjoint of `convolve` in x."""
        (_, a_height, a_width), (_, b_height, b_width) = _matrices(y, transposed=True)
        made = _slice_products(_to_slices(y, torch.kron(a_height, a_width), "points"), w, len(y), transposed=True)
        return _from_slices(made, torch.kron(b_height, b_width), _like(y, w.shape[1]))

    @staticmethod
    def correlate(x: Float[Tensor, "n c d h w"], y: Float[Tensor, "n c2 d h w"]) -> Float[Tensor, "c2 c 3 3 3"]:
        """The adjoint of `convolve` in w."""
        (_, b_height, b_width), _ = _matrices(x, transposed=False)
        (_, a_height, a_width), _ = _matrices(y, transposed=True)
        points = _to_slices(x, torch.kron(b_height, b_width), "points")
        products = _to_slices(y, torch.kron(a_height, a_width), "products").transpose(1, 2)
        taps = x.new_empty(TAPS, TAPS**2, y.shape[1] * x.shape[1])
        kernels = _scratch.room("kernels", (WINDOW**2, y.shape[1], x.shape[1]), x.dtype)
        for tap, (outputs, inputs) in _taps(len(x)):
            torch.bmm(products[:, :, outputs], points[:, inputs], out=kernels)
            torch.mm(_slice_kernel_matrix(x.dtype).T, kernels.flatten(1), out=taps[tap])
        return _as_weight(taps, y.shape[1], x.shape[1])


# --- cubes --------------------------------------------------------------------------------------------------------


def _through_points(
    x: Float[Tensor, "n i d h w"], w: Float[Tensor, "i j 3 3 3"], transposed: bool
) -> Float[Tensor, "n j d h w"]:
    forth, back = _matrices(x, transposed)
    y = _like(x, w.shape[1])
    taps = w.permute(2, 3, 4, 0, 1).reshape(TAPS**3, -1)
    kernels = _times("kernels", _kernel_matrix(x.dtype), taps).view(WINDOW, WINDOW, WINDOW, *w.shape[:2])
    for images in _blocks(x, max(w.shape[:2])):
        planes, made = _to_planes(x[images], forth, "planes"), _planes_of(y[images], "made planes")
        for i, j in _places():
            points = _to_points(planes[i, :, :, j], forth, len(w), "points")
            room = _scratch.room("products", (*points.shape[:2], w.shape[1]), x.dtype)
            _from_points(torch.bmm(points, kernels[i, j], out=room), back, made[i, :, :, j])
        _from_planes(made, back, y[images])
    return y


def _places() -> Iterator[tuple[int, int]]:
    """Points along height and width: those of the depth at one of them fit the cache."""
    return ((i, j) for i in range(WINDOW) for j in range(WINDOW))


def _planes_of(x: Float[Tensor, "n c d h w"], name: str) -> Float[Tensor, "6 th d 6 k"]:
    """Room: points and tiles along height, depth, points along width, all the rest."""
    n, c, d, h, w = x.shape
    return _scratch.room(name, (WINDOW, -(-h // STEP), d, WINDOW, -(-w // STEP) * n * c), x.dtype)


def _to_planes(x: Float[Tensor, "n c d h w"], matrices: tuple[Tensor, ...], name: str) -> Float[Tensor, "6 th d 6 k"]:
    """Along height and width."""
    n, c, d, h, w = x.shape
    _, along_h, along_w = matrices
    voxels = _scratch.room("voxels", (h, d, w, n, c), x.dtype).copy_(x.permute(3, 2, 4, 0, 1))
    lines = _times("lines", along_h, voxels.view(h, -1)).view(-1, w, n * c)
    planes = _planes_of(x, name)
    torch.bmm(along_w.expand(len(lines), -1, -1), lines, out=planes.view(len(lines), len(along_w), n * c))
    return planes


def _from_planes(planes: Float[Tensor, "6 th d 6 k"], matrices: tuple[Tensor, ...], y: Tensor) -> None:
    """Along width and height, into y [n, c, d, h, w]."""
    n, c, d, h, w = y.shape
    _, along_h, along_w = matrices
    room = _scratch.room("lines", (planes.shape[:3].numel(), w, n * c), y.dtype)
    lines = torch.bmm(along_w.expand(len(room), -1, -1), planes.view(len(room), -1, n * c), out=room)
    voxels = _times("voxels", along_h, lines.view(along_h.shape[1], -1))
    y.copy_(voxels.view(h, d, w, n, c).permute(3, 4, 1, 0, 2))


def _to_points(
    planes: Float[Tensor, "th d k"], matrices: tuple[Tensor, ...], channels: int, name: str
) -> Float[Tensor, "6 tn c"]:
    """Along depth; one row for each tile and image."""
    along_d = matrices[0]
    points = _scratch.room(name, (len(along_d), len(planes), planes.shape[2]), planes.dtype)
    for tile, plane in enumerate(planes):
        torch.mm(along_d, plane, out=points[:, tile])
    return points.view(WINDOW, -1, channels)


def _from_points(
    products: Float[Tensor, "6 tn c"], matrices: tuple[Tensor, ...], planes: Float[Tensor, "th d k"]
) -> None:
    along_d = matrices[0]
    points = products.view(along_d.shape[1], *planes.shape[::2])
    for tile, plane in enumerate(planes):
        torch.mm(along_d, points[:, tile], out=plane)


def _blocks(x: Tensor, channels: int) -> Iterator[slice]:
    """Of about the same number of images."""
    tiles = int(np.prod([-(-side // STEP) for side in x.shape[2:]]))
    blocks = -(-len(x) * tiles * WINDOW * channels // ROOM)
    size = -(-len(x) // min(blocks, len(x)))
    return (slice(low, low + size) for low in range(0, len(x), size))


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


def _matrices(x: Tensor, transposed: bool) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """To points and from products, for depth, height and width; or those of the adjoint."""
    a, b = zip(*(_whole_side(side, x.dtype) for side in x.shape[2:]), strict=True)
    if not transposed:
        return b, a
    return tuple(each.T for each in a), tuple(each.T for each in b)


@cache
def _whole_side(length: int, dtype: torch.dtype) -> tuple[Float[Tensor, "s k"], Float[Tensor, "k s"]]:
    """A and B of all tiles along a side; points before tiles."""
    a, b, _ = MATRICES["same"]()
    tiles = -(-length // STEP)
    whole_a, whole_b = np.zeros((STEP * tiles, WINDOW, tiles)), np.zeros((WINDOW, tiles, STEP * tiles + 2))
    for tile in range(tiles):
        start = STEP * tile
        whole_a[start : start + STEP, :, tile] = a
        whole_b[:, tile, start : start + WINDOW] = b  # one voxel before the first is outside
    whole_a = whole_a.reshape(-1, WINDOW * tiles)[:length].copy()
    whole_b = whole_b.reshape(WINDOW * tiles, -1)[:, 1 : length + 1].copy()
    return torch.from_numpy(whole_a).to(dtype), torch.from_numpy(whole_b).to(dtype)


@cache
def _kernel_matrix(dtype: torch.dtype) -> Float[Tensor, "216 27"]:
    """G along three sides; points by height, width and depth, taps by depth, height and width."""
    g = MATRICES["same"]()[2]
    points = np.einsum("hi, wj, dk -> hwdkij", g, g, g).reshape(POINTS, TAPS**3)
    return torch.from_numpy(points).to(dtype)


@cache
def _slice_kernel_matrix(dtype: torch.dtype) -> Float[Tensor, "36 9"]:
    g = MATRICES["same"]()[2]
    return torch.from_numpy(np.kron(g, g)).to(dtype)


def _times(name: str, matrix: Float[Tensor, "i j"], values: Float[Tensor, "j k"]) -> Float[Tensor, "i k"]:
    return torch.mm(matrix, values, out=_scratch.room(name, (len(matrix), values.shape[1]), values.dtype))


def _like(x: Float[Tensor, "n c d h w"], channels: int) -> Float[Tensor, "n c2 d h w"]:
    shape = (len(x), channels, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last_3d)


def _as_weight(taps: Tensor, after: int, before: int) -> Float[Tensor, "c2 c 3 3 3"]:
    weight = taps.view(TAPS, TAPS, TAPS, after, before).permute(3, 4, 0, 1, 2)
    return weight.contiguous(memory_format=torch.channels_last_3d)
