"""The probe's network: one trunk of convolutions, and a linear layer for each thing it reads."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.types import Attributes, Images

SMALLEST, LARGEST = 16, 256
"""sides of the pictures a probe can read, pixels; a power of two"""
WIDTH = 192
"""features of a picture"""
PLACES = WIDTH * 4 * 4
"""numbers of the last map"""
EMBEDDING = 64
"""numbers that stand for an identity"""
DROPPED = 0.3
"""share of the last map that is left out at random while training"""
_NARROWEST = 24


@dataclass(frozen=True)
class Reading:
    """What the probe says of n pictures, float32."""

    attributes: Attributes
    """logits [n, a]: more than 0 is yes; a may be 0"""
    pose: Float[Tensor, "n 3"] | None
    """yaw, pitch, roll in radians; None where the dataset had none"""
    identity: Float[Tensor, "n e"] | None
    """of length 1: the nearer, the more alike the person; None where the dataset had no two views of anybody"""
    features: Float[Tensor, "n d"]
    """means of the last map's channels, from which the three are read place by place"""


def join_readings(parts: list[Reading]) -> Reading:
    """Readings of consecutive batches as one, on the CPU."""
    pose = [part.pose for part in parts if part.pose is not None]
    identity = [part.identity for part in parts if part.identity is not None]
    return Reading(
        torch.cat([part.attributes for part in parts]).cpu(),
        torch.cat(pose).cpu() if pose else None,
        torch.cat(identity).cpu() if identity else None,
        torch.cat([part.features for part in parts]).cpu(),
    )


class ProbeNetwork(nn.Module):
    """Pictures to a `Reading`. A few million multiplications a picture, so that two CPU cores train it in minutes.

    The map is halved down to 4² and every reader is one linear layer of all its places: what is told by a few pixels in
    one place, such as a smile, does not come through an average, nor soon through a layer shared with all else.

    Args:
        resolution: side of the pictures, a power of two from SMALLEST to LARGEST pixels.
        attributes: how many.
        pose: whether it reads pose.
        identity: whether it reads identity.
    """

    pose_mean: Tensor
    pose_scale: Tensor

    def __init__(self, resolution: int, attributes: int, pose: bool, identity: bool) -> None:
        super().__init__()
        stages = resolution.bit_length() - 3  # halvings down to 4²
        widths = [max(_NARROWEST, WIDTH >> (stages - 1 - stage)) for stage in range(stages)]
        blocks: list[nn.Module] = [_convolution(3, widths[0], kernel=4, stride=2)]
        for before, after in itertools.pairwise(widths):
            blocks += [_convolution(before, after, kernel=3, stride=2), _Residual(after)]
        self.resolution = resolution
        self.trunk = nn.Sequential(*blocks)
        self.attributes = nn.Linear(PLACES, attributes) if attributes else None
        self.pose = nn.Linear(PLACES, 3) if pose else None
        self.identity = nn.Linear(PLACES, EMBEDDING) if identity else None
        if pose:
            self.register_buffer("pose_mean", torch.zeros(3))
            self.register_buffer("pose_scale", torch.ones(3))

    def forward(self, images: Images, kept: Float[Tensor, "n p"] | None = None) -> Reading:
        """Read the pictures; `kept` multiplies the last map: 0 where it is left out, else 1 / (1 - DROPPED)."""
        places = self.trunk(images).flatten(1)
        features = places.unflatten(1, (WIDTH, -1)).mean(2)
        if kept is not None:
            places = places * kept
        attributes = places.new_zeros(len(images), 0) if self.attributes is None else self.attributes(places)
        pose = None if self.pose is None else self.pose_mean + self.pose_scale * self.pose(places)
        identity = None if self.identity is None else F.normalize(self.identity(places))
        return Reading(attributes, pose, identity, features)


def new_network(
    resolution: int, attributes: int, pose: bool, identity: bool, generator: torch.Generator
) -> ProbeNetwork:
    """A network with weights drawn from `generator` (He's normal; the readers begin at 0, which says nothing)."""
    network = unset_network(resolution, attributes, pose, identity)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for reader in (network.attributes, network.pose):
        if reader is not None:
            nn.init.zeros_(reader.weight)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def unset_network(resolution: int, attributes: int, pose: bool, identity: bool) -> ProbeNetwork:
    """A network whose weights are still to be given. The process's own random numbers are left as they were."""
    with torch.random.fork_rng(devices=[]):
        return ProbeNetwork(resolution, attributes, pose, identity)


class _Residual(nn.Module):
    """x + f(x), then ReLU, with one convolution in f."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return F.relu(x + self.norm(self.convolution(x)))


def _convolution(before: int, after: int, *, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))
