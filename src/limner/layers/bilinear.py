"""The three bilinear maps of a convolution, each in the quickest of several ways.

    y = x * w              convolve
    x' = the gradient of <y', x * w> in x         spread
    w' = the gradient of <y', x * w> in w         correlate

Each one's derivatives are the other two. On a CPU there are several ways to compute them, all exact; what is quickest
for which shape is `choose`'s to know (benchmarks/convolutions.py):

- oneDNN's convolution.
- A matrix product of patches and weights where a large kernel meets a map of few pixels (512 channels at 4²): oneDNN
  then spends its time on reordering weights.
- Fewer products, where channels are many: nine for sixteen with kernel 4 and stride 2 (`winograd`), one for four with
  kernel 3 and stride 1, and two for five where its outcome is averaged over squares (`winograd3`).
- Products in planes, for the three channels of a picture: oneDNN wants channels by the dozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.layers import winograd, winograd3
from limner.layers.resampling import halving_kernel


class Geometry(NamedTuple):
    """How a kernel moves over the image, pixels; the same along both sides."""

    kernel: int
    stride: int
    padding: int
    averaged: bool = False
    """squares of 2x2 outcomes are averaged"""


HALVING = Geometry(4, 2, 1)
"""halves even sides: the stride of most networks here"""
KEEPING = Geometry(3, 1, 1)
"""keeps all sides"""
AVERAGING = Geometry(3, 1, 1, averaged=True)
"""halves even sides: `KEEPING` with squares of 2x2 outcomes averaged"""


def convolve(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """x [n, c, h, w] * w [c2, c, k, k] + bias [c2] → [n, c2, h2, w2]."""
    k, stride, padding, _ = HALVING if geometry.averaged else geometry
    sides = [(side + 2 * padding - k) // stride + 1 for side in x.shape[2:]]
    way = choose("convolve", x, w.shape, geometry, x.shape[2:], sides)
    if geometry.averaged and way != "winograd":
        return convolve(x, halving_kernel(w), HALVING, bias)
    if way == "convolution":
        return torch.conv2d(x, w, bias, geometry.stride, geometry.padding)
    if way == "winograd":
        y = WINOGRAD[geometry].convolve(x, w)
    else:
        y = _from_rows(_patches(x, geometry) @ _weight_rows(w).T, len(x), sides)
    return y if bias is None else y.add_(bias[:, None, None])


def spread(y: Tensor, w: Tensor, geometry: Geometry, sides: tuple[int, int]) -> Tensor:
    """y [n, c2, h2, w2] → [n, c, h, w], the adjoint of `convolve` in x; `sides` are h and w."""
    way = choose("spread", y, w.shape, geometry, sides, y.shape[2:])
    if geometry.averaged and way != "winograd":
        return spread(y, halving_kernel(w), HALVING, sides)
    if way == "winograd":
        return WINOGRAD[geometry].spread(y, w)
    if way == "planes":
        return _spread_planes(y, w)
    if way == "product":
        return _gathered(_rows(y) @ _weight_rows(w), y, w, geometry, sides)
    return _derivative(y.new_empty(()).expand(len(y), w.shape[1], *sides), y, w, geometry, 0)


def correlate(x: Tensor, y: Tensor, geometry: Geometry) -> Tensor:
    """x [n, c, h, w], y [n, c2, h2, w2] → [c2, c, k, k], the adjoint of `convolve` in w."""
    shape = (y.shape[1], x.shape[1], geometry.kernel, geometry.kernel)
    way = choose("correlate", x, shape, geometry, x.shape[2:], y.shape[2:])
    if geometry.averaged and way != "winograd":
        return F.avg_pool2d(correlate(x, y, HALVING), 2, 1)  # the adjoint of `halving_kernel`
    if way == "winograd":
        return WINOGRAD[geometry].correlate(x, y)
    if way == "product":
        rows = _rows(y).T @ _patches(x, geometry)
        return rows.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
    return _derivative(x, y, x.new_empty(()).expand(shape), geometry, 1)


def _derivative(x: Tensor, y: Tensor, w: Tensor, geometry: Geometry, which: int) -> Tensor:
    stride, padding = [geometry.stride] * 2, [geometry.padding] * 2
    wanted = [which == 0, which == 1, False]
    made = torch.ops.aten.convolution_backward(y, x, w, None, stride, padding, [1, 1], False, [0, 0], 1, wanted)
    return made[which]


# --- ways to compute them -----------------------------------------------------------------------------------------


Way = Literal["convolution", "product", "winograd", "planes"]


class Maps(NamedTuple):
    convolve: Callable[[Tensor, Tensor], Tensor]
    spread: Callable[[Tensor, Tensor], Tensor]
    correlate: Callable[[Tensor, Tensor], Tensor]


WINOGRAD = {
    HALVING: Maps(winograd.convolve, winograd.spread, winograd.correlate),
    KEEPING: Maps(winograd3.convolve, winograd3.spread, winograd3.correlate),
    AVERAGING: Maps(
        *(partial(each, name="halved") for each in (winograd3.convolve, winograd3.spread, winograd3.correlate))
    ),
}
"""those with fewer products"""
MOST_POSITIONS = {"convolve": 16, "spread": 16, "correlate": 64}
"""positions of the kernel in an image up to which a product is quicker than a convolution"""
LEAST_CHANNELS = {"convolve": 2**15, "spread": 2**14, "correlate": 2**13}
"""channels before x after from which Winograd's sums cost less than the products that they save, when halving"""
LEAST_CHANNELS_3 = 2**14
"""the same, of kernel 3"""
LEAST_TILES = 256
"""of 2 x 2 outputs in the batch: from here on its sums of weights are worth it"""
LEAST_TILES_3 = 32
"""the same, of kernel 3: of 4 x 4 outputs before they are averaged"""
MOST_PLANES = 4
"""channels so few that planes are quicker"""
PLANE = 2**14
"""positions computed at once, so that their planes stay in the cache"""


