"""ProGAN: Progressive Growing of GANs for Improved Quality, Stability, and Variation.

Karras, Aila, Laine & Lehtinen 2018, arXiv:1710.10196. Training starts at 4²; layers for 8², 16², … are added to both
networks one after another and faded in, generator and discriminator being mirror images of each other
(`limner.growing`: when). Four more ideas, each a layer of its own:

    section 3     minibatch standard deviation, so that the discriminator sees a lack of variety
    section 4.1   equalized learning rate: weights ~ N(0, 1), scaled at run time by He's constant
    section 4.2   pixelwise feature vector normalization in the generator
    appendix A.1  latents on the hypersphere, leaky ReLU of slope 0.2, an average of the generator's weights

The loss is WGAN-GP's, equation (3) of Gulrajani et al. 2017, arXiv:1704.00028, and, so that D's outputs do not drift
away from 0, a small multiple of E[D(x)²] (appendix A.1):

    (3)   L = E[D(x~)] - E[D(x)] + λ E[(||grad D(x^)||₂ - 1)²] + ε E[D(x)²],    G minimizes -E[D(G(z))]

Departures from the paper:
- The standard deviation is taken over groups of 4 images, as in the authors' code after the paper, not over the batch.
- Doubling and halving are part of a convolution, as in the authors' code; in the discriminator that averages before
  the leaky ReLU instead of after it. `--no-fused-scale` takes them apart.
- Conditional on attributes when there are any: joined to z, and in the discriminator by projection (Miyato & Koyama
  2018, arXiv:1802.05637), D(x, y) = D(x) + <V y, features(x)>. The authors' code has an auxiliary classifier instead,
  which rewards the generator for faces that are easy to classify and so for showing less variety; a projection leaves
  D the critic that the loss is about.
- Further games, latents and orders of layers (`game`, `latents`, `pixel_norm`, …), for the presets of other authors.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limner import games
from limner.errors import LimnerError
from limner.games import Game, Judge
from limner.growing import LOWEST, Depth, Schedule, level_of, level_value
from limner.latents import NO_LABELS, AttributeRows, Gaussian, Labels, LatentSpace, Sphere
from limner.layers.equalized import EqualizedConvolution, EqualizedLinear, EqualizedSeed
from limner.layers.leaky_relu import leaky_relu
from limner.layers.minibatch_std import minibatch_std
from limner.layers.pixel_norm import pixel_norm
from limner.layers.resampling import doubled, halved
from limner.models.base import Model, Phase, Stage
from limner.models.presets.progan import PRESETS
from limner.models.wgan_gp import gradient_penalty
from limner.optim import Adam
from limner.types import Attributes, Batch, Draws, Images, Latents, Logits, Logs, Scalar


@dataclass(frozen=True, kw_only=True)
class ProGANConfig:
    """Settings of ProGAN; the defaults are the paper's, or the authors' code's where that is said."""

    latent_dim: int = 512
    """size of z (table 2)"""
    fmap_base: int = 8192
    """channels at side r are fmap_base x 2 / r … (table 2)"""
    fmap_max: int = 512
    """… but at most so many (table 2)"""
    game: Literal["wgan-gp", "least-squares", "logistic", "relativistic"] = "wgan-gp"
    """what the two networks minimize (appendix A.1); the others are `limner.games`"""
    gp_weight: float = 10.0
    """λ of the gradient penalty, for wgan-gp"""
    drift_weight: float = 0.001
    """ε of the drift penalty, for wgan-gp (appendix A.1)"""
    r1_weight: float = 0.0
    """γ of the zero-centred gradient penalty at 64², elsewhere in proportion to the pixels; logistic, relativistic"""
    target_noise: float = 0.3
    """standard deviation of the targets, for least-squares"""
    latent_batches: int = 1
    """batches of latents per generator update, each as large as the batch of reals"""
    learning_rate: float = 0.001
    """Adam's, for both networks (appendix A.1)"""
    learning_rates: tuple[float, ...] = ()
    """the same by level, from 4² on, the last for all above; none: `learning_rate` for all"""
    beta1: float = 0.0
    """Adam's (appendix A.1)"""
    beta2: float = 0.99
    """Adam's (appendix A.1)"""
    batch_sizes: tuple[int, ...] = (16, 16, 16, 16, 16, 16, 14, 6, 3)
    """images per update by level, from 4² on, the last for all above (appendix A.1); a run's --batch-size goes first"""
    grow: bool = True
    """False trains the full resolution from the start (table 1, row a)"""
    stable_kimg: float = 800.0
    """for which a level is trained alone (appendix A.1)"""
    fade_kimg: float = 800.0
    """for which a level is faded in (appendix A.1)"""
    first_kimg: float | None = None
    """as stable_kimg, of 4²; None: the same"""
    fade_steps: int = 0
    """in how many steps a level is faded in; 0: smoothly"""
    fade_reals: bool = True
    """reals are faded in with the level (section 2)"""
    minibatch_repeats: int = 4
    """batches for which the fade is held (the authors' code)"""
    reset_optimizers: bool = True
    """Adam forgets its moments where a level begins to fade in, and to stand alone (the authors' code)"""
    latents: Literal["sphere", "gaussian", "unit-sphere"] = "sphere"
    """sphere: of radius √latent_dim (appendix A.1); unit-sphere: of radius 1"""
    equalized: bool = True
    """equalized learning rate (section 4.1); False starts with He's weights"""
    pixel_norm: Literal["after", "before", "none"] = "after"
    """pixelwise normalization (section 4.2): after or before the leaky ReLU"""
    minibatch_std: bool = True
    """a plane of minibatch standard deviation (section 3)"""
    minibatch_std_group: int = 4
    """images compared with each other; 0: the whole batch (section 3)"""
    fused_scale: bool = True
    """doubling and halving as part of a convolution (the authors' code)"""
    from_rgb_activation: bool = True
    """a leaky ReLU after fromRGB (table 2)"""
    narrow_first: bool = False
    """a discriminator's block changes its channels in its first convolution instead of its second"""

    def channels(self, level: int) -> int:
        """Channels of the maps of a level's side."""
        return min(self.fmap_base * 2 // (LOWEST << level), self.fmap_max)


class ProGAN(Model):
    name = "progan"
    summary = "ProGAN (Karras et al. 2018): grows from 4² to 1024², minibatch std, equalized learning rate"
    Config = ProGANConfig
    batch_size = 16
    resolutions = (8, 16, 32, 64, 128, 256, 512, 1024)
    presets = PRESETS

    def __init__(self, config: ProGANConfig, resolution: int, labels: Labels = NO_LABELS) -> None:
        super().__init__(config, resolution, labels)
        _check(config, resolution)
        attributes = len(labels.names)
        prior = Gaussian if config.latents == "gaussian" else Sphere
        self.latents = LatentSpace(
            prior("z", config.latent_dim), AttributeRows("attributes", attributes, labels=labels)
        )
        self.schedule = make_schedule(config, resolution)
        self.game = GAMES[config.game]
        self.rows_together = config.minibatch_std_group if config.minibatch_std else 1
        self.generator = Generator(config, self.latents.width, resolution)
        self.discriminator = Discriminator(config, resolution, attributes)
        self.set_images_seen(0)

    @classmethod
    def with_batch_size(cls, config: ProGANConfig, batch_size: int) -> ProGANConfig:
        return dataclasses.replace(config, batch_sizes=(batch_size,))

    # --- growing --------------------------------------------------------------------------------------------------

    def set_images_seen(self, images_seen: int) -> None:
        self.depth = self._depth(images_seen)

    def _depth(self, images_seen: int) -> Depth:
        return self.schedule.depth(images_seen) if self.config.grow else Depth(self.schedule.top)

    def stage(self, images_seen: int) -> Stage:
        depth = self._depth(images_seen)
        era = 2 * depth.level + (not depth.fading) if self.config.reset_optimizers else 0
        return Stage(depth.resolution, level_value(self.config.batch_sizes, depth.level), era, depth.fading)

    def milestones(self) -> tuple[int, ...]:
        return self.schedule.milestones() if self.config.grow else (0,)

    def images_needed(self) -> int | None:
        return self.schedule.end()

    def idle(self) -> tuple[nn.Module, ...]:
        return (*self.generator.idle(self.depth), *self.discriminator.idle(self.depth))

    def learning_rate_factor(self) -> float:
        """The level's learning rate, in shares of the phases' own."""
        rates = self.config.learning_rates
        return level_value(rates, self.depth.level) / self.config.learning_rate if rates else 1.0

    # --- training -------------------------------------------------------------------------------------------------

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        adam, rate = Adam(c.learning_rate, c.beta1, c.beta2), self.learning_rate_factor
        return (
            Phase(
                name="discriminator",
                trains=(self.discriminator,),
                loss=self.discriminator_loss,
                optimizer=adam,
                rate=rate,
            ),
            Phase(name="generator", trains=(self.generator,), loss=self.generator_loss, optimizer=adam, rate=rate),
        )

    def discriminator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        with torch.no_grad():
            fakes = self.generator(batch.latents, self.depth)
        return self.game.discriminator(self.judge(batch), self.faded(batch.images), fakes, batch.draws, self.config)

    def generator_loss(self, batch: Batch) -> tuple[Scalar, Logs]:
        reals, judge = self.faded(batch.images), self.judge(batch)
        loss = self.game.generator(judge, reals, self.generator(batch.latents, self.depth))
        for _ in range(self.config.latent_batches - 1):
            loss = loss + self.game.generator(judge, reals, self.generator(self.more_latents(batch), self.depth))
        return loss, {"loss": loss}

    def judge(self, batch: Batch) -> Judge:
        """The discriminator as it is now, for images with the batch's attributes, once or twice the batch."""

        def judge(images: Images) -> Logits:
            sets = len(images) // len(batch.latents)
            attributes = None if batch.attributes is None else batch.attributes.repeat(sets, 1)
            return self.discriminator(images, self.depth, attributes, sets)

        return judge

    def faded(self, reals: Images) -> Images:
        """Reals as the generator's pictures are: partly of half the resolution, while a level fades in (section 2)."""
        if not (self.depth.fading and self.config.fade_reals):
            return reals
        return torch.lerp(doubled(halved(reals)), reals, self.depth.alpha)

    def more_latents(self, batch: Batch) -> Latents:
        """Further latents for the batch's attributes."""
        z = batch.draws.normal(self.config.latent_dim)
        if self.config.latents != "gaussian":
            z = z * (self.config.latent_dim**0.5 / z.norm(dim=1, keepdim=True))
        return self.latents.replace(batch.latents, z=z)

    def forward(self, latents: Latents) -> Images:
        """Pictures of the full resolution; before that is reached, pixels of the present one are repeated."""
        images = self.generator(latents, self.depth).clamp(-1, 1)
        return F.interpolate(images, size=(self.resolution, self.resolution), mode="nearest")


def wgan_gp_discriminator(
    judge: Judge, reals: Images, fakes: Images, draws: Draws, settings: ProGANConfig
) -> tuple[Scalar, Logs]:
    real, fake = games.judged_together(judge, reals, fakes)
    between = torch.lerp(reals, fakes, draws.uniform(1, 1, 1))
    penalty = gradient_penalty(judge, between)
    drift = real.square().mean()
    loss = (fake - real).mean() + settings.gp_weight * penalty + settings.drift_weight * drift  # (3)
    return loss, {"loss": loss, "margin": (real - fake).mean(), "penalty": penalty, "drift": drift}


def wgan_generator(judge: Judge, reals: Images, fakes: Images) -> Scalar:
    return -judge(fakes).mean()


GAMES = {
    "wgan-gp": Game(wgan_gp_discriminator, wgan_generator),
    "least-squares": games.LEAST_SQUARES,
    "logistic": games.LOGISTIC,
    "relativistic": games.RELATIVISTIC,
}


# --- networks ---------------------------------------------------------------------------------------------------------


class Generator(nn.Module):
    """[n, d] and a depth → [n, 3, s, s], s the depth's resolution; unbounded, -1 to 1 being black to white."""

    def __init__(self, config: ProGANConfig, latent_width: int, resolution: int) -> None:
        super().__init__()
        channels = [config.channels(level) for level in range(level_of(resolution) + 1)]
        # Latents are drawn with norm √d; on the unit sphere they have norm 1.
        self.latent_scale = 1 / math.sqrt(config.latent_dim) if config.latents == "unit-sphere" else 1.0
        self.blocks = nn.ModuleList([FirstBlock(config, latent_width, channels[0])])
        for before, after in itertools.pairwise(channels):
            self.blocks.append(GrowingBlock(config, before, after))
        self.to_rgb = nn.ModuleList(
            [EqualizedConvolution(width, 3, 1, gain=1.0, equalized=config.equalized) for width in channels]
        )

    def forward(self, latents: Latents, depth: Depth) -> Images:
        features = latents * self.latent_scale
        below = features
        for block in self.blocks[: depth.level + 1]:
            below, features = features, block(features)
        images = self.to_rgb[depth.level](features)
        if depth.fading:
            images = torch.lerp(doubled(self.to_rgb[depth.level - 1](below)), images, depth.alpha)
        return images.to(latents.dtype)

    def idle(self, depth: Depth) -> tuple[nn.Module, ...]:
        return (*self.blocks[depth.level + 1 :], *_unused_ends(self.to_rgb, depth))


class FirstBlock(nn.Module):
    """[n, d] → [n, c, 4, 4]."""

    def __init__(self, config: ProGANConfig, latent_width: int, width: int) -> None:
        super().__init__()
        self.seed = EqualizedSeed(latent_width, width, equalized=config.equalized)
        self.convolution = EqualizedConvolution(width, width, 3, equalized=config.equalized)
        self.normalized = config.pixel_norm != "none"

    def forward(self, latents: Latents) -> Float[Tensor, "n c 4 4"]:
        x = rectified(self.seed(latents), "after" if self.normalized else "none")
        return rectified(self.convolution(x), "after" if self.normalized else "none")


class GrowingBlock(nn.Module):
    """[n, c, h, w] → [n, c2, 2h, 2w]."""

    def __init__(self, config: ProGANConfig, before: int, after: int) -> None:
        super().__init__()
        sampling: Literal["doubling", "same"] = "doubling" if config.fused_scale else "same"
        self.first = EqualizedConvolution(before, after, 3, sampling=sampling, equalized=config.equalized)
        self.second = EqualizedConvolution(after, after, 3, equalized=config.equalized)
        self.order = config.pixel_norm

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        x = self.first(x if self.first.sampling == "doubling" else doubled(x))
        return rectified(self.second(rectified(x, self.order)), self.order)


def rectified(x: Float[Tensor, "n c h w"], order: str) -> Float[Tensor, "n c h w"]:
    """Leaky ReLU, with pixelwise normalization "after" it, "before" it or "none"."""
    if order == "before":
        return leaky_relu(pixel_norm(x))
    x = leaky_relu(x)
    return pixel_norm(x) if order == "after" else x


class Discriminator(nn.Module):
    """[n, 3, s, s], a depth of resolution s and attributes [n, a] → [n]; n images may be sets not to be compared."""

    def __init__(self, config: ProGANConfig, resolution: int, attributes: int) -> None:
        super().__init__()
        channels = [config.channels(level) for level in range(level_of(resolution) + 1)]
        self.blocks = nn.ModuleList([LastBlock(config, channels[0], attributes)])
        for after, before in itertools.pairwise(channels):
            self.blocks.append(ShrinkingBlock(config, before, after))
        self.from_rgb = nn.ModuleList(
            [EqualizedConvolution(3, width, 1, equalized=config.equalized) for width in channels]
        )
        self.activated = config.from_rgb_activation

    def forward(self, images: Images, depth: Depth, attributes: Attributes | None = None, sets: int = 1) -> Logits:
        features = self.features_of(images, depth.level)
        if depth.fading:
            below = self.features_of(halved(images), depth.level - 1)
            features = torch.lerp(below, self.blocks[depth.level](features), depth.alpha)
        for level in range(depth.level - depth.fading, 0, -1):
            features = self.blocks[level](features)
        return self.blocks[0](features, attributes, sets).to(images.dtype)

    def features_of(self, images: Images, level: int) -> Float[Tensor, "n c h w"]:
        """fromRGB of a level."""
        features = self.from_rgb[level](images)
        return leaky_relu(features) if self.activated else features

    def idle(self, depth: Depth) -> tuple[nn.Module, ...]:
        return (*self.blocks[depth.level + 1 :], *_unused_ends(self.from_rgb, depth))


class ShrinkingBlock(nn.Module):
    """[n, c, h, w] → [n, c2, h/2, w/2]."""

    def __init__(self, config: ProGANConfig, before: int, after: int) -> None:
        super().__init__()
        sampling: Literal["halving", "same"] = "halving" if config.fused_scale else "same"
        between = after if config.narrow_first else before
        self.first = EqualizedConvolution(before, between, 3, equalized=config.equalized)
        self.second = EqualizedConvolution(between, after, 3, sampling=sampling, equalized=config.equalized)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        x = leaky_relu(self.second(leaky_relu(self.first(x))))
        return x if self.second.sampling == "halving" else halved(x)


class LastBlock(nn.Module):
    """[n, c, 4, 4] and attributes [n, a] → [n]."""

    def __init__(self, config: ProGANConfig, width: int, attributes: int) -> None:
        super().__init__()
        self.group = config.minibatch_std_group if config.minibatch_std else None
        self.convolution = EqualizedConvolution(width + (self.group is not None), width, 3, equalized=config.equalized)
        self.dense = EqualizedConvolution(width, width, 4, equalized=config.equalized)
        self.last = EqualizedLinear(width, 1, gain=1.0, equalized=config.equalized)
        self.projection = (
            EqualizedLinear(attributes, width, gain=1.0, equalized=config.equalized) if attributes else None
        )

    def forward(self, x: Float[Tensor, "n c 4 4"], attributes: Attributes | None = None, sets: int = 1) -> Logits:
        if self.group is not None:
            x = torch.cat([minibatch_std(part, self.group) for part in x.chunk(sets)])
        x = leaky_relu(self.dense(leaky_relu(self.convolution(x)))).flatten(1)
        judged = self.last(x).flatten()
        if self.projection is not None and attributes is not None:
            # Over √width, for the sum of as many products.
            judged = judged + (self.projection(attributes) * x).sum(dim=1) / math.sqrt(x.shape[1])
        return judged


def _unused_ends(ends: nn.ModuleList, depth: Depth) -> list[nn.Module]:
    """toRGB or fromRGB of the levels whose pictures are not made or looked at."""
    used = {depth.level, depth.level - 1} if depth.fading else {depth.level}
    return [end for level, end in enumerate(ends) if level not in used]


def make_schedule(config: ProGANConfig, resolution: int) -> Schedule:
    """When which level is trained, for a network that ends at `resolution`."""
    first = config.stable_kimg if config.first_kimg is None else config.first_kimg
    return Schedule(
        top=level_of(resolution),
        stable_images=round(config.stable_kimg * 1000),
        fade_images=round(config.fade_kimg * 1000),
        first_images=round(first * 1000),
        batch_sizes=config.batch_sizes,
        fade_steps=config.fade_steps,
        repeats=config.minibatch_repeats,
    )


def _check(config: ProGANConfig, resolution: int) -> None:
    def require(name: str, good: bool, wanted: str) -> None:
        if not good:
            raise LimnerError(f"{name} is {getattr(config, name)}, expected {wanted}")

    require("fmap_max", config.fmap_max >= 1, "at least 1")
    narrowest = config.channels(level_of(resolution))
    require("fmap_base", narrowest >= 1, f"at least {resolution // 2}, for a channel at {resolution}²")
    require("batch_sizes", min(config.batch_sizes, default=0) >= 1, "whole numbers above 0")
    require("learning_rates", all(rate > 0 for rate in config.learning_rates), "numbers above 0")
    require("learning_rate", config.learning_rate > 0, "a number above 0")
    require("latent_batches", config.latent_batches >= 1, "at least 1")
    require("minibatch_repeats", config.minibatch_repeats >= 1, "at least 1")
    require("minibatch_std_group", config.minibatch_std_group != 1, "0 (the whole batch) or at least 2")
    for name in ("stable_kimg", "fade_kimg", "fade_steps", "minibatch_std_group"):
        require(name, getattr(config, name) >= 0, "a number not below 0")
    require("first_kimg", config.first_kimg is None or config.first_kimg >= 0, "a number not below 0")
