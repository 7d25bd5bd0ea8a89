"""HoloGAN: parameter counts, losses in closed form, what turns what, settings."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.data.dataset import Dataset
from limner.errors import LimnerError
from limner.latents import Pose
from limner.layers.instance_norm import instance_statistics
from limner.layers.rigid import rotation
from limner.layers.spectral import SpectralConvolution, power_iteration
from limner.models.hologan import HoloGAN, HoloGANConfig
from limner.models.presets.hologan import PRESETS
from limner.models.presets.hologan_residual import ResidualHalving, ResidualImage, ResidualVolume, repeated
from limner.models.presets.hologan_seen import Seen
from limner.types import Batch, Draws
from test_trainer import make_trainer
from tiny import tiny_config


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def tiny(resolution: int = 16, **settings: Any) -> HoloGAN:
    torch.manual_seed(0)
    return HoloGAN(tiny_config("hologan", **settings), resolution)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# --- parameter counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "discriminator_width", "counts"),
    [(64, 64, (14_465_539, 14_365_508)), (8, 32, (252_291, 3_610_084))],
)
def test_parameters_of_the_residual_networks(width: int, discriminator_width: int, counts: tuple[int, int]) -> None:
    settings = PRESETS["s0"].model | {"width": width, "discriminator_width": discriminator_width}
    with torch.device("meta"):
        model = HoloGAN(HoloGANConfig(**settings), 64)
    assert (count(model.generator), count(model.discriminator)) == counts


@pytest.mark.parametrize("resolution", [64, 128])
def test_parameters_of_the_papers_networks(resolution: int) -> None:
    """Summed by hand from the layers of the authors' two networks, a last kernel of 3, and biases where they tell."""
    z, d = 128, 64

    def style(channels: int) -> int:
        return (z + 1) * 2 * channels

    if resolution == 64:
        generator = 512 * 64 + sum(map(style, (512, 128, 64, 256, 64)))
        generator += 27 * 512 * 128 + 27 * 128 * 64
        generator += 16 * 64 * 1024 + 1024 + 16 * 1024 * 256 + 16 * 256 * 64 + 9 * 64 * 3 + 3
        widths = [d, 2 * d, 4 * d, 8 * d]
    else:
        generator = 512 * 64 + sum(map(style, (512, 256, 128, 256, 64, 32)))
        generator += 27 * 512 * 256 + 27 * 256 * 128 + 27 * 128 * 64 + 64 + 27 * 64 * 64 + 64
        generator += 16 * 64 * 512 + 512 + 16 * 512 * 256 + 16 * 256 * 64 + 16 * 64 * 32
        generator += 9 * 32 * 3 + 3
        widths = [d, 2 * d, 4 * d, 8 * d, 16 * d]
    discriminator = 25 * 3 * d + d
    for before, after in itertools.pairwise(widths):
        discriminator += 25 * before * after + 2 * after + 2 * after + 1
    flat = 16 * widths[-1]
    discriminator += flat + 1 + (flat + 1) * 128 + 129 * z
    with torch.device("meta"):
        model = HoloGAN(HoloGANConfig(), resolution)
    assert (count(model.generator), count(model.discriminator)) == (generator, discriminator)


@pytest.mark.parametrize("networks", ["paper", "deep", "residual"])
@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256])
def test_every_side_has_its_networks(networks: str, resolution: int) -> None:
    model = tiny(resolution, networks=networks, angle_weight=1.0)
    latents = model.latents.sample(2, torch.Generator().manual_seed(0))
    images = model.generate(latents)
    seen = model.discriminator(images)
    assert images.shape == (2, 3, resolution, resolution)
    assert [each.shape for each in (seen.logits, seen.z, seen.angles)] == [(2,), (2, 6), (2, 3)]
    assert len(seen.styles) == (0 if networks == "residual" else resolution.bit_length() - 4)


# --- losses ----------------------------------------------------------------------------------------------------------


