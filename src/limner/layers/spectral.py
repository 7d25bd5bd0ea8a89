"""Spectral normalization: weights over their largest singular value σ (Miyato et al. 2018, arXiv:1802.05957).

σ is found by power iteration. Its vector moves only where `power_iteration` is called, once a step of the network, not
at every forward pass: so a loss is a function of weights and data alone, whoever computes it and in how many parts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.layers.convolution import Geometry, convolution

_FIRST_ITERATIONS = 15
"""with which a new layer's vector is found"""


class Spectral(nn.Module):
    """Of a layer whose `weight` [c2, …] is divided by its largest singular value, as a matrix of c2 rows."""

    weight: nn.Parameter
    left: Tensor

    def start(self) -> None:
        """The left singular vector, for the weights as they are now."""
        self.register_buffer("left", F.normalize(torch.randn(len(self.weight)), dim=0))
        for _ in range(_FIRST_ITERATIONS):
            self.iterate()

    @torch.no_grad()
    def iterate(self) -> None:
        """One step of the power iteration."""
        rows = self.weight.flatten(1)
        right = F.normalize(rows.T @ self.left.to(rows), dim=0)
        self.left.copy_(F.normalize(rows @ right, dim=0))

    def normalized(self) -> Tensor:
        """The weights over σ, differentiable in them; the singular vectors are held fixed, as they may be at σ."""
        rows = self.weight.flatten(1)
        with torch.no_grad():
            right = F.normalize(rows.T @ self.left.to(rows), dim=0)
        return self.weight / (self.left.to(rows) @ (rows @ right))


class SpectralConvolution(Spectral):
    """[n, c, h, w] → [n, c2, h2, w2]; square kernel, stride and zero padding."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, padding: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(after)) if bias else None
        nn.init.xavier_uniform_(self.weight)
        self.geometry = Geometry(kernel, stride, padding)
        self.start()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        return convolution(x, self.normalized(), self.bias, self.geometry)


class SpectralLinear(Spectral):
    """[n, d] → [n, d2]."""

    def __init__(self, before: int, after: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before))
        self.bias = nn.Parameter(torch.zeros(after)) if bias else None
        nn.init.xavier_uniform_(self.weight)
        self.start()

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d2"]:
        return F.linear(x, self.normalized(), self.bias)


def power_iteration(module: nn.Module) -> None:
    """One step of the power iteration in every layer of a network: call it after the network's weights moved."""
    for layer in module.modules():
        if isinstance(layer, Spectral):
            layer.iterate()
