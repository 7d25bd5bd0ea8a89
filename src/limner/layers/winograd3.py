"""Convolutions of kernel 3, stride 1 and padding 1 with a quarter of the multiplications; and their halves.

Along one side, 4 neighbouring outputs depend on 6 pixels d and 3 taps g, and are the coefficients of a product of
polynomials, for which 6 multiplications suffice instead of 12 (minimal filtering: Lavin & Gray 2015, arXiv:1509.09308).
With three matrices found from six points, of which the last is infinity,

    y = A ((G g) * (B d)),    entry by entry;

along both sides at once with their Kronecker squares, 36 instead of 144. Where squares of 2x2 outputs are averaged, as
networks that grow do, 2 outputs along a side are

    y0 = (g0 b0 + g1 b1 + g2 b2) / 2,    y1 = (g0 b2 + g1 b3 + g2 b4) / 2,    bj = dj + d(j+1)

with 5 products: g1 b1, g1 b3 and three for the rest; 25 along both sides, where a kernel of 4 and stride 2 takes 64.

Entry by entry, over all tiles of the picture and all channels, is one matrix product for every point. The adjoints of
a convolution need the three matrices, their transposes, and nothing else. Rounding errors are a few times a
convolution's (tests/test_winograd3.py).

All tensors are channels last inside: rows of many channels are what a processor moves quickly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.layers.scratch import Scratch

FilterName = Literal["same", "halved"]
STEP, WINDOW, TAPS = 4, 6, 3
"""pixels from tile to tile, pixels of a tile, pixels of the kernel; along one side"""
BLOCK = 128
"""tiles computed at once: enough for a matrix product's full rate, few enough to stay in the cache"""
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
"""without infinity; of those that were tried, the ones that round least"""

_scratch = Scratch()


