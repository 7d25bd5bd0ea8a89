"""InfoGAN: Interpretable Representation Learning by Information Maximizing Generative Adversarial Nets.

Chen, Duan, Houthooft, Schulman, Sutskever & Abbeel 2016, arXiv:1606.03657. The generator is fed noise z and codes c,
and must keep the codes readable in its pictures. Q(c|x) reads them, and

    L_I(G, Q) = E[log Q(c|x)] + H(c),  c ~ P(c), x = G(z, c)

is a lower bound on the mutual information of codes and pictures. With the game V of GANs:

    min over G and Q, max over D:  V(D, G) - λ L_I(G, Q)

Codes are categorical (Q a softmax) and continuous, uniform on [-1, 1] (Q a Gaussian), all independent; L_I is the sum.
With `codes="attributes"` they are the dataset's attributes instead, drawn as rows of it, and Q is told nothing of which
picture has which: whether a code comes to mean what it is named is for `code_recovery` to measure.

Numbers of equations are left out: they could not be checked against the paper's text.

Departures from the paper:
- The networks are DCGAN's. Q shares the discriminator's convolutions, as in the paper, and adds a hidden layer of
  `width` units, batch norm and ReLU. The shared convolutions are D's: they are trained by V alone, Q's own layers and
  the generator by the whole; so that what one of them learns never reaches another's step.
- V is DCGAN's here, with the non-saturating loss for the generator.
- The discriminator is not conditional on attributes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.errors import LimnerError
from limner.latents import NO_LABELS, AttributeRows, Categorical, Gaussian, Labels, LatentSpace, Part, Uniform
from limner.layers.batch_norm import BatchNorm
from limner.models.base import Model, Phase
from limner.models.dcgan import Discriminator, Generator, initialize
from limner.optim import Adam
from limner.types import Batch, Images, Latents, Logs, Scalar

LOG_VARIANCE_RANGE = (-6.0, 2.0)
"""of Q's Gaussians: a code read without error would make the bound infinite"""


@dataclass(frozen=True, kw_only=True)
class InfoGANConfig:
    """Settings of InfoGAN; the defaults are the paper's for CelebA."""

    latent_dim: int = 128
    """size of z (appendix C)"""
    width: int = 64
    """channels of the widest-open layer, at half the image's side (appendix C)"""
    codes: Literal["paper", "attributes"] = "paper"
    """paper: categorical and continuous; attributes: one binary code per attribute, drawn as rows of the dataset"""
    categories: int = 10
    """how many categorical codes (appendix C)"""
    ways: int = 10
    """values of each (appendix C)"""
    continuous: int = 0
    """how many continuous codes (appendix C has some for other datasets)"""
    information_weight: float = 1.0
    """λ for categorical and binary codes (section 6)"""
    continuous_weight: float = 0.1
    """λ for continuous codes, smaller, as the paper advises (section 6)"""
    learning_rate: float = 2e-4
    """Adam's, for the discriminator (appendix C)"""
    generator_learning_rate: float = 1e-3
    """Adam's, for the generator and Q (appendix C)"""
    beta1: float = 0.5
    """Adam's"""
    beta2: float = 0.999
    """Adam's (its own default)"""
    generator_steps: int = 1
    """updates of the generator and Q per discriminator update"""


