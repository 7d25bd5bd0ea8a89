"""The average of weights: closed forms."""

from __future__ import annotations

import pytest
import torch

from limner.models.dcgan import DCGAN, DCGANConfig
from limner.training.ema import WeightAverage


def tiny_model() -> DCGAN:
    torch.manual_seed(0)
    model = DCGAN(DCGANConfig(latent_dim=4, width=4), 16).double()
    model.register_buffer("counter", torch.tensor(0, dtype=torch.int64))
    return model


def fill(model: DCGAN, value: float) -> None:
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(value)


@pytest.mark.parametrize("batch", [100, 250, 1000])
def test_after_one_half_life_a_jump_is_half_forgotten(batch: int) -> None:
    model = tiny_model()
    fill(model, 1.0)
    average = WeightAverage(model, half_life_kimg=1.0, rampup=0.0)
    fill(model, 3.0)
    for seen in range(batch, 1001, batch):
        average.update(model, seen, batch)
    for name, tensor in average.model.state_dict().items():
        expected = 3.0 if name == "counter" else 2.0
        assert tensor.double().numpy() == pytest.approx(expected, abs=1e-12), name


def test_buffers_are_averaged_and_whole_numbers_copied() -> None:
    model = tiny_model()
    fill(model, 0.0)
    average = WeightAverage(model, half_life_kimg=1.0, rampup=0.0)
    fill(model, 8.0)
    average.update(model, 2000, 2000)
    state = average.model.state_dict()
    running = [name for name in state if "running" in name]
    assert running
    for name in running:
        assert state[name].numpy() == pytest.approx(6.0, abs=1e-12)
    assert state["counter"].item() == 8


def test_early_on_the_half_life_is_a_share_of_the_images_seen() -> None:
    average = WeightAverage(tiny_model(), half_life_kimg=10.0, rampup=0.05)
    assert average.decay(1000, 50) == pytest.approx(0.5)  # the half-life is 0.05 x 1000 = 50 images
    assert average.decay(64, 64) == pytest.approx(0.5**20)
    assert average.decay(200_000, 10_000) == pytest.approx(0.5)  # from here on it is 10,000
    assert average.decay(10_000_000, 10_000) == pytest.approx(0.5)


def test_no_half_life_means_no_average() -> None:
    model = tiny_model()
    average = WeightAverage(model, half_life_kimg=0.0, rampup=0.05)
    fill(model, 5.0)
    average.update(model, 64, 64)
    assert all(bool((tensor == 5).all()) for tensor in average.model.state_dict().values())


def test_the_average_is_in_eval_mode_wants_no_gradient_and_shares_nothing() -> None:
    model = tiny_model()
    average = WeightAverage(model, half_life_kimg=1.0, rampup=0.0)
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    own = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in average.model.state_dict().values())
    assert model.training
