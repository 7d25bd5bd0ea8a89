"""What all eight models of the collection share, and six of them: `benchmarks.collection_models` says how rebuilt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from benchmarks.collection_networks import Autoencoder, Discriminator, Generator, Size, draw_weights, hidden_head
from torch import Tensor, nn

from limner.latents import NO_LABELS, AttributeRows, Gaussian, Labels, LatentSpace

Losses = dict[str, float]


class Collected(nn.Module, ABC):
    """A model with its training step; generates as limner's own do, so that limner's metrics can measure it."""

    name: ClassVar[str]
    part: ClassVar[str] = "attributes"
    """what the latents call the attributes"""
    code_parts: ClassVar[tuple[str, ...]] = ()
    """parts of the latents that the model itself is to give a meaning"""
    batches: ClassVar[int] = 1
    """of images, after which every network has been trained"""

    def __init__(self, size: Size, rows: Tensor, labels: Labels = NO_LABELS) -> None:
        """Take the attribute rows of the data [k, a] to draw from, and the labels that limner's metrics read."""
        super().__init__()
        self.size, self.rows, self.resolution = size, rows, size.resolution
        self.labels = labels
        self.latents = LatentSpace(
            Gaussian("z", size.latent_dim), AttributeRows(self.part, size.attributes, labels=labels)
        )
        self.steps = 0
        self.every_optimizer: list[torch.optim.Adam] = []
        self.generator = Generator(size).apply(draw_weights)

    @abstractmethod
    def step(self, images: Tensor, attributes: Tensor) -> Losses:
        """One batch of images in [0, 1] with their attributes."""

    def adam(self, *modules: nn.Module) -> torch.optim.Adam:
        """The optimizer of these networks together."""
        parameters = [parameter for module in modules for parameter in module.parameters()]
        self.every_optimizer.append(torch.optim.Adam(parameters, lr=1e-4, betas=(0.5, 0.999)))
        return self.every_optimizer[-1]

    def set_learning_rate(self, rate: float) -> None:
        """Another than the collection's, to see what is its doing."""
        for optimizer in self.every_optimizer:
            optimizer.param_groups[0]["lr"] = rate

    def fakes(self, n: int) -> tuple[Tensor, Tensor]:
        """New images, and the attributes they were asked for: rows of the data."""
        attributes = self.rows[torch.randint(len(self.rows), (n,))]
        return self.generator(torch.randn(n, self.size.latent_dim), attributes), attributes

    def generate(self, latents: Tensor) -> Tensor:
        """[n, d] → [n, 3, r, r] in [-1, 1]."""
        z, attributes = latents.split([self.size.latent_dim, self.size.attributes], dim=1)
        return 2 * self.generator(z, attributes) - 1


