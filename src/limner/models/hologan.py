"""HoloGAN: Unsupervised Learning of 3D Representations From Natural Images.

Nguyen-Phuoc, Li, Theis, Richardt & Yang 2019, arXiv:1904.01326. The generator makes a volume of features out of a
learned constant, turns it in three dimensions by a random pose, and only then draws it: a projection unit folds its
depth into channels, and convolutions in two dimensions make the picture. Nobody tells it any pose; but since pictures
of all poses must look real, what it puts into the volume has to look like a head from every side.

z is told to every layer but the projection as a style: adaptive instance normalization, whose scale and shift are
computed from z (before the pose and after it: what a head looks like, not where it looks). Three losses:

    L_GAN        the game of discriminator D and generator G, as in GANs; G's loss does not saturate
    L_identity   E ||z - F(G(z))||²: an encoder F, which shares D's convolutions, must find z in the picture
    L_style      at every normalized layer l of D, a classifier D_l must tell reals from fakes by the mean and the
                 deviation of the layer's channels alone; for G, E[-log D_l(G(z))]

    L = L_GAN + λ_i L_identity + λ_s sum over l of L_style,l

Numbers of equations are left out: they could not be checked against the paper's text.

Departures from the paper:
- The mean of z's squared errors stands for their sum, as in the authors' code.
- The style loss is there at all resolutions; the authors' code has it for 128².
- `--angle-weight` adds an encoder of the pose, a loss like the identity's; Beckham's re-implementation has it. Wide
  turns then go back and forth less (`benchmarks/results/hologan_turns.md`).
- The last convolution has kernel 3 instead of 4, which has no middle.
- A convolution that is normalized has no bias, which the normalization would take away again.
- σ of spectral normalization is found by one power iteration a step of D, not one a pass.
- A turned volume has nothing, zeros, outside; the authors' code repeats its border.
- 16², 32² and 256² have the same networks with fewer or more layers.
- No attributes: it learns from pictures alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner.errors import LimnerError
from limner.games import zero_centred_penalty
from limner.latents import NO_LABELS, Box, Gaussian, Labels, LatentSpace, Pose, Uniform
from limner.layers.convolution import Convolution, TransposedConvolution
from limner.layers.instance_norm import adaptive_instance_norm, instance_norm, instance_statistics
from limner.layers.rigid import posed
from limner.layers.spectral import SpectralConvolution, power_iteration
from limner.layers.volume import DoublingVolumeConvolution, VolumeConvolution, folded
from limner.models.base import Model, Phase
from limner.models.presets.hologan import PRESETS
from limner.models.presets.hologan_residual import ResidualDiscriminator, ResidualGenerator
from limner.models.presets.hologan_seen import Seen
from limner.optim import Adam
from limner.types import Batch, Images, Latents, Logits, Logs, Scalar

Range: TypeAlias = tuple[float, float]

DRAWN_FROM = 16
"""side of the volume that is turned and drawn"""


@dataclass(frozen=True, kw_only=True)
class HoloGANConfig:
    """Settings of HoloGAN; the defaults are the paper's, or the authors' code's where that is said."""

    latent_dim: int = 128
    """size of z"""
    latents: Literal["uniform", "gaussian"] = "uniform"
    """z uniform between -1 and 1, or standard normal"""
    yaw: Range = (-50.0, 50.0)
    """range, degrees, of random turns to the left and right (the authors' code)"""
    pitch: Range = (-20.0, 20.0)
    """range, degrees, of random nods (the authors' code)"""
    roll: Range = (0.0, 0.0)
    """range, degrees, of random tilts (the authors' code)"""
    scale: Range = (1.0, 1.0)
    """range of random sizes, 1 for as large as it is"""
    shift: Range = (0.0, 0.0)
    """range of random moves along each axis, in halves of the volume's side"""
    networks: Literal["paper", "deep", "residual"] = "paper"
    """paper: up to 64², above that those for 128²; deep: those for 128² at all resolutions; residual: Beckham's"""
    width: int = 64
    """channels of the generator: 8 times as many in the constant (the authors' code)"""
    discriminator_width: int = 64
    """channels of the discriminator's first layer (the authors' code)"""
    spectral_norm: bool = True
    """of the discriminator's convolutions"""
    game: Literal["non-saturating", "hinge"] = "non-saturating"
    """L_GAN; hinge: Lim & Ye 2017, arXiv:1705.02894"""
    r1_weight: float = 0.0
    """γ of the zero-centred gradient penalty at 64², elsewhere in proportion to the pixels"""
    identity_weight: float = 1.0
    """λ_i"""
    angle_weight: float = 0.0
    """of the squared error of yaw, pitch and roll, radians, as a further encoder reads them; 0: no such encoder"""
    style_weight: float = 1.0
    """λ_s; 0: no style classifiers"""
    style_in_generator: bool = True
    """False: only the discriminator's loss has a style loss, as in the authors' code"""
    generator_steps: int = 2
    """generator updates per discriminator update (the authors' code)"""
    learning_rate: float = 1e-4
    """Adam's, for both networks (the authors' code)"""
    beta1: float = 0.5
    """Adam's (the authors' code)"""
    beta2: float = 0.999
    """Adam's (the authors' code)"""