class Grey(nn.Module):
    """Every picture is of one brightness."""

    def __init__(self, brightness: float) -> None:
        super().__init__()
        self.brightness = nn.Parameter(torch.tensor(brightness))

    def forward(self, z: Tensor, pose: Tensor, placement: Tensor | None = None) -> Tensor:
        return self.brightness * torch.ones(len(z), 3, 16, 16)


class Reads(nn.Module):
    """Of a picture of brightness b: logit b, z all b, angles all 2 b, two styles of logits 3 b and -b."""

    def __init__(self, angles: bool, styles: bool) -> None:
        super().__init__()
        self.angles, self.styles = angles, styles

    def forward(self, images: Tensor) -> Seen:
        b = images.mean(dim=(1, 2, 3))
        z, angles = b[:, None].expand(-1, 6), 2 * b[:, None].expand(-1, 3)
        return Seen(b, z, angles if self.angles else None, (3 * b, -b) if self.styles else ())


def rigged(brightness: float, **settings: Any) -> HoloGAN:
    model = tiny(**settings)
    model.generator = Grey(brightness)
    model.discriminator = Reads(model.config.angle_weight > 0, model.config.style_weight > 0)
    return model


def batch_of(model: HoloGAN, brightness: float) -> Batch:
    """Two reals of that brightness; z of -0.5 and 0.25, and a pose of 0.1, 0.2, 0.3."""
    z = torch.tensor([[-0.5], [0.25]]).expand(-1, 6)
    pose = torch.tensor([[0.1, 0.2, 0.3]]).expand(2, -1)
    latents = model.latents.join({"z": z, "pose": pose})
    return Batch(torch.full((2, 3, 16, 16), brightness), latents, Draws(torch.Generator(), 2, 0, 2))


FAKE, REAL = 0.4, -0.7
IDENTITY = ((FAKE + 0.5) ** 2 + (FAKE - 0.25) ** 2) / 2
ANGLES = sum((2 * FAKE - angle) ** 2 for angle in (0.1, 0.2, 0.3)) / 3
STYLE_OF_FAKES = softplus(-3 * FAKE) + softplus(FAKE)
STYLE = softplus(-3 * REAL) + softplus(3 * FAKE) + softplus(REAL) + softplus(-FAKE)


def test_losses_of_the_paper() -> None:
    model = rigged(FAKE, identity_weight=3.0, style_weight=0.5)
    batch = batch_of(model, REAL)
    loss, logs = model.discriminator_loss(batch)
    assert float(loss.detach()) == pytest.approx(softplus(-REAL) + softplus(FAKE) + 3 * IDENTITY + 0.5 * STYLE)
    assert float(logs["margin"]) == pytest.approx(REAL - FAKE)
    assert float(logs["identity"]) == pytest.approx(IDENTITY)
    assert float(logs["style"]) == pytest.approx(STYLE / 2)
    loss, logs = model.generator_loss(batch)
    assert float(loss.detach()) == pytest.approx(softplus(-FAKE) + 3 * IDENTITY + 0.5 * STYLE_OF_FAKES)
    assert float(logs["fooled"]) == pytest.approx(softplus(-FAKE))


def test_losses_with_angles_and_without_styles() -> None:
    model = rigged(FAKE, identity_weight=25.0, angle_weight=10.0, style_weight=0.0)
    batch = batch_of(model, REAL)
    read = 25 * IDENTITY + 10 * ANGLES
    assert float(model.discriminator_loss(batch)[0]) == pytest.approx(softplus(-REAL) + softplus(FAKE) + read)
    assert float(model.generator_loss(batch)[0]) == pytest.approx(softplus(-FAKE) + read)


def test_the_authors_style_loss_is_the_discriminators_alone() -> None:
    model = rigged(FAKE, identity_weight=0.0, style_in_generator=False)
    batch = batch_of(model, REAL)
    assert float(model.generator_loss(batch)[0]) == pytest.approx(softplus(-FAKE))
    assert float(model.discriminator_loss(batch)[0]) == pytest.approx(softplus(-REAL) + softplus(FAKE) + STYLE)


