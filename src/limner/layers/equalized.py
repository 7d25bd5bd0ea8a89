"""Equalized learning rate (Karras et al. 2018, arXiv:1710.10196, section 4.1).

A layer's weights are drawn from N(0, 1) and multiplied at run time by He's constant gain / √(inputs of an output), so
that Adam, whose steps do not depend on a gradient's size, moves all layers equally fast.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.layers.convolution import Geometry, convolution, doubling_convolution, halving_convolution

Sampling = Literal["same", "doubling", "halving"]


class Equalized(nn.Module):
    """Weights and bias of a layer whose learning rate is equalized, or that starts as one and is then trained plainly.

    Args:
        shape: of the weights, [outputs, inputs, …].
        gain: √2 before a leaky ReLU, 1 where nothing follows.
        equalized: False puts the constant into the starting weights instead.
    """

    def __init__(self, shape: tuple[int, ...], gain: float, equalized: bool) -> None:
        super().__init__()
        constant = gain / math.sqrt(math.prod(shape[1:]))
        self.scale = constant if equalized else 1.0
        self.weight = nn.Parameter(torch.randn(shape) * (1.0 if equalized else constant))
        self.bias = nn.Parameter(torch.zeros(shape[0]))

    def scaled(self) -> Tensor:
        """The weights as they are used."""
        return self.weight if self.scale == 1.0 else self.weight * self.scale


class EqualizedConvolution(Equalized):
    """[n, c, h, w] → [n, c2, h2, w2]; odd kernels keep the side, kernel 4 takes a 4² map to one pixel.

    Args:
        before: channels c.
        after: channels c2.
        kernel: 1, 3 or 4, pixels.
        sampling: "doubling" convolves the image of twice the side, "halving" averages 2x2 squares of the outcome,
            both in one pass.
        gain: see `Equalized`.
        equalized: see `Equalized`.
    """

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        *,
        sampling: Sampling = "same",
        gain: float = math.sqrt(2),
        equalized: bool = True,
    ) -> None:
        super().__init__((after, before, kernel, kernel), gain, equalized)
        self.sampling = sampling
        self.geometry = Geometry(kernel, 1, kernel // 2 if kernel % 2 else 0)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        weight = self.scaled()
        if self.sampling == "doubling":
            return doubling_convolution(x, weight, self.bias)
        if self.sampling == "halving":
            return halving_convolution(x, weight, self.bias)
        return convolution(x, weight, self.bias, self.geometry)


class EqualizedLinear(Equalized):
    """[n, d] → [n, d2]."""

    def __init__(self, before: int, after: int, *, gain: float = math.sqrt(2), equalized: bool = True) -> None:
        super().__init__((after, before), gain, equalized)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d2"]:
        return nn.functional.linear(x, self.scaled(), self.bias)


class EqualizedSeed(Equalized):
    """Latents [n, d] → the first map [n, c, 4, 4]: a dense layer with one bias a channel."""

    def __init__(self, before: int, after: int, *, gain: float = math.sqrt(2), equalized: bool = True) -> None:
        # A map's pixel is made of all d latents, but the constant is that of a transposed convolution, √2 / √(16 d).
        super().__init__((after, before, 4, 4), gain, equalized)

    def forward(self, latents: Float[Tensor, "n d"]) -> Float[Tensor, "n c 4 4"]:
        after, before = self.weight.shape[:2]
        rows = self.scaled().permute(1, 2, 3, 0).reshape(before, 16 * after)
        pixels = (latents @ rows).view(-1, 4, 4, after) + self.bias
        return pixels.permute(0, 3, 1, 2)
