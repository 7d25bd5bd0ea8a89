"""Rigid transformations of a volume of features: turned, scaled and moved, with one convention for all.

Axes are the sitter's: x to their right (which is the picture's left), y up, z from the face to the back of the head.
The frame is right-handed, and angles are as in the datasets' `pose.npy`:

    R = Rz(roll) Ry(yaw) Rx(pitch)

nods first, then turns, then tips; positive yaw turns the face to the picture's right, positive pitch lifts it, positive
roll tips it clockwise. A volume [n, c, d, h, w] has d along z, away from the viewer, h along -y and w along -x; its
voxels are cells, and -1 and 1 the outer faces of the first and last one (`align_corners=False`). Turned, voxels are
interpolated trilinearly, and there is nothing, zeros, outside.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

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
) -> Float[Tensor, "n c d h w"]:
    """What is in the volume, turned about its middle, then scaled, then moved.

    Args:
        volume: features.
        turn: rotations, as `rotation` makes them.
        scale: 2 makes it twice as large; None: 1.
        shift: along x, y and z, in halves of the volume's side; None: 0.
    """
    signs = volume.new_tensor(ARRAY_SIGNS)
    back = turn.transpose(1, 2).to(volume)  # from where something is to where it was
    if scale is not None:
        back = back / scale.to(volume)[:, None, None]
    moved = torch.zeros_like(back[:, :, :1]) if shift is None else -back @ shift.to(volume)[:, :, None]
    theta = torch.cat([signs[:, None] * back * signs, signs[:, None] * moved], dim=2)
    grid = F.affine_grid(theta, list(volume.shape), align_corners=False)
    return F.grid_sample(volume, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