class Alternating(Collected):
    """Discriminator and generator are stepped in turn, one of them more often."""

    batches = 2
    generator_every: ClassVar[int] = 1
    """batches per generator step; the discriminator is stepped once in `batches / generator_every` of these"""

    def step(self, images: Tensor, attributes: Tensor) -> Losses:
        losses: Losses = {}
        if self.steps % (self.batches // self.generator_every) == 0:
            losses |= self.step_discriminator(images, attributes)
        self.steps += 1
        if self.steps % self.generator_every == 0:
            losses |= self.step_generator(len(images))
        return losses

    @abstractmethod
    def step_discriminator(self, images: Tensor, attributes: Tensor) -> Losses: ...

    @abstractmethod
    def step_generator(self, n: int) -> Losses: ...


class Adversarial(Alternating):
    """A generator and a discriminator; what differs is what they want."""

    norm: ClassVar[type[nn.Module]] = nn.BatchNorm2d
    drawn: ClassVar[bool] = True
    """whether the discriminator starts from `draw_weights`"""

    def __init__(self, size: Size, rows: Tensor, labels: Labels = NO_LABELS) -> None:
        super().__init__(size, rows, labels)
        self.discriminator = Discriminator(size, self.norm)
        if self.drawn:
            self.discriminator.apply(draw_weights)
        self.optimizer_d, self.optimizer_g = self.adam(self.discriminator), self.adam(self.generator)

    def step_discriminator(self, images: Tensor, attributes: Tensor) -> Losses:
        with torch.no_grad():
            fakes, asked = self.fakes(len(images))
        self.optimizer_d.zero_grad()
        loss = self.discriminator_loss(self.discriminator(images, attributes), self.discriminator(fakes, asked))
        loss = loss + self.penalty(images, fakes, attributes)
        loss.backward()
        self.optimizer_d.step()
        return {"discriminator": loss.item()}

    def step_generator(self, n: int) -> Losses:
        self.optimizer_g.zero_grad()
        loss = self.generator_loss(self.discriminator(*self.fakes(n)))
        loss.backward()
        self.optimizer_g.step()
        return {"generator": loss.item()}

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return minus_log(real.sigmoid()) + minus_log(1 - fake.sigmoid())

    def generator_loss(self, fake: Tensor) -> Tensor:
        return minus_log(fake.sigmoid())

    def penalty(self, reals: Tensor, fakes: Tensor, attributes: Tensor) -> Tensor:
        return torch.zeros(())


class DCGAN(Adversarial):
    name = "dcgan"


class LSGAN(Adversarial):
    """-1 is the code of the real ones, 1 of the fakes, and 0 what the generator wants."""

    name = "lsgan"

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return (real + 1).square().mean() / 2 + (fake - 1).square().mean() / 2

    def generator_loss(self, fake: Tensor) -> Tensor:
        return fake.square().mean() / 2


class Wasserstein(Adversarial):
    batches = generator_every = 5
    drawn = False

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        return -fake.mean()


class WGAN(Wasserstein):
    name = "wgan"
    bound = 0.01

    @torch.no_grad()
    def step_discriminator(self, images: Tensor, attributes: Tensor) -> Losses:
        for parameter in self.discriminator.parameters():
            parameter.clamp_(-self.bound, self.bound)
        with torch.enable_grad():
            return super().step_discriminator(images, attributes)


class WGANGP(Wasserstein):
    """The penalty's images lie between reals and fakes, and are judged with the reals' attributes."""

    name = "wgan-gp"
    norm = nn.InstanceNorm2d
    gp_weight = 10.0

    def penalty(self, reals: Tensor, fakes: Tensor, attributes: Tensor) -> Tensor:
        between = torch.lerp(fakes, reals, torch.rand(len(reals), 1, 1, 1)).requires_grad_()
        judged = self.discriminator(between, attributes).sum()
        (gradient,) = torch.autograd.grad(judged, between, create_graph=True)
        return self.gp_weight * (gradient.flatten(1).norm(dim=1) - 1).square().mean()


class InfoGAN(Alternating):
    """Not conditional: Q is to recover from a fake the row of attributes that made it."""

    name = "infogan"
    part = "codes"
    code_parts = ("codes",)

    def __init__(self, size: Size, rows: Tensor, labels: Labels = NO_LABELS) -> None:
        super().__init__(size, rows, labels)
        alone = Size(size.width, size.latent_dim, 0, size.resolution)
        self.discriminator = Discriminator(alone).apply(draw_weights)
        self.q = hidden_head(size, size.attributes).apply(draw_weights)
        self.optimizer_d, self.optimizer_g = self.adam(self.discriminator), self.adam(self.generator, self.q)

    def step_discriminator(self, images: Tensor, attributes: Tensor) -> Losses:
        with torch.no_grad():
            fakes, codes = self.fakes(len(images))
        self.optimizer_d.zero_grad()
        self.q.zero_grad()
        real, _ = self._look(images)
        fake, said = self._look(fakes)
        information = F.binary_cross_entropy_with_logits(said, codes)
        loss = minus_log(real.sigmoid()) + minus_log(1 - fake.sigmoid()) + information
        loss.backward()
        self.optimizer_d.step()
        return {"discriminator": loss.item()}

    def step_generator(self, n: int) -> Losses:
        self.generator.zero_grad()  # and not Q's: what the discriminator's step left there is stepped along
        fakes, codes = self.fakes(n)
        fake, said = self._look(fakes)
        information = F.binary_cross_entropy_with_logits(said, codes)
        loss = minus_log(fake.sigmoid()) + information
        loss.backward()
        self.optimizer_g.step()
        return {"generator": loss.item(), "information": information.item()}

    def _look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's number and Q's logits of the codes."""
        features = self.discriminator.features(images, torch.zeros(len(images), 0))
        return self.discriminator.judge(features), self.q(F.leaky_relu(features, 0.2).flatten(1))


class BEGAN(Alternating):
    name = "began"
    gamma, k_rate = 0.5, 0.001

    def __init__(self, size: Size, rows: Tensor, labels: Labels = NO_LABELS) -> None:
        super().__init__(size, rows, labels)
        self.discriminator = Autoencoder(size)
        self.discriminator.decoder.apply(draw_weights)
        self.k = 0.0
        self.optimizer_d, self.optimizer_g = self.adam(self.discriminator), self.adam(self.generator)

    def step_discriminator(self, images: Tensor, attributes: Tensor) -> Losses:
        with torch.no_grad():
            fakes, asked = self.fakes(len(images))
        self.optimizer_d.zero_grad()
        real, fake = self.error(images, attributes), self.error(fakes, asked)
        (real - self.k * fake).backward()
        self.optimizer_d.step()
        self.balance(real.item(), fake.item())
        measure = real.item() + abs(self.gamma * real.item() - fake.item())
        return {"real": real.item(), "fake": fake.item(), "k": self.k, "measure": measure}

    def step_generator(self, n: int) -> Losses:
        self.optimizer_g.zero_grad()
        loss = self.error(*self.fakes(n))
        loss.backward()
        self.optimizer_g.step()
        return {"generator": loss.item()}

    def error(self, images: Tensor, attributes: Tensor) -> Tensor:
        """L1 distance between images and what the autoencoder makes of them."""
        return (images - self.discriminator(images, attributes)).abs().mean()

    def balance(self, real: float, fake: float) -> None:
        self.k = min(max(self.k + self.k_rate * (self.gamma * real - fake), 0.0), 1.0)


def minus_log(probability: Tensor) -> Tensor:
    return -(probability + 1e-8).log().mean()