@dataclass(frozen=True)
class Filter:
    """Kronecker squares of A, B and G, and the grid of tiles: `rows` x `columns` of `outputs` x `outputs`."""

    a: Float[Tensor, "m2 p"]
    b: Float[Tensor, "p 36"]
    g: Float[Tensor, "p 9"]
    outputs: int
    rows: int
    columns: int

    @staticmethod
    def of(name: FilterName, height: int, width: int, dtype: torch.dtype) -> Filter:
        """For outputs of these sides."""
        a, b, g = _squares(name, dtype)
        outputs = round(len(a) ** 0.5)
        return Filter(a, b, g, outputs, -(-height // outputs), -(-width // outputs))

    def blocks(self, images: int) -> Iterator[slice]:
        return (slice(low, low + self.at_once) for low in range(0, images, self.at_once))

    @property
    def at_once(self) -> int:
        """images"""
        return max(1, BLOCK // (self.rows * self.columns))


def convolve(
    x: Float[Tensor, "n c h w"], w: Float[Tensor, "c2 c 3 3"], name: FilterName = "same"
) -> Float[Tensor, "n c2 h2 w2"]:
    """x * w, halved or not; any sides, even ones to be halved."""
    height, width = (side // (2 if name == "halved" else 1) for side in x.shape[2:])
    by = Filter.of(name, height, width, x.dtype)
    kernels, canvas, pixels = _kernels(w, by), _canvas(x, by), x.permute(0, 2, 3, 1)
    y = x.new_empty(len(x), by.rows * by.outputs, by.columns * by.outputs, len(w))
    for images in by.blocks(len(x)):
        products = _product(_tiles(pixels[images], canvas, by), kernels.transpose(1, 2))
        made = _times("outputs", by.a, products.flatten(1))
        places = _by_place(y[images], by.outputs)
        places.copy_(made.view(places.shape))
    return _channels_first(y[:, :height, :width])


def spread(
    y: Float[Tensor, "n c2 h2 w2"], w: Float[Tensor, "c2 c 3 3"], name: FilterName = "same"
) -> Float[Tensor, "n c h w"]:
    """The adjoint of `convolve` in x."""
    times = 2 if name == "halved" else 1
    by = Filter.of(name, y.shape[2], y.shape[3], y.dtype)
    x = y.new_empty(len(y), times * y.shape[2], times * y.shape[3], w.shape[1])
    kernels, canvas, gradients = _kernels(w, by), _canvas(x.permute(0, 3, 1, 2), by), _whole(y, by)
    for images in by.blocks(len(y)):
        tiles = _product(_products(gradients[images], by), kernels)
        _add_tiles(_times("outputs", by.b.T, tiles.flatten(1)), canvas, by)
        x[images] = canvas[: len(x[images]), 1 : x.shape[1] + 1, 1 : x.shape[2] + 1]
    return _channels_first(x)


def correlate(
    x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c2 h2 w2"], name: FilterName = "same"
) -> Float[Tensor, "c2 c 3 3"]:
    """The adjoint of `convolve` in w."""
    by = Filter.of(name, y.shape[2], y.shape[3], x.dtype)
    canvas, pixels, gradients = _canvas(x, by), x.permute(0, 2, 3, 1), _whole(y, by)
    kernels = _scratch.room("kernels", (len(by.g), y.shape[1], x.shape[1]), x.dtype)
    for images in by.blocks(len(x)):
        tiles, products = _tiles(pixels[images], canvas, by), _products(gradients[images], by)
        kernels.baddbmm_(products.transpose(1, 2), tiles, beta=0 if images.start == 0 else 1)
    taps = (by.g.T @ kernels.flatten(1)).view(TAPS, TAPS, y.shape[1], x.shape[1])
    return _channels_first(taps.permute(2, 0, 1, 3))


# --- pieces of the three ------------------------------------------------------------------------------------------


def _times(name: str, matrix: Float[Tensor, "i j"], values: Float[Tensor, "j k"]) -> Float[Tensor, "i k"]:
    return torch.mm(matrix, values, out=_scratch.room(name, (len(matrix), values.shape[1]), values.dtype))


def _product(rows: Float[Tensor, "p t i"], kernels: Float[Tensor, "p i j"]) -> Float[Tensor, "p t j"]:
    room = _scratch.room("product", (*rows.shape[:2], kernels.shape[2]), rows.dtype)
    return torch.bmm(rows, kernels, out=room)


def _kernels(w: Float[Tensor, "c2 c 3 3"], by: Filter) -> Float[Tensor, "p c2 c"]:
    """G g of every pair of channels."""
    taps = w.permute(2, 3, 0, 1).reshape(TAPS**2, -1)
    return _times("kernels", by.g, taps).view(-1, *w.shape[:2])


def _canvas(x: Float[Tensor, "n c h w"], by: Filter) -> Float[Tensor, "b h2 w2 c"]:
    """Zeros for a block of images, with a margin of one pixel before and what the last tiles need behind."""
    shape = (min(len(x), by.at_once), (by.rows + 1) * STEP, (by.columns + 1) * STEP, x.shape[1])
    return _scratch.room("canvas", shape, x.dtype).zero_()


def _tiles(pixels: Float[Tensor, "n h w c"], canvas: Float[Tensor, "b h2 w2 c"], by: Filter) -> Float[Tensor, "p t c"]:
    """B d of every tile."""
    n, height, width, c = pixels.shape
    canvas[:n, 1 : height + 1, 1 : width + 1] = pixels
    windows = canvas[:n].unfold(1, WINDOW, STEP).unfold(2, WINDOW, STEP).permute(4, 5, 0, 1, 2, 3)
    copied = _scratch.room("windows", tuple(windows.shape), pixels.dtype).copy_(windows)
    return _times("tiles", by.b, copied.view(WINDOW**2, -1)).view(len(by.b), -1, c)


def _add_tiles(made: Float[Tensor, "36 tc"], canvas: Float[Tensor, "b h2 w2 c"], by: Filter) -> None:
    """The adjoint of cutting out windows, which overlap."""
    tiles = made.view(WINDOW, WINDOW, -1, by.rows, by.columns, canvas.shape[3])
    places = _by_place(canvas[: tiles.shape[2]].zero_(), STEP)
    more = WINDOW - STEP
    places[:, :, :, :-1, :-1] = tiles[:STEP, :STEP]
    places[:more, :, :, 1:, :-1] += tiles[STEP:, :STEP]
    places[:, :more, :, :-1, 1:] += tiles[:STEP, STEP:]
    places[:more, :more, :, 1:, 1:] += tiles[STEP:, STEP:]


def _whole(y: Float[Tensor, "n c h w"], by: Filter) -> Float[Tensor, "n h2 w2 c"]:
    """With zeros behind, so that its sides are whole tiles."""
    missing = by.rows * by.outputs - y.shape[2], by.columns * by.outputs - y.shape[3]
    pixels = y.permute(0, 2, 3, 1)
    return F.pad(pixels, (0, 0, 0, missing[1], 0, missing[0])) if any(missing) else pixels


def _products(y: Float[Tensor, "n h w c"], by: Filter) -> Float[Tensor, "p t c"]:
    """The adjoint of A, for every tile."""
    places = _by_place(y, by.outputs)
    copied = _scratch.room("windows", tuple(places.shape), y.dtype).copy_(places)
    return _times("products", by.a.T, copied.view(len(by.a), -1)).view(len(by.b), -1, y.shape[3])


def _by_place(y: Float[Tensor, "n h w c"], side: int) -> Float[Tensor, "m m n rows columns c"]:
    """A view: squares by the place in them."""
    return y.unflatten(2, (-1, side)).unflatten(1, (-1, side)).permute(2, 4, 0, 1, 3, 5)


def _channels_first(x: Float[Tensor, "n h w c"]) -> Float[Tensor, "n c h w"]:
    return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


# --- matrices -----------------------------------------------------------------------------------------------------


@cache
def _squares(name: FilterName, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    a, b, g = (torch.from_numpy(np.kron(one, one)).to(dtype) for one in MATRICES[name]())
    return a, b, g


def _same() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, B and G."""
    a, b, g = np.zeros((STEP, WINDOW)), np.zeros((WINDOW, WINDOW)), np.zeros((WINDOW, TAPS))
    for i, point in enumerate(POINTS):
        others = np.array([other for other in POINTS if other != point])
        a[:, i] = point ** np.arange(STEP)
        b[i, :-1] = np.poly(others)[::-1]  # the polynomial that is zero at all other points
        g[i] = point ** np.arange(TAPS) / np.prod(point - others)
    a[-1, -1], b[-1], g[-1, -1] = 1, np.poly(POINTS)[::-1], 1  # infinity's
    return a, b, g


def _halved() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, B and G; the products are g0 (b0 - b2), (g0 + g2) b2, g2 (b4 - b2), g1 b1 and g1 b3."""
    a = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 0, 1]])
    b0, b1, b2, b3, b4 = np.eye(5, WINDOW) + np.eye(5, WINDOW, 1)
    g0, g1, g2 = np.eye(TAPS) / 2
    return a, np.stack([b0 - b2, b2, b4 - b2, b1, b3]), np.stack([g0, g0 + g2, g2, g1, g1])


MATRICES = {"same": _same, "halved": _halved}
