"""What HoloGAN's discriminators make of pictures; F and D_l are those of `models/hologan.py`."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limner.types import Logits


@dataclass(frozen=True)
class Seen:
    """What the discriminator makes of n pictures."""

    logits: Logits
    z: Float[Tensor, "n d"]
    """as F reads it"""
    angles: Float[Tensor, "n 3"] | None
    """yaw, pitch and roll in radians, where they are read"""
    styles: tuple[Logits, ...] = ()
    """of D_l, layer by layer"""

    def rows(self, which: slice) -> Seen:
        """Of these pictures only."""
        angles = None if self.angles is None else self.angles[which]
        return Seen(self.logits[which], self.z[which], angles, tuple(layer[which] for layer in self.styles))
