"""Instance normalization, and its adaptive form, whose scale and shift come from elsewhere.

Every channel of every image is brought to mean 0 and variance 1 over its positions (Ulyanov et al. 2016,
arXiv:1607.08022); adaptive instance normalization then multiplies it by a scale and adds a shift that are computed from
a style (Huang & Belongie 2017, arXiv:1703.06868). Positions may have two dimensions or three.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

EPS = 1e-5


def instance_norm(x: Float[Tensor, "n c ..."], eps: float = EPS) -> Float[Tensor, "n c ..."]:
    """(x - mean) / √(variance + eps), both over the positions of one image's channel."""
    return F.instance_norm(x, eps=eps)


def adaptive_instance_norm(
    x: Float[Tensor, "n c ..."], scale: Float[Tensor, "n c"], shift: Float[Tensor, "n c"], eps: float = EPS
) -> Float[Tensor, "n c ..."]:
    """`instance_norm`, times `scale`, plus `shift`."""
    ones = (1,) * (x.ndim - 2)
    return instance_norm(x, eps) * scale.view(*scale.shape, *ones) + shift.view(*shift.shape, *ones)


def instance_statistics(
    x: Float[Tensor, "n c ..."], eps: float = EPS
) -> tuple[Float[Tensor, "n c ..."], Float[Tensor, "n c"], Float[Tensor, "n c"]]:
    """`instance_norm` of x, and what it took away: mean and √(variance + eps), differentiable as all else."""
    variance, mean = torch.var_mean(x, dim=tuple(range(2, x.ndim)), keepdim=True, correction=0)
    deviation = (variance + eps).sqrt()
    return (x - mean) / deviation, mean.flatten(1), deviation.flatten(1)
