"""Convolutions that are quick to differentiate twice, and quick where channels are many or the map is small.

The same mathematics, parameters and names as `torch.nn.Conv2d` and `ConvTranspose2d`, which compute the second
derivative that a gradient penalty needs as a convolution with the whole gradient map for its kernel. The three maps of
`bilinear` are each other's derivatives; so derivatives of every order use well-made kernels (the idea of Karras et al.
2020, arXiv:2006.06676, `conv2d_gradfix` in their published code).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.layers.bilinear import AVERAGING, HALVING, Geometry, convolve, correlate, spread
from limner.layers.resampling import halving_kernel

__all__ = [
    "Convolution",
    "Geometry",
    "TransposedConvolution",
    "convolution",
    "doubling_convolution",
    "halving_convolution",
    "input_gradients_only",
    "transposed_convolution",
]


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
    if not _worth_it(x, weight, 4 if geometry.averaged else geometry.stride**2):
        weight, geometry = _without_averaging(weight, geometry)
        return torch.conv2d(x, weight, bias, geometry.stride, geometry.padding)
    x, weight = _as_autocast(x, weight)
    return _Convolve.apply(x, weight, bias if bias is None else bias.to(x.dtype), geometry)


def transposed_convolution(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "c c2 k k"], bias: Float[Tensor, "c2"] | None, geometry: Geometry
) -> Float[Tensor, "n c2 h2 w2"]:
    """`torch.conv_transpose2d` of a square kernel, stride and zero padding."""
    if not _worth_it(x, weight, 1):
        weight, geometry = _without_averaging(weight, geometry)
        return torch.conv_transpose2d(x, weight, bias, geometry.stride, geometry.padding)
    x, weight = _as_autocast(x, weight)
    k, stride, padding, _ = HALVING if geometry.averaged else geometry
    sides = [(side - 1) * stride - 2 * padding + k for side in x.shape[2:]]
    y = _Spread.apply(x, weight, geometry, (sides[0], sides[1]))
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def halving_convolution(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "c2 c 3 3"], bias: Float[Tensor, "c2"] | None
) -> Float[Tensor, "n c2 h2 w2"]:
    """A convolution that keeps the sides, and its outcome averaged over squares of 2x2, in one."""
    return convolution(x, weight, bias, AVERAGING)


def doubling_convolution(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "c2 c 3 3"], bias: Float[Tensor, "c2"] | None
) -> Float[Tensor, "n c2 h2 w2"]:
    """x with every pixel repeated to a square of 2x2, and a convolution of it that keeps the sides, in one."""
    # The adjoint of repeating is four times averaging, that of the convolution has its kernel turned round.
    return transposed_convolution(x, 4 * weight.flip(2, 3).transpose(0, 1), bias, AVERAGING)


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


def _without_averaging(weight: Tensor, geometry: Geometry) -> tuple[Tensor, Geometry]:
    return (halving_kernel(weight), HALVING) if geometry.averaged else (weight, geometry)


def _as_autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return x, weight
    dtype = torch.get_autocast_dtype(kind)
    return x.to(dtype), weight.to(dtype)


# --- the maps, each other's derivatives ---------------------------------------------------------------------------


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
