"""Between bytes (files, datasets, metrics) and floats (networks): the one pair of conversions in use everywhere."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor

from limner.types import Images


def to_floats(images: UInt8[Tensor, "n h w 3"], dtype: torch.dtype = torch.float32) -> Images:
    """Bytes, channels last, to floats in [-1, 1], channels first (a view in channels-last memory): x / 127.5 - 1."""
    return images.permute(0, 3, 1, 2).to(dtype).div_(127.5).sub_(1)


def to_bytes(images: Images) -> UInt8[Tensor, "n h w 3"]:
    """Floats, clipped to [-1, 1], to bytes as an image file would hold them: the nearest of 256 levels."""
    return images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
