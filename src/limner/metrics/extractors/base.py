"""What a feature extractor is to the metrics: a network with a name, its weights' hash and its own resize rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float, UInt8
from torch import Tensor

from limner.types import Images


@dataclass(frozen=True)
class Features:
    """What a network says of n images, float32: features [n, d], and class logits [n, k] where it has classes."""

    features: Float[Tensor, "n d"]
    logits: Float[Tensor, "n k"] | None = None


class Extractor(ABC):
    """A network that turns images into features. In eval mode, without gradients but in `of_floats`.

    A distance between features says nothing without the network's weights and the way images were resized for it, so
    both are part of it and go on every card.
    """

    name: str
    """as on the command line and in a card: "inception", "efficientnet-lite0", "probe", "torchscript" """
    sha256: str
    """of the weights' file"""
    width: int
    """d, features of an image"""
    resize: str
    """how images come to the network's size: a name in `limner.metrics.extractors.resize.RESIZE_RULES`, or the
    extractor's own"""
    logits_rule: str | None = None
    """which logits these are, where the network has classes; belongs on the card of an Inception score"""

    @abstractmethod
    def of_bytes(self, images: UInt8[Tensor, "n r r 3"]) -> Features:
        """Features of images as a file holds them; on the CPU, whatever the network's device."""

    @abstractmethod
    def of_floats(self, images: Images) -> Float[Tensor, "n d"]:
        """Features of images in [-1, 1], nowhere rounded to bytes, so that small steps show; on the network's device.

        Gradients flow to `images` where they require them.
        """
