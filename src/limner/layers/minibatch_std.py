"""Minibatch standard deviation (Karras et al. 2018, arXiv:1710.10196, section 3): variety as a feature."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_EPS = 1e-8  # under the root, whose slope is infinite at 0


def minibatch_std(x: Float[Tensor, "n c h w"], group: int = 4) -> Float[Tensor, "n c+1 h w"]:
    """x with one more plane: the standard deviation over a group of images, averaged over features and pixels.

    Groups are runs of `group` neighbouring rows, the last one of what is left over, so that parts of a batch whose
    sizes are multiples of it see the groups of the whole. One image alone has no deviation.

    Args:
        x: features; left as they are.
        group: images compared with each other; 0 for the whole batch.
    """
    wide = x if x.dtype.itemsize >= 4 else x.float()
    count = len(x)
    size = min(group or count, count)
    if count % size == 0:
        values = _deviation(wide.reshape(count // size, size, *x.shape[1:])).repeat_interleave(size)
    else:
        values = torch.cat([_deviation(part[None]).expand(len(part)) for part in wide.split(size)])
    plane = values.to(x.dtype)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, plane], dim=1)


def _deviation(groups: Float[Tensor, "m g c h w"]) -> Float[Tensor, "m"]:
    centred = groups - groups.mean(dim=1, keepdim=True)
    return (centred.square().mean(dim=1) + _EPS).sqrt().mean(dim=(1, 2, 3))
