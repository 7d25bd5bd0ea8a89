"""Spectral normalization: weights over their largest singular value σ (Miyato et al. 2018, arXiv:1802.05957).

σ is found by power iteration. Its vector moves only where `power_iteration` is called, once a step of the network, not
at every forward pass: so a loss is a function of weights and data alone, whoever computes it and in how many parts.
"""

from __future__ import annotations

from typing import Any

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
        rows = _rows(self.weight, _channels_last(self.weight))
        right = F.normalize(rows.T @ self.left.to(rows), dim=0)
        self.left.copy_(F.normalize(rows @ right, dim=0))

    def normalized(self) -> Tensor:
        """The weights over σ, differentiable in them; the singular vectors are held fixed, as they may be at σ."""
        return _OverLargest.apply(self.weight, self.left)


def _channels_last(weight: Float[Tensor, "c2 ..."]) -> bool:
    return weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)


def _rows(weight: Float[Tensor, "c2 ..."], channels_last: bool) -> Float[Tensor, "c2 m"]:
    """The weights as a matrix, in whatever order of columns is that of memory: σ does not depend on it."""
    return (weight.permute(0, 2, 3, 1) if channels_last else weight).flatten(1)


class _OverLargest(torch.autograd.Function):
    """W / σ with σ = u' W v, u and v fixed: its gradient is G / σ - <G, W> / σ² u v', in as few passes as there are."""

    @staticmethod
    def forward(context: Any, weight: Tensor, left: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            rows, left = _rows(weight, _channels_last(weight)), left.to(weight)
            right = rows.T @ left
            sigma = right.norm()  # v is W' u over its length, and that is u' W v
        right /= sigma
        context.save_for_backward(weight, left, right, sigma)
        return weight / sigma

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        weight, left, right, sigma = context.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():
            sigma = left @ _rows(weight, _channels_last(weight)) @ right
        last = _channels_last(weight)
        rows = _rows(gradient, last) / sigma
        along = torch.dot(rows.flatten(), _rows(weight, last).flatten()) / sigma
        rows = torch.addr(rows, -along * left, right)
        if not last:
            return rows.view(weight.shape), None
        c2, c, h, w = weight.shape
        return rows.view(c2, h, w, c).permute(0, 3, 1, 2), None


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