class HoloGAN(Model):
    name = "hologan"
    summary = "HoloGAN (Nguyen-Phuoc et al. 2019): faces that turn, learned from pictures alone"
    Config = HoloGANConfig
    batch_size = 32
    presets = PRESETS

    def __init__(self, config: HoloGANConfig, resolution: int, labels: Labels = NO_LABELS) -> None:
        super().__init__(config, resolution, labels)
        _check(config)
        z = Uniform("z", config.latent_dim) if config.latents == "uniform" else Gaussian("z", config.latent_dim)
        self.latents = LatentSpace(z, make_pose(config), make_placement(config))
        make_generator, make_discriminator = networks(config)
        self.generator, self.discriminator = make_generator(config, resolution), make_discriminator(config, resolution)

    @classmethod
    def takes_attributes(cls, config: HoloGANConfig) -> bool:
        return False

    # --- training -----------------------------------------------------------------------------------------------------

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        adam = Adam(c.learning_rate, c.beta1, c.beta2)
        return (
            Phase(
                name="discriminator",
                trains=(self.discriminator,),
                loss=self.discriminator_loss,
                optimizer=adam,
                after_step=lambda logs: power_iteration(self.discriminator),
            ),
            Phase(
                name="generator",
                trains=(self.generator,),
                loss=self.generator_loss,
                optimizer=adam,
                steps=c.generator_steps,
            ),
        )

    def discriminator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        with torch.no_grad():
            fakes = self.generate(batch.latents)
        seen = self.discriminator(torch.cat([batch.images, fakes]))
        (real, fake), seen_in_fakes = seen.logits.chunk(2), seen.rows(slice(len(fakes), None))
        loss = GAMES[self.config.game].discriminator(real, fake).mean()
        logs = {"margin": (real - fake).mean()}
        if self.config.r1_weight > 0:
            logs["penalty"] = zero_centred_penalty(lambda images: self.discriminator(images).logits, batch.images)
            loss = loss + self.config.r1_weight * (self.resolution / 64) ** 2 / 2 * logs["penalty"]
        errors = self.encoding_errors(seen_in_fakes, batch.latents)
        styles = [logistic(*layer.chunk(2)).mean() for layer in seen.styles]
        loss = loss + self.weighted(errors) + self.config.style_weight * sum(styles)
        return loss, {"loss": loss, **logs, **errors, **_style_log(styles)}

    def generator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        seen = self.discriminator(self.generate(batch.latents))
        fooled = GAMES[self.config.game].generator(seen.logits).mean()
        errors = self.encoding_errors(seen, batch.latents)
        styles = [not_saturating(layer).mean() for layer in seen.styles] if self.config.style_in_generator else []
        loss = fooled + self.weighted(errors) + self.config.style_weight * sum(styles)
        return loss, {"loss": loss, "fooled": fooled, **errors, **_style_log(styles)}

    def encoding_errors(self, seen: Seen, latents: Latents) -> dict[str, Scalar]:
        """L_identity, and the same of the pose where an encoder reads it: means over rows and columns."""
        asked = self.latents.split(latents)
        errors = {"identity": (seen.z - asked["z"]).square().mean()}
        if seen.angles is not None:
            errors["angles"] = (seen.angles - asked["pose"]).square().mean()
        return errors

    def weighted(self, errors: dict[str, Scalar]) -> Scalar:
        weights = {"identity": self.config.identity_weight, "angles": self.config.angle_weight}
        return torch.stack([weights[name] * error for name, error in errors.items()]).sum()

    def forward(self, latents: Latents) -> Images:
        parts = self.latents.split(latents)
        return self.generator(parts["z"], parts["pose"], parts.get("placement"))


def networks(config: HoloGANConfig) -> tuple[type[nn.Module], type[nn.Module]]:
    """The classes of generator and discriminator."""
    if config.networks == "residual":
        return ResidualGenerator, ResidualDiscriminator
    return Generator, Discriminator


def logistic(real: Logits, fake: Logits) -> Logits:
    """-log D(x) - log(1 - D(G(z))), D the sigmoid of a logit."""
    return F.softplus(-real) + F.softplus(fake)


def not_saturating(fake: Logits) -> Logits:
    """-log D(G(z))."""
    return F.softplus(-fake)


