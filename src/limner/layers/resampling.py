"""Twice the side and half the side, and the kernel that halves together with a convolution.

A 3x3 convolution before the averaging of 2x2 squares is a 4x4 convolution of stride 2, exactly, with 4 products where 9
were; one after nearest-neighbour doubling is such a one's adjoint (Karras et al. 2018, arXiv:1710.10196, do so in their
published code).
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def doubled(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Every pixel repeated to a square of 2x2."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def halved(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Squares of 2x2 pixels averaged."""
    return F.avg_pool2d(x, 2)


def halving_kernel(weight: Float[Tensor, "c2 c 3 3"]) -> Float[Tensor, "c2 c 4 4"]:
    """K with which a convolution of stride 2 and padding 1 is `halved` of the one by `weight`."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return (F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))) / 4  # at place t along a side, (w[t] + w[t - 1]) / 2