def choose(
    which: str, x: Tensor, weight: Sequence[int], geometry: Geometry, sides: Sequence[int], positions: Sequence[int]
) -> Way:
    """The quickest way, as benchmarks/convolutions.py measured them; `positions` are the kernel's along both sides."""
    after, before = weight[:2]
    even = all(side == 2 * count for side, count in zip(sides, positions, strict=True))
    halves = geometry == HALVING and even
    exact = x.dtype in (torch.float32, torch.float64)  # sums of bfloat16 would be rounded once more
    if which == "spread" and halves and exact and before <= MOST_PLANES:
        return "planes"
    outputs = len(x) * positions[0] * positions[1]
    fits = halves and all(count % 2 == 0 for count in positions)
    if fits and exact and before * after >= LEAST_CHANNELS[which] and outputs >= 4 * LEAST_TILES:
        return "winograd"
    fits = geometry == KEEPING or (geometry == AVERAGING and even)
    tile = 4 if geometry.averaged else 16
    if fits and exact and before * after >= LEAST_CHANNELS_3 and outputs >= tile * LEAST_TILES_3:
        return "winograd"
    return "product" if positions[0] * positions[1] <= MOST_POSITIONS[which] else "convolution"


def _patches(x: Tensor, geometry: Geometry) -> Float[Tensor, "p k"]:
    """One row per position of the kernel: its pixels row by row, channels last."""
    k, stride, padding, _ = geometry
    pixels = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    windows = pixels.unfold(1, k, stride).unfold(2, k, stride)  # [n, h2, w2, c, k, k]
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, k * k * x.shape[1])


def _gathered(patches: Tensor, y: Tensor, w: Tensor, geometry: Geometry, sides: tuple[int, int]) -> Tensor:
    """The adjoint of `_patches`: every patch added where it was taken from."""
    k, stride, padding, _ = geometry
    n, (height, width) = len(y), y.shape[2:]
    rows = patches.view(n, height, width, k, k, -1)
    pixels = patches.new_zeros(n, sides[0] + 2 * padding, sides[1] + 2 * padding, w.shape[1])
    for i in range(k):
        for j in range(k):
            pixels[:, i : i + stride * height : stride, j : j + stride * width : stride] += rows[:, :, :, i, j]
    return pixels[:, padding : padding + sides[0], padding : padding + sides[1]].permute(0, 3, 1, 2)


def _rows(x: Tensor) -> Float[Tensor, "p c"]:
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _from_rows(rows: Tensor, n: int, sides: list[int]) -> Tensor:
    return rows.view(n, *sides, -1).permute(0, 3, 1, 2)


def _weight_rows(w: Tensor) -> Float[Tensor, "c2 k"]:
    return w.permute(0, 2, 3, 1).reshape(len(w), -1)


def _spread_planes(y: Tensor, w: Tensor) -> Float[Tensor, "n c h w"]:
    """`spread` of `HALVING` with a plane of its own for every channel and place in the kernel.

    Places 1 and 2 are the two pixels under a position, 0 belongs to the position before and 3 to the one after.
    """
    n, after, height, width = y.shape
    by_place = w.permute(2, 3, 1, 0).reshape(-1, after)
    x = y.new_empty(n, 2 * height, 2 * width, w.shape[1])
    size = max(1, PLANE // (height * width))
    for low in range(0, n, size):
        images = slice(low, low + size)
        planes = (by_place @ _rows(y[images]).T).view(4, 4, w.shape[1], -1, height, width)
        rows = planes[1:3]
        rows[0, ..., 1:, :] += planes[3, ..., :-1, :]
        rows[1, ..., :-1, :] += planes[0, ..., 1:, :]
        pixels = rows[:, 1:3]
        pixels[:, 0, ..., 1:] += rows[:, 3, ..., :-1]
        pixels[:, 1, ..., :-1] += rows[:, 0, ..., 1:]
        x[images].view(-1, height, 2, width, 2, w.shape[1]).copy_(pixels.permute(3, 4, 0, 5, 1, 2))
    return x.permute(0, 3, 1, 2)
