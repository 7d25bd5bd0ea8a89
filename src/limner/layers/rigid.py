"""Rigid transformations of a volume of features: turned, scaled and moved, with one convention for all.

Axes are the sitter's: x to their right (which is the picture's left), y up, z from the face to the back of the head.
The frame is right-handed, and angles are as in the datasets' `pose.npy`:

    R = Rz(roll) Ry(yaw) Rx(pitch)

nods first, then turns, then tips; positive yaw turns the face to the picture's right, positive pitch lifts it, positive
roll tips it clockwise. A volume [n, c, d, h, w] has d along z, away from the viewer, h along -y and w along -x; its
voxels are cells, and -1 and 1 the outer faces of the first and last one (`align_corners=False`). Turned, voxels are
interpolated trilinearly, and there is nothing, zeros, outside.

Places are counted in voxels from the middle, halves of whole numbers, so that a volume that is not turned comes out as
it went in, bit for bit. They are the same for all channels, which are kept last: every voxel is a weighted sum of eight
rows of a matrix. On a CPU that takes an eighth of the time of torch's `grid_sample`, forward and backward, which goes
from channel to channel; and unlike that it can be differentiated twice, and repeats exactly on a GPU.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from limner.layers.weighted_rows import Rows, gathered

ARRAY_SIGNS = (-1.0, -1.0, 1.0)
"""of x, y and z along an array's w, h and d"""


def rotation(angles: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3 3"]:
    """R of yaw, pitch and roll in radians; R p is where point p (x, y, z) comes to be."""
    (sin_y, sin_p, sin_r), (cos_y, cos_p, cos_r) = angles.sin().unbind(1), angles.cos().unbind(1)
    rows = [
        cos_r * cos_y,
        cos_r * sin_y * sin_p - sin_r * cos_p,
        cos_r * sin_y * cos_p + sin_r * sin_p,
        sin_r * cos_y,
        sin_r * sin_y * sin_p + cos_r * cos_p,
        sin_r * sin_y * cos_p - cos_r * sin_p,
        -sin_y,
        cos_y * sin_p,
        cos_y * cos_p,
    ]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def placed(
    volume: Float[Tensor, "n c d h w"],
    turn: Float[Tensor, "n 3 3"],
    scale: Float[Tensor, "n"] | None = None,
    shift: Float[Tensor, "n 3"] | None = None,
    doubled: bool = False,
) -> Float[Tensor, "n c d2 h2 w2"]:
    """What is in the volume, turned about its middle, then scaled, then moved.

    Args:
        volume: features.
        turn: rotations, as `rotation` makes them.
        scale: 2 makes it twice as large; None: 1.
        shift: along x, y and z, in halves of the volume's sides; None: 0.
        doubled: every voxel is first repeated to a cube of 2x2x2; the outcome is of these sides.
    Returns:
        A volume in channels-last memory.
    """
    n, channels, *sides = volume.shape
    made = [2 * side for side in sides] if doubled else sides
    with torch.autocast(volume.device.type, enabled=False):
        corners = [
            _corners(along, 2 if doubled else 1) for along in zip(_places(turn, scale, shift, made), made, strict=True)
        ]
        (d, of_d), (h, of_h), (w, of_w) = corners
        weights = (d[..., :, None, None] * h[..., None, :, None] * w[..., None, None, :]).view(-1, 8)
        index = of_d[..., :, None, None] * (sides[1] * sides[2]) + of_h[..., None, :, None] * sides[2]
        rows = Rows((index + of_w[..., None, None, :]).view(n, -1, 8), sides[0] * sides[1] * sides[2])
    x = volume.permute(0, 2, 3, 4, 1).reshape(-1, channels)
    return gathered(x, weights.to(x.dtype), rows).view(n, *made, channels).permute(0, 4, 1, 2, 3)


def posed(
    volume: Float[Tensor, "n c d h w"],
    pose: Float[Tensor, "n 3"],
    placement: Float[Tensor, "n 4"] | None = None,
    doubled: bool = False,
) -> Float[Tensor, "n c d2 h2 w2"]:
    """`placed`, by yaw, pitch and roll in radians and perhaps a scale and three shifts."""
    if placement is None:
        return placed(volume, rotation(pose), doubled=doubled)
    return placed(volume, rotation(pose), placement[:, 0], placement[:, 1:], doubled)


def _places(
    turn: Float[Tensor, "n 3 3"], scale: Float[Tensor, "n"] | None, shift: Float[Tensor, "n 3"] | None, sides: list[int]
) -> list[Float[Tensor, "n d h w"]]:
    """Where along d, h and w, in voxels, what comes to be at each voxel was before."""
    dtype = torch.promote_types(turn.dtype, torch.float32)
    signs = torch.tensor(ARRAY_SIGNS, dtype=dtype, device=turn.device)
    array_turn = (signs[:, None] * turn.to(dtype) * signs).flip(1, 2)  # in d, h and w
    back = array_turn if scale is None else array_turn / scale.to(dtype)[:, None, None]
    steps = [torch.arange(side, dtype=dtype, device=turn.device) - (side - 1) / 2 for side in sides]
    from_middle = [step.expand(len(turn), -1) for step in steps]
    if shift is not None:
        moved = (signs * shift.to(dtype)).flip(1) * (torch.tensor(sides, dtype=dtype, device=turn.device) / 2)
        from_middle = [step - along for step, along in zip(from_middle, moved.split(1, dim=1), strict=True)]
    d, h, w = from_middle
    return [  # the inverse of a rotation is its transpose
        (row[:, 0, None] * d)[:, :, None, None]
        + (row[:, 1, None] * h)[:, None, :, None]
        + (row[:, 2, None] * w)[:, None, None, :]
        + (side - 1) / 2
        for row, side in zip(back.unbind(2), sides, strict=True)
    ]


def _corners(
    along: tuple[Float[Tensor, "n d h w"], int], repeats: int
) -> tuple[Float[Tensor, "n d h w 2"], Int64[Tensor, "n d h w 2"]]:
    """Of places along a side, weights of the voxels before and after, 0 outside, and which voxels these are."""
    place, side = along
    before = place.detach().floor()
    part = place - before
    cells = torch.stack([before, before + 1], dim=-1)
    weights = torch.stack([1 - part, part], dim=-1) * ((cells >= 0) & (cells < side))
    return weights, cells.clamp(0, side - 1).long() // repeats
