"""Convolutions that are quick to differentiate twice, and quick where the map is small.

The same mathematics, parameters and names as `torch.nn.Conv2d` and `ConvTranspose2d`, which compute the second
derivative that a gradient penalty needs as a convolution with the whole gradient map for its kernel. The three maps

    y = x * w              convolve
    x' = the gradient of <y', x * w> in x         spread
    w' = the gradient of <y', x * w> in w         correlate

are bilinear, and each one's derivatives are the other two; so derivatives of every order use well-made kernels (the
idea of Karras et al. 2020, arXiv:2006.06676, `conv2d_gradfix` in their published code).

On a CPU each of the three takes the quickest of several ways, all exact (benchmarks/convolutions.py):

- oneDNN's convolution.
- A matrix product of patches and weights where a large kernel meets a map of few pixels (512 channels at 4²): oneDNN
  then spends its time on reordering weights.
- Nine products where sixteen are usual (`winograd`), for kernel 4 and stride 2 of many channels; one where four are
  usual (`winograd3`), for kernel 3 and stride 1.
- Products in planes, for the three channels of a picture: oneDNN wants channels by the dozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.layers import winograd, winograd3


class Geometry(NamedTuple):
    """How a kernel moves over the image, pixels; the same along both sides."""

    kernel: int
    stride: int
    padding: int


class Convolution(nn.Conv2d):
    """[n, c, h, w] → [n, c2, h2, w2]; square kernel, stride and zero padding."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, padding: int, bias: bool = True) -> None:
        super().__init__(before, after, kernel, stride, padding, bias=bias)
        self.geometry = Geometry(kernel, stride, padding)

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        return convolution(input, self.weight, self.bias, self.geometry)


class TransposedConvolution(nn.ConvTranspose2d):
    """[n, c, h, w] → [n, c2, h2, w2]: what carries a gradient back through a convolution of c2 to c channels."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, padding: int, bias: bool = True) -> None:
        super().__init__(before, after, kernel, stride, padding, bias=bias)
        self.geometry = Geometry(kernel, stride, padding)

    def forward(
        self, input: Float[Tensor, "n c h w"], output_size: list[int] | None = None
    ) -> Float[Tensor, "n c2 h2 w2"]:
        if output_size is not None:
            return super().forward(input, output_size)
        return transposed_convolution(input, self.weight, self.bias, self.geometry)


def convolution(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "c2 c k k"], bias: Float[Tensor, "c2"] | None, geometry: Geometry
) -> Float[Tensor, "n c2 h2 w2"]:
    """`torch.conv2d` of a square kernel, stride and zero padding."""
    if not _worth_it(x, weight, geometry.stride**2):
        return torch.conv2d(x, weight, bias, geometry.stride, geometry.padding)
    x, weight = _as_autocast(x, weight)
    return _Convolve.apply(x, weight, bias if bias is None else bias.to(x.dtype), geometry)


def transposed_convolution(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "c c2 k k"], bias: Float[Tensor, "c2"] | None, geometry: Geometry
) -> Float[Tensor, "n c2 h2 w2"]:
    """`torch.conv_transpose2d` of a square kernel, stride and zero padding."""
    if not _worth_it(x, weight, 1):
        return torch.conv_transpose2d(x, weight, bias, geometry.stride, geometry.padding)
    x, weight = _as_autocast(x, weight)
    sides = [(side - 1) * geometry.stride - 2 * geometry.padding + geometry.kernel for side in x.shape[2:]]
    y = _Spread.apply(x, weight, geometry, (sides[0], sides[1]))
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


SMALL = 2**22
"""multiplications below which Python's overhead is more than what there is to gain"""

_inputs_only = False


@contextmanager
def input_gradients_only() -> Iterator[None]:
    """Inside, going back through these layers leaves out their weights' gradients.

    A gradient penalty takes the gradient in the images alone, and a Python function cannot see which were asked for.
    """
    global _inputs_only
    before, _inputs_only = _inputs_only, True
    try:
        yield
    finally:
        _inputs_only = before


def _worth_it(x: Tensor, weight: Tensor, pixels_per_position: int) -> bool:
    """On a GPU, cuDNN's own derivatives are as good and have less overhead."""
    positions = len(x) * x.shape[2] * x.shape[3] // pixels_per_position
    return x.device.type == "cpu" and positions * weight.numel() >= SMALL


def _as_autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return x, weight
    dtype = torch.get_autocast_dtype(kind)
    return x.to(dtype), weight.to(dtype)