class InfoGAN(Model):
    name = "infogan"
    summary = "InfoGAN (Chen et al. 2016): codes that must be readable in the pictures"
    Config = InfoGANConfig
    batch_size = 128

    def __init__(self, config: InfoGANConfig, resolution: int, labels: Labels = NO_LABELS) -> None:
        super().__init__(config, resolution, labels)
        codes = make_codes(config, labels)
        self.code_parts = tuple(part.name for part in codes)
        """the names of the latents' parts that are codes"""
        self.latents = LatentSpace(Gaussian("z", config.latent_dim), *codes)
        self.generator = Generator(self.latents.width, config.width, resolution)
        self.discriminator = Discriminator(config.width, resolution, 0, norm=BatchNorm)
        channels = self.discriminator.channels
        self.reader = Reader(channels, config.width, sum(outputs(part) for part in codes))

    @classmethod
    def takes_attributes(cls, config: InfoGANConfig) -> bool:
        return config.codes == "attributes"

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        adam = Adam(c.learning_rate, c.beta1, c.beta2)
        return (
            Phase(name="discriminator", trains=(self.discriminator,), loss=self.discriminator_loss, optimizer=adam),
            Phase(
                name="generator",
                trains=(self.generator, self.reader),
                loss=self.generator_loss,
                optimizer=Adam(c.generator_learning_rate, c.beta1, c.beta2),
                steps=c.generator_steps,
            ),
        )

    def discriminator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        with torch.no_grad():
            fakes = self.generator(batch.latents)
        real, fake = self.discriminator(batch.images), self.discriminator(fakes)
        loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        return loss, {"loss": loss, "real": real.sigmoid().mean(), "fake": fake.sigmoid().mean()}

    def generator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        features = self.discriminator.features(self.generator(batch.latents))
        fooled = F.softplus(-self.discriminator.judge(features).to(batch.latents.dtype)).mean()
        bounds = self.information(self.reader(features).to(batch.latents.dtype), batch.latents)
        weighted = sum((self.weight(name) * bound for name, bound in bounds.items()), torch.zeros_like(fooled))
        loss = fooled - weighted
        return loss, {"loss": loss, "information": sum(bounds.values(), torch.zeros_like(fooled))}

    def information(self, read: Float[Tensor, "n q"], latents: Latents) -> dict[str, Scalar]:
        """L_I of each code, nats: at most the code's entropy, and 0 for a reader that guesses by the prior."""
        codes = self.latents.split(latents)
        parts = [self.latents.part(name) for name in self.code_parts]
        answers = read.split([outputs(part) for part in parts], dim=1)
        return {
            part.name: log_likelihood(part, answer, codes[part.name]).mean() + entropy(part)
            for part, answer in zip(parts, answers, strict=True)
        }

    def weight(self, name: str) -> float:
        """λ of that code."""
        c = self.config
        return c.continuous_weight if isinstance(self.latents.part(name), Uniform) else c.information_weight

    def forward(self, latents: Latents) -> Images:
        return self.generator(latents)


class Reader(nn.Module):
    """Q's own layers: the discriminator's features [n, c, 4, 4] → [n, q], what it believes of the codes."""

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(16 * channels, width), BatchNorm(width), nn.ReLU(), nn.Linear(width, outputs)
        )
        self.apply(initialize)

    def forward(self, features: Float[Tensor, "n c 4 4"]) -> Float[Tensor, "n q"]:
        return self.layers(F.leaky_relu(features, 0.2).flatten(1))


def make_codes(config: InfoGANConfig, labels: Labels) -> list[Part]:
    """The parts of the latents that are codes."""
    if config.codes == "attributes":
        if not labels.names:
            raise LimnerError(
                "infogan: --codes attributes needs a dataset with attributes (and not --attributes none); "
                "take --codes paper for any other"
            )
        return [AttributeRows("codes", len(labels.names), labels=labels)]
    categorical = [Categorical(f"category_{i + 1}", config.ways) for i in range(config.categories)]
    continuous = [Uniform(f"continuous_{i + 1}", 1) for i in range(config.continuous)]
    if not categorical and not continuous:
        raise LimnerError("infogan: no codes; ask for --categories or --continuous above 0")
    if categorical and config.ways < 2:
        raise LimnerError(f"infogan: ways is {config.ways}; a categorical code needs at least 2 values")
    return [*categorical, *continuous]


def outputs(part: Part) -> int:
    """Numbers that Q gives for a code: logits, or means and then log variances."""
    return 2 * part.width if isinstance(part, Uniform) else part.width


def log_likelihood(part: Part, answer: Float[Tensor, "n q"], code: Float[Tensor, "n w"]) -> Float[Tensor, "n"]:
    """log Q(c|x) of one code, nats."""
    if isinstance(part, Categorical):
        return (answer.log_softmax(dim=1) * code).sum(dim=1)
    if isinstance(part, AttributeRows):
        return -F.binary_cross_entropy_with_logits(answer, code, reduction="none").sum(dim=1)
    mean, log_variance = answer.chunk(2, dim=1)
    log_variance = log_variance.clamp(*LOG_VARIANCE_RANGE)
    squares = (code - mean).square() * torch.exp(-log_variance)
    return -(squares + log_variance + math.log(2 * math.pi)).sum(dim=1) / 2


def entropy(part: Part) -> float:
    """H(c), nats; of the attributes the sum of each one's own, as Q reads each alone."""
    if isinstance(part, Categorical):
        return math.log(part.width)
    if isinstance(part, Uniform):
        return part.width * math.log(part.high - part.low)
    if not isinstance(part, AttributeRows) or part.labels.rows is None:
        raise LimnerError(f"infogan: no entropy is known for the code {part.name!r}")
    share = np.clip(part.labels.rows.mean(axis=0, dtype=np.float64), 1e-12, 1 - 1e-12)
    return float(-(share * np.log(share) + (1 - share) * np.log(1 - share)).sum())
