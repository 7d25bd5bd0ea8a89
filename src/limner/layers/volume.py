"""Convolutions of volumes [n, c, d, h, w], quick on a CPU where channels are many.

The mathematics, parameters and names are those of `torch.nn.Conv3d` and `ConvTranspose3d`. On a CPU, kernels of 3 with
many channels are computed with fewer multiplications (`winograd_volume`); the three maps of a convolution are each
other's derivatives, so that derivatives of every order are quick. On a GPU, under autocast and for small layers these
are torch's layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.layers.winograd3 import STEP
from limner.layers.winograd_volume import Cubes, Slices

Maps = Cubes | Slices
KEEPING, HALVING, SLICES = Cubes("same"), Cubes("halved"), Slices()


class VolumeConvolution(nn.Conv3d):
    """[n, c, d, h, w] → [n, c2, d, h, w]; an odd kernel, zeros outside."""

    def __init__(self, before: int, after: int, kernel: int = 3, bias: bool = True) -> None:
        super().__init__(before, after, kernel, padding=kernel // 2, bias=bias)

    def forward(self, input: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n c2 d h w"]:
        maps = choose(input, self.weight.shape)
        if maps is None:
            return super().forward(input)
        y = _Convolve.apply(input, self.weight, maps)
        return y if self.bias is None else y + self.bias[:, None, None, None]


class DoublingVolumeConvolution(nn.ConvTranspose3d):
    """[n, c, d, h, w] → [n, c2, 2d, 2h, 2w]: a transposed convolution of kernel 3 and stride 2."""

    def __init__(self, before: int, after: int, bias: bool = True) -> None:
        super().__init__(before, after, 3, stride=2, padding=1, output_padding=1, bias=bias)


def folded(volume: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n c*d h w"]:
    """Depth folded into channels; in channels-last memory, by one copy."""
    return volume.permute(0, 3, 4, 1, 2).flatten(3).permute(0, 3, 1, 2)


def doubling_volume_convolution(
    x: Float[Tensor, "n c d h w"], weight: Float[Tensor, "c2 c 3 3 3"], bias: Float[Tensor, "c2"] | None
) -> Float[Tensor, "n c2 d2 h2 w2"]:
    """x with every voxel repeated to a cube of 2x2x2, and a convolution of it that keeps the sides, in one."""
    if choose(x, weight.shape, doubled=True) is None:
        return torch.conv3d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, 1, 1)
    # The adjoint of repeating is eight times averaging, that of the convolution has its kernel turned round.
    y = _Spread.apply(x, 8 * weight.flip(2, 3, 4).transpose(0, 1), HALVING)
    return y if bias is None else y + bias[:, None, None, None]


LEAST_PAIRS = {KEEPING: 2**12, HALVING: 2**12, SLICES: 2**14}
"""channels before x after from which the sums cost less than the products that they save"""
LEAST_ROWS = 32
"""outputs of slices, or tiles, in the batch: from here on the sums of weights are worth it"""
LEAST_WORK = 2**20
"""these times those: below is Python's overhead more than what there is to gain"""
LEAST_FULL = 0.5
"""of the tiles' outputs are in the volume"""


def choose(x: Tensor, weight: Sequence[int], doubled: bool = False) -> Maps | None:
    """The quickest maps, as benchmarks/volumes.py measured them; None: torch's own convolution."""
    exact = x.dtype in (torch.float32, torch.float64)  # sums of bfloat16 would be rounded once more
    if not exact or x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or tuple(weight[2:]) != (3, 3, 3):
        return None
    depth, height, width = x.shape[2:]
    maps: Maps
    if max(height, width) <= STEP and not doubled:
        maps, rows, full = SLICES, len(x) * depth, height * width / STEP**2
    else:
        maps, side = (HALVING, STEP // 2) if doubled else (KEEPING, STEP)
        tiles = math.prod(-(-length // side) for length in (depth, height, width))
        rows, full = len(x) * tiles, depth * height * width / (tiles * side**3)
    pairs = weight[0] * weight[1]
    worth_it = full >= LEAST_FULL and rows >= LEAST_ROWS and pairs >= LEAST_PAIRS[maps] and rows * pairs >= LEAST_WORK
    return maps if worth_it else None


# --- the maps, each other's derivatives ---------------------------------------------------------------------------


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, w: Tensor, maps: Maps) -> Tensor:
        context.save_for_backward(x, w)
        context.maps = maps
        return maps.convolve(x, w)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (y,), (x, w) = gradients, context.saved_tensors
        return (
            _Spread.apply(y, w, context.maps) if context.needs_input_grad[0] else None,
            _Correlate.apply(x, y, context.maps) if context.needs_input_grad[1] else None,
            None,
        )


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, y: Tensor, w: Tensor, maps: Maps) -> Tensor:
        context.save_for_backward(y, w)
        context.maps = maps
        return maps.spread(y, w)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,), (y, w) = gradients, context.saved_tensors
        return (
            _Convolve.apply(x, w, context.maps) if context.needs_input_grad[0] else None,
            _Correlate.apply(x, y, context.maps) if context.needs_input_grad[1] else None,
            None,
        )


class _Correlate(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, y: Tensor, maps: Maps) -> Tensor:
        context.save_for_backward(x, y)
        context.maps = maps
        return maps.correlate(x, y)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (w,), (x, y) = gradients, context.saved_tensors
        return (
            _Spread.apply(y, w, context.maps) if context.needs_input_grad[0] else None,
            _Convolve.apply(x, w, context.maps) if context.needs_input_grad[1] else None,
            None,
        )
