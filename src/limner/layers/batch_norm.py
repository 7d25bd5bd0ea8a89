"""Batch normalization whose batch is the whole batch, however many processes share it.

Ioffe & Szegedy 2015, arXiv:1502.03167. Two things differ from `torch.nn.BatchNorm2d`: under `torch.distributed` the
mean and variance are taken over all processes (on CPU and GPU alike, differentiably), so that N processes compute what
one would; and running statistics move only while the layer itself is being trained, so that computing a discriminator's
loss leaves the generator exactly as it was.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class BatchNorm(nn.Module):
    """Normalizes every channel over the batch and all positions: [n, c, ...] → [n, c, ...]."""

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))

    def forward(self, x: Float[Tensor, "n c ..."]) -> Float[Tensor, "n c ..."]:
        if not self.training:
            return self._normalize(x, self.running_mean, self.running_variance)
        if dist.is_initialized() and dist.get_world_size() > 1:
            mean, variance = self._statistics_of_all_processes(x)
            return self._normalize(x, mean, variance)
        # While another network trains, the batch's statistics are used and the running ones stay put.
        moving = (self.running_mean, self.running_variance) if self.weight.requires_grad else (None, None)
        return F.batch_norm(x, moving[0], moving[1], self.weight, self.bias, True, self.momentum, self.eps)

    def _statistics_of_all_processes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        processes = dist.get_world_size()
        exact = x if x.dtype == torch.float64 else x.float()
        over = [dim for dim in range(x.ndim) if dim != 1]
        mean = all_reduce(exact.mean(over)) / processes
        variance = all_reduce((exact - _per_channel(mean, x)).square().mean(over)) / processes
        if self.weight.requires_grad:
            count = x.numel() // x.shape[1] * processes
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
                self.running_variance.lerp_((variance * count / (count - 1)).to(self.running_mean), self.momentum)
        return mean, variance

    def _normalize(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return x * _per_channel(scale, x).to(x.dtype) + _per_channel(shift, x).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}, momentum={self.momentum}"


def _per_channel(values: Float[Tensor, "c"], like: Tensor) -> Tensor:
    return values.reshape(1, -1, *([1] * (like.ndim - 2)))
