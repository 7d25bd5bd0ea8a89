"""Convolutions of kernel 4, stride 2 and padding 1 with 9 multiplications where 16 are usual.

Along one side, take the pixels two by two, the first pair half in the padding: D0, D1, D2, …; the kernel is two pairs
g0 and g1, and two neighbouring outputs are

    y0 = D0 g0 + D1 g1 = (D0 - D1) g0 + D1 (g0 + g1)
    y1 = D1 g0 + D2 g1 =                D1 (g0 + g1) + (D2 - D1) g1

with three products for four. Along both sides that is 9 for 16, as matrix products of many tiles with few kernels
(minimal filtering: Lavin & Gray 2015, arXiv:1509.09308; of strided kernels, as a sum over their phases: Huang et al.
2020, arXiv:2002.00552). Only sums and differences of two or four are taken, so that rounding errors hardly grow.

    y = outputs(tiles(x) kernels(w))

is made of three linear maps; the adjoints in x and w need the adjoints of these, and nothing else. All tensors are
channels last inside: rows of many channels are what a processor adds quickly.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 512
"""tiles computed at once: enough for a matrix product's full rate, few enough to stay in the cache"""


def convolve(x: Float[Tensor, "n c h w"], w: Float[Tensor, "c2 c 4 4"]) -> Float[Tensor, "n c2 h2 w2"]:
    """x * w; h and w multiples of 4, h2 = h / 2."""
    n, c, height, width = x.shape
    kernels = _kernels(w)
    y = x.new_empty(n, height // 2, width // 2, len(w))
    for images, pixels in _blocks(_channels_last(x), height * width // 16):
        tiles = _tiles(pixels)
        products = torch.bmm(tiles.view(9, -1, 4 * c), kernels.transpose(1, 2))
        _outputs(products.view(*tiles.shape[:5], -1), y[images])
    return y.permute(0, 3, 1, 2)


def spread(y: Float[Tensor, "n c2 h2 w2"], w: Float[Tensor, "c2 c 4 4"]) -> Float[Tensor, "n c h w"]:
    """The adjoint of `convolve` in x."""
    (n, after, height, width), c = y.shape, w.shape[1]
    kernels = _kernels(w)
    x = y.new_empty(n, 2 * height, 2 * width, c)
    for images, pixels in _blocks(_channels_last(y), height * width // 4):
        products = _outputs_adjoint(pixels)
        tiles = torch.bmm(products.view(9, -1, after), kernels)
        _tiles_adjoint(tiles.view(*products.shape[:5], 2, 2 * c), x[images])
    return x.permute(0, 3, 1, 2)


def correlate(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c2 h2 w2"]) -> Float[Tensor, "c2 c 4 4"]:
    """The adjoint of `convolve` in w."""
    c, after = x.shape[1], y.shape[1]
    kernels = x.new_empty(9, after, 4 * c)
    gradients = _channels_last(y)
    for images, pixels in _blocks(_channels_last(x), y.shape[2] * y.shape[3] // 4):
        products = _outputs_adjoint(gradients[images]).view(9, -1, after)
        sum_so_far = 0 if images.start == 0 else 1
        kernels.baddbmm_(products.transpose(1, 2), _tiles(pixels).view(9, -1, 4 * c), beta=sum_so_far)
    return _kernels_adjoint(kernels, c)


def _channels_last(x: Tensor) -> Float[Tensor, "n h w c"]:
    return x.permute(0, 2, 3, 1).contiguous()


def _blocks(x: Tensor, tiles_of_an_image: int) -> Iterator[tuple[slice, Tensor]]:
    size = max(1, BLOCK // tiles_of_an_image)
    for low in range(0, len(x), size):
        images = slice(low, low + size)
        yield images, x[images]


# --- pixels and tiles ---------------------------------------------------------------------------------------------


def _tiles(x: Float[Tensor, "n h w c"]) -> Float[Tensor, "3 3 n t s 2 c2"]:
    """t x s tiles; sums of rows and of columns by the three of a side; a pair of rows, and of columns in c2 = 2 c."""
    n, height, width, c = x.shape
    columns = x.new_empty(3, n, height, width // 4, 2 * c)
    _side(x.view(1, n * height, width, 1, c), columns.view(3, 1, n * height, -1, 2, 1, c))
    tiles = x.new_empty(3, 3, n, height // 4, width // 4, 2, 2 * c)
    _side(columns, tiles.transpose(4, 5))
    return tiles


def _tiles_adjoint(tiles: Float[Tensor, "3 3 n t s 2 c2"], x: Float[Tensor, "n h w c"]) -> None:
    """Written to `x`."""
    n, height, width, c = x.shape
    columns = x.new_empty(3, n, height, width // 4, 2 * c)
    _side_adjoint(tiles.transpose(4, 5), columns)
    _side_adjoint(columns.view(3, 1, n * height, -1, 2, 1, c), x.view(1, n * height, width, 1, c))


def _side(x: Float[Tensor, "o p l i j"], sums: Float[Tensor, "3 o p t 2 i j"]) -> None:
    """D0 - D1, D1 and D2 - D1 along the middle, t = l / 4; written to `sums`."""
    first, middle, last = sums
    odd, even = _pairs(x)
    middle.copy_(odd)
    torch.sub(even, odd[:, :, 1:], out=first[:, :, 1:])
    torch.sub(even, odd[:, :, :-1], out=last[:, :, :-1])
    # The first D0 and the last D2 are half padding.
    torch.neg(odd[:, :, 0, 0], out=first[:, :, 0, 0])
    torch.sub(x[:, :, 0], odd[:, :, 0, 1], out=first[:, :, 0, 1])
    torch.sub(x[:, :, -1], odd[:, :, -1, 0], out=last[:, :, -1, 0])
    torch.neg(odd[:, :, -1, 1], out=last[:, :, -1, 1])


def _side_adjoint(sums: Float[Tensor, "3 o p t 2 i j"], x: Float[Tensor, "o p l i j"]) -> None:
    """Written to `x`."""
    first, middle, last = sums
    odd, even = _pairs(x)
    torch.sub(middle, first, out=odd)
    odd.sub_(last)
    torch.add(first[:, :, 1:], last[:, :, :-1], out=even)
    x[:, :, 0] = first[:, :, 0, 1]
    x[:, :, -1] = last[:, :, -1, 0]


def _pairs(x: Float[Tensor, "o p l i j"]) -> tuple[Float[Tensor, "o p t 2 i j"], Float[Tensor, "o p t1 2 i j"]]:
    """Views: pixels 4t + 1 and 4t + 2, a tile's D1; and 4t + 3 and 4t + 4, its D2 and the next one's D0."""
    pairs = x[:, :, 1:-1].unflatten(2, (-1, 2))
    return pairs[:, :, 0::2], pairs[:, :, 1::2]


# --- products and outputs -----------------------------------------------------------------------------------------


def _outputs(products: Float[Tensor, "3 3 n t s c"], y: Float[Tensor, "n h w c"]) -> None:
    """Written to `y`, h = 2 t and w = 2 s."""
    rows = products[:2] + products[1:]
    torch.add(rows[:, :2], rows[:, 1:], out=_by_place(y))


def _outputs_adjoint(y: Float[Tensor, "n h w c"]) -> Float[Tensor, "3 3 n t s c"]:
    outputs = _by_place(y)
    products = y.new_empty(3, 3, *outputs.shape[2:])
    products[::2, ::2] = outputs
    torch.add(outputs[:, 0], outputs[:, 1], out=products[::2, 1])
    torch.add(products[0], products[2], out=products[1])
    return products


def _by_place(y: Float[Tensor, "n h w c"]) -> Float[Tensor, "2 2 n t s c"]:
    return y.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(2, 4, 0, 1, 3, 5)


# --- kernels ------------------------------------------------------------------------------------------------------


def _kernels(w: Float[Tensor, "c2 c 4 4"]) -> Float[Tensor, "9 c2 c4"]:
    """g0, g0 + g1 and g1 of both sides; c4 = 4 c."""
    after, c = w.shape[:2]
    taps = _channels_last(w).view(after, 2, 2, 2, 2 * c)
    kernels = w.new_empty(3, 3, after, 2, 2 * c)
    for of_rows, row in zip(kernels, (taps[:, 0], taps[:, 0] + taps[:, 1], taps[:, 1]), strict=True):
        of_rows[0], of_rows[2] = row[:, :, 0], row[:, :, 1]
        torch.add(row[:, :, 0], row[:, :, 1], out=of_rows[1])
    return kernels.view(9, after, 4 * c)


def _kernels_adjoint(kernels: Float[Tensor, "9 c2 c4"], c: int) -> Float[Tensor, "c2 c 4 4"]:
    after = kernels.shape[1]
    by_side = kernels.view(3, 3, after, 2, 2 * c)
    rows = kernels.new_empty(3, after, 2, 2, 2 * c)
    torch.add(by_side[:, 0], by_side[:, 1], out=rows[:, :, :, 0])
    torch.add(by_side[:, 2], by_side[:, 1], out=rows[:, :, :, 1])
    taps = kernels.new_empty(after, 2, 2, 2, 2 * c)
    torch.add(rows[0], rows[1], out=taps[:, 0])
    torch.add(rows[2], rows[1], out=taps[:, 1])
    return taps.view(after, 4, 4, c).permute(0, 3, 1, 2)