def test_hinge() -> None:
    for real, fake, expected in ((REAL, FAKE, 1.7 + 1.4), (2.0, FAKE, 1.4), (REAL, -3.0, 1.7)):
        model = rigged(fake, game="hinge", identity_weight=0.0, style_weight=0.0)
        assert float(model.discriminator_loss(batch_of(model, real))[0]) == pytest.approx(expected)
        assert float(model.generator_loss(batch_of(model, real))[0]) == pytest.approx(-fake)


def test_r1_is_at_the_reals_and_in_proportion_to_the_pixels() -> None:
    """The logit is the mean of 3 x 16² values, so its gradient's square is 1 / (3 x 16²)."""
    model = rigged(FAKE, r1_weight=100.0, identity_weight=0.0, style_weight=0.0)
    loss, logs = model.discriminator_loss(batch_of(model, REAL))
    penalty = 1 / (3 * 16**2)
    assert float(logs["penalty"]) == pytest.approx(penalty)
    assert float(loss.detach()) == pytest.approx(softplus(-REAL) + softplus(FAKE) + 100 / 2 * (16 / 64) ** 2 * penalty)


@pytest.mark.parametrize("networks", ["paper", "residual"])
def test_r1_reaches_the_weights_of_the_networks_themselves(networks: str) -> None:
    """Its gradient along a random direction against a difference of the loss, in float64."""
    model = tiny(networks=networks, r1_weight=50.0).double()
    with torch.no_grad():
        for parameter in model.parameters():  # away from 0, where a leaky ReLU has two derivatives
            parameter += 0.1 * torch.randn_like(parameter)
    for _ in range(200):  # the singular vectors, which are held fixed; that costs nothing where they are exact
        power_iteration(model.discriminator)
    batch = Batch(torch.rand(2, 3, 16, 16).double(), model.latents.sample(2, torch.Generator()).double(), DRAWS)
    parameters = list(model.discriminator.parameters())
    gradients = torch.autograd.grad(model.discriminator_loss(batch)[0], parameters, allow_unused=True)
    directions = [torch.randn_like(parameter) for parameter in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    values = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += step * direction
        values.append(float(model.discriminator_loss(batch)[0]))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-5)


DRAWS = Draws(torch.Generator(), 2, 0, 2)


def test_only_fakes_are_read() -> None:
    """L_identity is of fakes: what reals look like does not change it."""
    model = rigged(FAKE)
    assert model.discriminator_loss(batch_of(model, 0.9))[1]["identity"] == pytest.approx(IDENTITY)


# --- what turns what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("networks", ["paper", "deep", "residual"])
def test_the_pose_reaches_the_picture_and_z_is_told_beside_it(networks: str) -> None:
    model = tiny(networks=networks)
    latents = model.latents.sample(1, torch.Generator().manual_seed(1))
    turned = model.latents.replace(latents, pose=torch.tensor([[0.5, 0.0, 0.0]]))
    level = model.latents.replace(latents, pose=torch.zeros(1, 3))
    other = model.latents.replace(level, z=-model.latents.split(level)["z"])
    with torch.no_grad():
        pictures = [model.generate(each) for each in (level, turned, other, level)]
    assert torch.equal(pictures[0], pictures[3])
    for different in pictures[1:3]:
        assert not torch.equal(pictures[0], different)