# --- three bilinear maps, each other's derivatives ----------------------------------------------------------------


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, w: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        context.save_for_backward(x, w)
        context.geometry = geometry
        return convolve(x, w, geometry, bias)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (y,), (x, w) = gradients, context.saved_tensors
        sides = (x.shape[2], x.shape[3])
        return (
            _Spread.apply(y, w, context.geometry, sides) if context.needs_input_grad[0] else None,
            _Correlate.apply(x, y, context.geometry) if context.needs_input_grad[1] and not _inputs_only else None,
            y.sum(dim=(0, 2, 3)) if context.needs_input_grad[2] and not _inputs_only else None,
            None,
        )


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, y: Tensor, w: Tensor, geometry: Geometry, sides: tuple[int, int]) -> Tensor:
        context.save_for_backward(y, w)
        context.geometry = geometry
        return spread(y, w, geometry, sides)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,), (y, w) = gradients, context.saved_tensors
        return (
            _Convolve.apply(x, w, None, context.geometry) if context.needs_input_grad[0] else None,
            _Correlate.apply(x, y, context.geometry) if context.needs_input_grad[1] and not _inputs_only else None,
            None,
            None,
        )


class _Correlate(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, y: Tensor, geometry: Geometry) -> Tensor:
        context.save_for_backward(x, y)
        context.geometry = geometry
        return correlate(x, y, geometry)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (w,), (x, y) = gradients, context.saved_tensors
        sides = (x.shape[2], x.shape[3])
        return (
            _Spread.apply(y, w, context.geometry, sides) if context.needs_input_grad[0] else None,
            _Convolve.apply(x, w, None, context.geometry) if context.needs_input_grad[1] else None,
            None,
        )


def convolve(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """x [n, c, h, w] * w [c2, c, k, k] + bias [c2] → [n, c2, h2, w2]."""
    sides = [(side + 2 * geometry.padding - geometry.kernel) // geometry.stride + 1 for side in x.shape[2:]]
    way = choose("convolve", x, w.shape, geometry, x.shape[2:], sides)
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
HALVING = Geometry(4, 2, 1)
"""halves even sides: the stride of most networks here"""
KEEPING = Geometry(3, 1, 1)
"""keeps all sides"""
WINOGRAD = {HALVING: winograd, KEEPING: winograd3}
"""who computes it with fewer products"""
MOST_POSITIONS = {"convolve": 16, "spread": 16, "correlate": 64}
"""positions of the kernel in an image up to which a product is quicker than a convolution"""
LEAST_CHANNELS = {"convolve": 2**15, "spread": 2**14, "correlate": 2**13}
"""channels before x after from which Winograd's sums cost less than the products that they save, when halving"""
LEAST_CHANNELS_KEEPING = 2**14
LEAST_TILES = 256
"""of 2 x 2 outputs in the batch: from here on its sums of weights are worth it"""
LEAST_TILES_KEEPING = 32
"""of 4 x 4 outputs"""
MOST_PLANES = 4
"""channels so few that planes are quicker"""
PLANE = 2**14
"""positions computed at once, so that their planes stay in the cache"""


def choose(
    which: str, x: Tensor, weight: Sequence[int], geometry: Geometry, sides: Sequence[int], positions: Sequence[int]
) -> Way:
    """The quickest way, as benchmarks/convolutions.py measured them; `positions` are the kernel's along both sides."""
    after, before = weight[:2]
    halves = geometry == HALVING and all(side == 2 * count for side, count in zip(sides, positions, strict=True))
    exact = x.dtype in (torch.float32, torch.float64)  # sums of bfloat16 would be rounded once more
    if which == "spread" and halves and exact and before <= MOST_PLANES:
        return "planes"
    even = all(count % 2 == 0 for count in positions)
    outputs = len(x) * positions[0] * positions[1]
    if halves and exact and even and before * after >= LEAST_CHANNELS[which] and outputs >= 4 * LEAST_TILES:
        return "winograd"
    enough = before * after >= LEAST_CHANNELS_KEEPING and outputs >= 16 * LEAST_TILES_KEEPING
    if geometry == KEEPING and exact and enough:
        return "winograd"
    return "product" if positions[0] * positions[1] <= MOST_POSITIONS[which] else "convolution"


def _patches(x: Tensor, geometry: Geometry) -> Float[Tensor, "p k"]:
    """One row per position of the kernel: its pixels row by row, channels last."""
    k, stride, padding = geometry
    pixels = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    windows = pixels.unfold(1, k, stride).unfold(2, k, stride)  # [n, h2, w2, c, k, k]
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, k * k * x.shape[1])


def _gathered(patches: Tensor, y: Tensor, w: Tensor, geometry: Geometry, sides: tuple[int, int]) -> Tensor:
    """The adjoint of `_patches`: every patch added where it was taken from."""
    k, stride, padding = geometry
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
