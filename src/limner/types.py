"""The few types every room shares, and the legend of the letters in array shapes.

    n   images in a batch          h, w  height and width, pixels (r: side of a square image)
    d   width of a flat latent     a     attributes
    c   feature channels           3     red, green, blue

Images inside the system are float tensors in [-1, 1]; at rest they are bytes (`limner.pixels` converts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Images: TypeAlias = Float[Tensor, "n 3 h w"]
Latents: TypeAlias = Float[Tensor, "n d"]
Logits: TypeAlias = Float[Tensor, "n"]
Attributes: TypeAlias = Float[Tensor, "n a"]
Scalar: TypeAlias = Float[Tensor, ""]
Logs: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True)
class Draws:
    """Random numbers for one update, the same for every way of splitting its batch.

    The whole global batch is drawn from one CPU generator and this part takes its own rows, so one process, four
    processes and micro-batches see the same numbers for the same image. Draws are made in the order they are asked
    for: a loss must ask for the same ones at every call.
    """

    generator: torch.Generator
    global_size: int
    start: int
    stop: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn[self.start : self.stop].to(self.device, self.dtype, non_blocking=True)

    def uniform(self, *shape: int) -> Tensor:
        """[n, *shape], uniform in [0, 1)."""
        return self._own(torch.rand(self.global_size, *shape, generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        """[n, *shape], standard normal."""
        return self._own(torch.randn(self.global_size, *shape, generator=self.generator))


@dataclass(frozen=True)
class Batch:
    """What a loss is computed from: this process's rows of one update."""

    images: Images
    """real images, [-1, 1]"""
    latents: Latents
    """for the fakes of this update; a conditional model's `attributes` part is the images' own"""
    draws: Draws
    """further randomness, one row per image"""
    attributes: Attributes | None = None
    """the images' attributes, 0 or 1; None where the dataset or the model has none"""