@pytest.mark.parametrize("networks", ["paper", "residual"])
def test_what_is_turned_is_the_volume_before_it_is_drawn(networks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`placed` makes a volume of side 16 with the pose's own matrix, scale and shift."""
    seen = {}
    import limner.layers.rigid as rigid

    placed = rigid.placed

    def look(volume: Tensor, turn: Tensor, scale: Tensor, shift: Tensor, doubled: bool = False) -> Tensor:
        made = placed(volume, turn, scale, shift, doubled)
        seen.update(made=made, turn=turn, scale=scale, shift=shift)
        return made

    monkeypatch.setattr(rigid, "placed", look)
    model = tiny(networks=networks, roll=(-9.0, 9.0), scale=(0.5, 1.5), shift=(-0.1, 0.1))
    latents = model.latents.sample(2, torch.Generator().manual_seed(0))
    model.generate(latents)
    parts = model.latents.split(latents)
    assert seen["made"].shape[2:] == (16, 16, 16)
    assert torch.equal(seen["turn"], rotation(parts["pose"]))
    assert torch.equal(seen["scale"], parts["placement"][:, 0])
    assert torch.equal(seen["shift"], parts["placement"][:, 1:])


def test_poses_are_drawn_from_their_ranges_in_radians() -> None:
    model = tiny(yaw=(-30.0, 90.0), pitch=(5.0, 10.0), roll=(0.0, 0.0), scale=(0.5, 2.0), shift=(-0.25, 0.5))
    drawn = model.latents.split(model.latents.sample(4000, torch.Generator().manual_seed(0)))
    assert isinstance(model.latents.part("pose"), Pose)
    degrees = drawn["pose"].rad2deg()
    for column, (low, high) in zip(degrees.T, ((-30, 90), (5, 10), (0, 0)), strict=True):
        assert low - 1e-4 <= float(column.min()) <= low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) <= float(column.max()) <= high + 1e-4
    placement = drawn["placement"]
    assert placement.shape[1] == 4
    for column, low, high in zip(placement.T, (0.5, *[-0.25] * 3), (2.0, *[0.5] * 3), strict=True):
        assert low <= float(column.min()) < low + 0.02
        assert high - 0.02 < float(column.max()) <= high


def test_there_is_no_placement_where_none_is_asked_for() -> None:
    assert "placement" not in tiny().latents
    assert "placement" in tiny(scale=(0.9, 1.1)).latents


def test_z_is_uniform_and_read_within_its_bounds_or_normal_and_read_without() -> None:
    for latents, bounded in (("uniform", True), ("gaussian", False)):
        model = tiny(latents=latents)
        z = model.latents.split(model.latents.sample(4000, torch.Generator().manual_seed(0)))["z"]
        assert float(z.var()) == pytest.approx(1 / 3 if bounded else 1.0, rel=0.02)
        with torch.no_grad():
            model.discriminator.z.bias.fill_(9.0)
            read = model.discriminator(torch.zeros(1, 3, 16, 16)).z
        assert (float(read.abs().max()) <= 1) == bounded


# --- networks --------------------------------------------------------------------------------------------------------


def test_a_styled_layer_has_the_mean_and_the_deviation_of_its_style() -> None:
    model = tiny(width=8)
    block = model.generator.volume[0]
    x, z = torch.randn(2, 64, 4, 4, 4), torch.rand(2, 6)
    nn.init.normal_(block.style.mapping.weight, 0.5, 1.0)
    y = block(x, z)
    scale, shift = block.style(z)
    _, mean, deviation = instance_statistics(y, eps=0.0)
    assert y.shape[2:] == (8, 8, 8)
    assert torch.allclose(mean, shift, atol=1e-5)
    assert torch.allclose(deviation, scale, rtol=1e-3, atol=1e-5)
    assert float(torch.cat([scale, shift]).min()) >= 0


def test_a_style_is_judged_by_mean_and_deviation_alone() -> None:
    """Pixels in another order have the same style, and other logits."""
    block = tiny(32).discriminator.blocks[0]
    convolved = {}
    block.convolution.register_forward_hook(lambda module, given, made: convolved.update(made=made))
    _, logits = block(torch.randn(2, 4, 16, 16))
    shuffled = convolved["made"].flatten(2)[:, :, torch.randperm(64)].unflatten(2, (8, 8))
    block.convolution = nn.Identity()
    assert torch.allclose(block(shuffled)[1], logits, atol=1e-6)
    assert not torch.allclose(block(2 * shuffled)[1], logits, atol=1e-6)


