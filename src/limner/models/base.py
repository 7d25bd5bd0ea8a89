"""What a model is to the rest of the system: its latents, its phases, its stages, and a picture for a latent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
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
    era: int = 0
    """where this changes, the optimizers forget what they have gathered"""
    fading: bool = False
    """a level is being faded in"""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings that go together and have a name: `limner train MODEL --preset NAME`."""

    summary: str
    """one line: whose they are, what they are for"""
    model: Mapping[str, Any] = field(default_factory=dict)
    """fields of the model's settings"""
    run: Mapping[str, Any] = field(default_factory=dict)
    """fields of the run's settings"""


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
    presets: ClassVar[Mapping[str, Preset]] = {}
    """by the names they have on the command line"""
    rows_together: int = 1
    """a loss looks at so many neighbouring rows of a batch together, so a batch may only be divided between them; 0: at
    all rows, so it may not be divided"""

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

    @classmethod
    def with_batch_size(cls, config: Any, batch_size: int) -> Any:
        """Settings for batches of that size at every stage; the same ones where the run's own size is taken anyway."""
        return config

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The updates of one iteration, in order. Called once per trainer."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name in ("generate", "__call__"):
            if name in cls.__dict__:
                raise LimnerError(
                    f"{cls.__qualname__} defines {name}; define forward(latents) instead, which "
                    "generate(latents), generate(seeds=[…]) and model(latents) call"
                )

    @abstractmethod
    def forward(self, latents: Latents) -> Images:
        """[n, d] → [n, 3, resolution, resolution] in [-1, 1]: what `generate` calls."""

    def generate(self, latents: Latents | None = None, *, seeds: Sequence[int] | None = None) -> Images:
        """Return images [n, 3, resolution, resolution] in [-1, 1].

        Args:
            latents: [n, d], such as `model.latents.sample_seeds(seeds)`.
            seeds: whole numbers instead of latents: seed k gives the face that `limner sample --seeds k` draws, bit
                for bit on the same device. Each is computed alone, because the last bits of an image may depend on how
                many are computed with it; for many faces at once, give latents.

        Raises:
            LimnerError: neither or both are given, or they have another form.
        """
        if latents is not None and seeds is None:
            self.latents.check(latents)
            images: Images = super().__call__(latents.to(self._device))
            return images
        if latents is not None or seeds is None:
            raise LimnerError("generate: give either latents, or seeds=[1, 2, 3]")
        rows = self.latents.sample_seeds(seeds).to(self._device)
        return torch.cat([super(Model, self).__call__(row[None]) for row in rows])

    def __call__(self, latents: Latents | None = None, *, seeds: Sequence[int] | None = None) -> Images:
        """As `generate`."""
        return self.generate(latents, seeds=seeds)

    @property
    def _device(self) -> torch.device:
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def __repr__(self) -> str:
        """One line: the model, its size, its latents and, of a loaded one, its weights; `print(model.generator)` and
        `model.named_modules()` show the layers."""
        count = sum(parameter.numel() for parameter in self.parameters())
        facts = [f"{self.resolution}²", f"{count:,} parameters", f"latents {self.latents!r}"]
        origin = getattr(self, "checkpoint", None)
        if origin is not None:
            facts.append(f"{origin.weights} weights at {origin.images_seen:,} images seen, from {origin.path}")
        return f"<{type(self).__name__}: {', '.join(facts)}>"

    def stage(self, images_seen: int) -> Stage:
        """What to train on after `images_seen` images: a pure function of them."""
        return Stage(self.resolution)

    def milestones(self) -> tuple[int, ...]:
        """Images seen at which what is trained changes, from 0 on: where a level begins to fade in, or stands alone."""
        return (0,)

    def images_needed(self) -> int | None:
        """Images that the model's own schedule takes; None where it has none."""
        return None

    def set_images_seen(self, images_seen: int) -> None:
        """Told before every iteration and after loading; a model that grows or fades keeps what it needs."""

    def idle(self) -> tuple[nn.Module, ...]:
        """Modules without a part at the stage last told: they get no gradient, and no step of their optimizer."""
        return ()


@runtime_checkable
class Encodes(Protocol):
    """A model that finds latents for photos."""

    def encode(self, images: Images, attributes: Attributes | None = None) -> Latents:
        """[n, 3, r, r] in [-1, 1] and their attributes [n, a] → latents [n, d], which `generate` turns back.

        The middle of what the model believes, with nothing random in it.

        Raises:
            LimnerError: the model takes attributes and none are given.
        """
