"""Our training step is the plainest one's mathematics: the same losses and gradients, in float64."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.layers import bilinear, convolution, volume, winograd, winograd3
from limner.models.base import Model
from limner.models.hologan import HoloGAN, HoloGANConfig
from limner.models.progan import ProGAN, ProGANConfig
from limner.types import Batch, Draws

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.plain_step import backward, with_torch_layers


@pytest.fixture(autouse=True)
def every_way_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for channels by the hundred."""
    monkeypatch.setattr(convolution, "SMALL", 0)
    for name in ("LEAST_CHANNELS_3", "LEAST_TILES", "LEAST_TILES_3"):
        monkeypatch.setattr(bilinear, name, 0)
    monkeypatch.setattr(bilinear, "LEAST_CHANNELS", dict.fromkeys(bilinear.LEAST_CHANNELS, 0))
    monkeypatch.setattr(volume, "LEAST_PAIRS", dict.fromkeys(volume.LEAST_PAIRS, 0))
    for name in ("LEAST_ROWS", "LEAST_WORK", "LEAST_FULL"):
        monkeypatch.setattr(volume, name, 0)
    for module in (winograd, winograd3):
        monkeypatch.setattr(module, "BLOCK", 4)


def small_progan(images_seen: int) -> ProGAN:
    torch.manual_seed(0)
    schedule = {"stable_kimg": 0.1, "fade_kimg": 0.1}
    model = ProGAN(ProGANConfig(latent_dim=8, fmap_base=64, fmap_max=8, **schedule), 16).double()  # type: ignore[arg-type]
    model.set_images_seen(images_seen)
    return model


def losses_and_gradients(model: Model, images: Tensor, plain: bool) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for phase in model.phases():
        rng = torch.Generator().manual_seed(1)
        latents = model.latents.sample(len(images), rng).double()
        batch = Batch(images, latents, Draws(rng, len(images), 0, len(images), dtype=images.dtype))
        model.zero_grad()
        if plain:
            logs = backward(phase, batch, bf16=False)
        else:
            loss, logs = phase.loss(batch)
            loss.backward()
        found |= {f"{phase.name} {name}": value.detach() for name, value in logs.items()}
        for module in phase.trains:
            named = module.named_parameters()
            found |= {f"{phase.name} {name}": p.grad.clone() for name, p in named if p.grad is not None}
    return found


@pytest.mark.parametrize(("images_seen", "resolution"), [(10**6, 16), (450, 16), (250, 8)])
def test_progan_s_losses_and_gradients_are_those_of_the_plain_step(images_seen: int, resolution: int) -> None:
    model = small_progan(images_seen)
    assert model.stage(images_seen).resolution == resolution
    images = torch.rand(8, 3, resolution, resolution, dtype=torch.float64) * 2 - 1
    ours = losses_and_gradients(copy.deepcopy(model), images, plain=False)
    plain = losses_and_gradients(with_torch_layers(model), images, plain=True)
    assert ours.keys() == plain.keys()
    assert sum(value.ndim > 0 for value in ours.values()) > 20
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-8, atol=1e-8 * float(value.abs().max()), msg=name)


@pytest.mark.parametrize("settings", [{}, {"networks": "residual", "angle_weight": 2.0, "r1_weight": 0.5}])
def test_hologan_s_losses_and_gradients_are_those_of_the_plain_step(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = HoloGANConfig(width=4, discriminator_width=4, latent_dim=5, scale=(0.8, 1.2), **settings)
    model = HoloGAN(config, 32).double()
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64) * 2 - 1
    ours = losses_and_gradients(copy.deepcopy(model), images, plain=False)
    plain = losses_and_gradients(with_torch_layers(model), images, plain=True)
    assert ours.keys() == plain.keys()
    assert sum(value.ndim > 0 for value in ours.values()) > 20
    for name, value in plain.items():
        scale = max(float(value.abs().max()), 1e-4)  # of biases before a normalization there is rounding alone
        torch.testing.assert_close(ours[name], value, rtol=1e-7, atol=1e-8 * scale, msg=name)