@pytest.mark.parametrize("kind", [ResidualVolume, ResidualImage])
def test_what_is_done_before_voxels_are_repeated_could_be_done_after(kind: type) -> None:
    block = kind(6, 4).double()
    x = torch.randn(2, 6, *[4] * (3 if kind is ResidualVolume else 2)).double()
    assert torch.allclose(block(x, doubled=True), block(repeated(x), doubled=False), atol=1e-12)


def test_a_halving_block_is_the_average_of_one_that_keeps_the_side() -> None:
    block = ResidualHalving(6, 4, spectral=True).double()
    x = torch.randn(2, 6, 8, 8).double()
    assert torch.allclose(block(x, halving=True), F.avg_pool2d(block(x, halving=False), 2), atol=1e-12)


@pytest.mark.parametrize("networks", ["paper", "residual"])
def test_spectral_norm_follows_the_weights_once_a_step(networks: str, tiny_dataset: Dataset) -> None:
    trainer = make_trainer(
        tiny_dataset, "hologan", settings={"networks": networks, "learning_rate": 1e-2}, attributes=()
    )
    layers = [m for m in trainer.model.discriminator.modules() if isinstance(m, SpectralConvolution)]
    for _ in range(3):
        before = [layer.left.clone() for layer in layers]
        trainer.iteration()
        assert any(not torch.equal(layer.left, old) for layer, old in zip(layers, before, strict=True))
    for layer in layers:
        largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
        used = layer.weight.detach().flatten(1).norm() / layer.normalized().detach().flatten(1).norm()
        assert float(used) == pytest.approx(float(largest), rel=0.1)
    assert not any(isinstance(m, SpectralConvolution) for m in tiny(spectral_norm=False).modules())


def test_z_is_found_again_the_better_the_longer(tiny_dataset: Dataset) -> None:
    """The error of reading z in the pictures falls below that of always answering its mean, 1/3."""
    settings = {"latent_dim": 4, "identity_weight": 50.0, "style_weight": 0.0, "learning_rate": 2e-3}
    trainer = make_trainer(tiny_dataset, "hologan", settings=settings, attributes=(), dtype=torch.float32)
    errors = [float(trainer.iteration()["generator/identity"]) for _ in range(60)]
    assert sum(errors[:5]) / 5 > 0.28
    assert sum(errors[-10:]) / 10 < 0.2


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"yaw": (40.0, -40.0)}, "yaw is (40.0, -40.0), expected two numbers, the lower one first"),
        ({"pitch": (-270.0, 0.0)}, "pitch is (-270.0, 0.0), expected degrees between -180 and 180"),
        ({"scale": (0.0, 1.0)}, "scale is (0.0, 1.0), expected numbers above 0"),
        ({"shift": (0.5, math.nan)}, "shift is (0.5, nan), expected two numbers, the lower one first"),
        ({"width": 0}, "width is 0, expected at least 1"),
        ({"identity_weight": -1.0}, "identity_weight is -1.0, expected a number not below 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, expected a number above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LimnerError) as refused:
        tiny(**settings)
    assert str(refused.value) == said


def test_defaults_are_the_papers() -> None:
    config = HoloGANConfig()
    assert (config.identity_weight, config.style_weight, config.angle_weight) == (1.0, 1.0, 0.0)
    assert (config.style_in_generator, config.spectral_norm) == (True, True)
    phases = {phase.name: phase.steps for phase in tiny().phases()}
    assert phases == {"discriminator": 1, "generator": 2}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_settings(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(HoloGANConfig)}
    assert PRESETS[name].model.keys() <= fields
    HoloGAN(HoloGANConfig(**{**PRESETS[name].model, "width": 4, "discriminator_width": 4}), 32)
