"""What a model is to the rest of the system: its latents, its phases, its stages, and a picture for a latent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import nn

from limner.errors import LimnerError
from limner.latents import Labels, LatentSpace
from limner.optim import Adam, RMSprop
from limner.types import Attributes, Batch, Images, Latents, Logs, Scalar


def nothing(logs: Logs) -> None:
    """The default `after_step`."""


def one() -> float:
    """The default `rate`."""
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One kind of update."""

    name: str
    """as in the log: `discriminator`, `generator`"""
    trains: tuple[nn.Module, ...]
    """everything else, batch-norm statistics included, is held fixed while `loss` is computed"""
    loss: Callable[[Batch], tuple[Scalar, Logs]]
    """a mean over the batch's rows (so that parts of a batch can be averaged), and what to log of it"""
    optimizer: Adam | RMSprop
    steps: int = 1
    """updates per iteration; update k of every phase looks at the iteration's k-th batch of reals"""
    after_step: Callable[[Logs], None] = nothing
    """WGAN clips, BEGAN moves k; given what the loss logged, averaged over the whole batch and all processes"""
    rate: Callable[[], float] = one
    """what the learning rate is multiplied by, beside the run's own schedule: a function of the model's buffers"""


@dataclass(frozen=True)
class Stage:
    """What the data pipeline must deliver now."""

    resolution: int
    """pixels"""
    batch_size: int | None = None
    """None: the run's own"""


class Model(nn.Module, ABC):
    """A generative model of faces: networks and losses, no training loop."""

    name: ClassVar[str]
    """as on the command line"""
    summary: ClassVar[str]
    """one line for `limner models`"""
    Config: ClassVar[type]
    """its settings: a frozen dataclass whose defaults are the paper's"""
    batch_size: ClassVar[int]
    """the paper's"""
    resolutions: ClassVar[tuple[int, ...]] = (16, 32, 64, 128, 256)
    """sides it can generate, pixels"""

    latents: LatentSpace
    resolution: int
    """side of a generated image, pixels"""

    @abstractmethod
    def __init__(self, config: Any, resolution: int, labels: Labels) -> None:
        """Networks for square images of `resolution`, conditional on `labels` when they have names."""
        super().__init__()
        if resolution not in self.resolutions:
            raise LimnerError(f"{self.name}: no networks for {resolution}²; choose one of {list(self.resolutions)}")
        self.config = config
        self.resolution = resolution
        self.labels = labels

    @classmethod
    def takes_attributes(cls, config: Any) -> bool:
        """Whether a model with these settings makes anything of the dataset's attributes."""
        return True

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The updates of one iteration, in order. Called once per trainer."""

    @abstractmethod
    def generate(self, latents: Latents) -> Images:
        """[n, d] → [n, 3, resolution, resolution] in [-1, 1]."""

    def stage(self, images_seen: int) -> Stage:
        """What to train on after `images_seen` images: a pure function of them."""
        return Stage(self.resolution)

    def set_images_seen(self, images_seen: int) -> None:
        """Told before every iteration and after loading; a model that grows or fades keeps what it needs."""


@runtime_checkable
class Encodes(Protocol):
    """A model that finds latents for photos."""

    def encode(self, images: Images, attributes: Attributes | None = None) -> Latents:
        """[n, 3, r, r] in [-1, 1] and their attributes [n, a] → latents [n, d], which `generate` turns back.

        The middle of what the model believes, with nothing random in it.

        Raises:
            LimnerError: the model takes attributes and none are given.
        """