def hinge(real: Logits, fake: Logits) -> Logits:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z)))."""
    return F.relu(1 - real) + F.relu(1 + fake)


def as_it_is(fake: Logits) -> Logits:
    """-D(G(z)), beside `hinge`."""
    return -fake


@dataclass(frozen=True)
class Players:
    """What two logits, of a real and a fake, cost the discriminator, and what a fake's costs the generator."""

    discriminator: Callable[[Logits, Logits], Logits]
    generator: Callable[[Logits], Logits]


GAMES = {"non-saturating": Players(logistic, not_saturating), "hinge": Players(hinge, as_it_is)}


def _style_log(styles: list[Scalar]) -> dict[str, Scalar]:
    return {"style": torch.stack(styles).mean()} if styles else {}


def make_pose(config: HoloGANConfig) -> Pose:
    """Of the latents, yaw, pitch and roll."""
    low, high = zip(config.yaw, config.pitch, config.roll, strict=True)
    return Pose("pose", 3, tuple(map(math.radians, low)), tuple(map(math.radians, high)))


def make_placement(config: HoloGANConfig) -> Box:
    """Of the latents, size and place: scale and three shifts, or nothing where these are always the same."""
    low, high = zip(config.scale, *[config.shift] * 3, strict=True)
    wanted = (low, high) != ((1.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
    return Box("placement", 4, low, high) if wanted else Box("placement", 0, (), ())


# --- generator --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A generator's channels, in multiples of its width."""

    volume: tuple[float, float, float]
    """at 4³, 8³ and 16³"""
    turned: tuple[float, ...]
    """of convolutions after the turn"""
    projected: float
    """after the projection unit"""
    images: tuple[float, ...]
    """at 32², 64², …"""
    slope: float
    """of the leaky ReLU"""


SMALL = Plan(volume=(8.0, 2.0, 1.0), turned=(), projected=16.0, images=(4.0, 1.0), slope=0.0)
LARGE = Plan(volume=(8.0, 4.0, 2.0), turned=(1.0, 1.0), projected=8.0, images=(4.0, 1.0, 0.5, 0.25), slope=0.2)


class Generator(nn.Module):
    """z [n, d], yaw, pitch and roll [n, 3] in radians, and perhaps scale and shift [n, 4] → [n, 3, r, r] in [-1, 1]."""

    def __init__(self, config: HoloGANConfig, resolution: int) -> None:
        super().__init__()
        plan = LARGE if config.networks == "deep" or resolution > 64 else SMALL
        self.slope = plan.slope

        def channels(multiples: tuple[float, ...]) -> list[int]:
            return [max(1, round(multiple * config.width)) for multiple in multiples]

        volume, d = channels(plan.volume), config.latent_dim
        self.constant = nn.Parameter(0.02 * torch.randn(1, volume[0], 4, 4, 4))
        self.first_style = Style(d, volume[0])
        self.volume = nn.ModuleList(
            [
                Styled(DoublingVolumeConvolution(*pair, bias=False), Style(d, pair[1]))
                for pair in itertools.pairwise(volume)
            ]
        )
        turned = channels((plan.volume[-1], *plan.turned))
        self.turned = nn.ModuleList([VolumeConvolution(*pair) for pair in itertools.pairwise(turned)])
        images = channels((plan.projected, *plan.images[: (resolution // DRAWN_FROM).bit_length() - 1]))
        self.projection = Convolution(DRAWN_FROM * turned[-1], images[0], 1, 1, 0)
        self.images = nn.ModuleList(
            [
                Styled(TransposedConvolution(*pair, 4, 2, 1, bias=False), Style(d, pair[1]))
                for pair in itertools.pairwise(images)
            ]
        )
        self.last = Convolution(images[-1], 3, 3, 1, 1)
        self.apply(initialize)

    def forward(
        self, z: Float[Tensor, "n d"], pose: Float[Tensor, "n 3"], placement: Float[Tensor, "n 4"] | None = None
    ) -> Images:
        constant, (scale, shift) = self.constant.expand(len(z), -1, -1, -1, -1), self.first_style(z)
        x = self.rectified(adaptive_instance_norm(constant, scale, shift, ADAPTIVE_EPS))
        for block in self.volume:
            x = self.rectified(block(x, z))
        x = posed(x, pose, placement)
        for convolution in self.turned:
            x = self.rectified(convolution(x))
        x = self.rectified(self.projection(folded(x)))
        for block in self.images:
            x = self.rectified(block(x, z))
        return self.last(x).to(z.dtype).tanh()

    def rectified(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope)


ADAPTIVE_EPS = 1e-8
"""the authors' code's, in the generator"""


class Style(nn.Module):
    """z [n, d] → scale and shift [n, c] of adaptive instance normalization, none of them negative."""

    def __init__(self, latent_dim: int, channels: int) -> None:
        super().__init__()
        self.mapping = nn.Linear(latent_dim, 2 * channels)

    def forward(self, z: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
        scale, shift = F.relu(self.mapping(z)).chunk(2, dim=1)
        return scale, shift


class Styled(nn.Module):
    """A convolution whose outcome has the mean and the deviation that its style says."""

    def __init__(self, convolution: nn.Module, style: Style) -> None:
        super().__init__()
        self.convolution = convolution
        self.style = style

    def forward(self, x: Float[Tensor, "n c ..."], z: Float[Tensor, "n d"]) -> Float[Tensor, "n c2 ..."]:
        scale, shift = self.style(z)
        return adaptive_instance_norm(self.convolution(x), scale, shift, ADAPTIVE_EPS)


# --- discriminator ----------------------------------------------------------------------------------------------------


class Discriminator(nn.Module):
    """[n, 3, r, r] → `Seen`: convolutions of stride 2 down to 4², normalized each picture by itself."""

    def __init__(self, config: HoloGANConfig, resolution: int) -> None:
        super().__init__()
        levels = resolution.bit_length() - 3  # halvings down to 4²
        widths = [config.discriminator_width * min(2**level, 16) for level in range(levels)]
        styled = config.style_weight > 0
        self.first = Convolution(3, widths[0], 5, 2, 2)
        self.blocks = nn.ModuleList(
            [DiscriminatorBlock(*pair, config.spectral_norm, styled) for pair in itertools.pairwise(widths)]
        )
        flat = 16 * widths[-1]
        self.judge = nn.Linear(flat, 1)
        self.encoder = nn.Linear(flat, 128)
        self.z = nn.Linear(128, config.latent_dim)
        self.angles = nn.Linear(128, 3) if config.angle_weight > 0 else None
        self.bounded = config.latents == "uniform"
        self.apply(initialize)

    def forward(self, images: Images) -> Seen:
        x = F.leaky_relu(self.first(images), 0.2)
        styles = []
        for block in self.blocks:
            x, style = block(x)
            styles += [] if style is None else [style.to(images.dtype)]
        x = x.flatten(1)
        code = F.leaky_relu(self.encoder(x), 0.2)
        z = self.z(code).to(images.dtype)
        angles = None if self.angles is None else self.angles(code).to(images.dtype)
        logits = self.judge(x).flatten().to(images.dtype)
        return Seen(logits, z.tanh() if self.bounded else z, angles, tuple(styles))


class DiscriminatorBlock(nn.Module):
    """[n, c, h, w] → [n, c2, h/2, w/2], and the logits [n] of a classifier of its style where there is one."""

    def __init__(self, before: int, after: int, spectral: bool, styled: bool) -> None:
        super().__init__()
        self.convolution = (SpectralConvolution if spectral else Convolution)(before, after, 5, 2, 2, bias=False)
        self.scale = nn.Parameter(torch.empty(after).normal_(1.0, 0.02))
        self.shift = nn.Parameter(torch.zeros(after))
        self.style = nn.Linear(2 * after, 1) if styled else None

    def forward(self, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n c2 h2 w2"], Logits | None]:
        x = self.convolution(x)
        if self.style is None:
            normalized, logits = instance_norm(x), None
        else:
            normalized, mean, deviation = instance_statistics(x)
            logits = self.style(torch.cat([mean, deviation], dim=1)).flatten()
        x = normalized * self.scale[:, None, None] + self.shift[:, None, None]
        return F.leaky_relu(x, 0.2), logits


def initialize(module: nn.Module) -> None:
    """Weights from a zero-centred normal of standard deviation 0.02, biases 0 (the authors' code)."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Conv3d | nn.ConvTranspose3d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check(config: HoloGANConfig) -> None:
    def require(name: str, good: bool, wanted: str) -> None:
        if not good:
            raise LimnerError(f"{name} is {getattr(config, name)}, expected {wanted}")

    for name in ("yaw", "pitch", "roll", "scale", "shift"):
        low, high = getattr(config, name)
        require(name, math.isfinite(low) and math.isfinite(high) and low <= high, "two numbers, the lower one first")
    for name in ("yaw", "pitch", "roll"):
        low, high = getattr(config, name)
        require(name, low >= -180 and high <= 180, "degrees between -180 and 180")
    require("scale", config.scale[0] > 0, "numbers above 0")
    for name in ("width", "discriminator_width", "latent_dim", "generator_steps"):
        require(name, getattr(config, name) >= 1, "at least 1")
    for name in ("r1_weight", "identity_weight", "angle_weight", "style_weight"):
        require(name, getattr(config, name) >= 0, "a number not below 0")
    require("learning_rate", config.learning_rate > 0, "a number above 0")
