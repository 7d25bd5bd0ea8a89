"""Batch normalization against torch's own, and what it must leave alone. Several processes: test_distributed.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limner.layers.batch_norm import BatchNorm


def pair(channels: int) -> tuple[BatchNorm, nn.BatchNorm2d]:
    """Ours and torch's, of the same (random) weights."""
    torch.manual_seed(1)
    ours, theirs = BatchNorm(channels).double(), nn.BatchNorm2d(channels).double()
    with torch.no_grad():
        ours.weight.uniform_(0.5, 2.0)
        ours.bias.normal_()
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
    return ours, theirs


def images(seed: int) -> Tensor:
    return 3 + 2 * torch.randn(5, 4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_values_gradients_and_statistics_are_those_of_torch() -> None:
    ours, theirs = pair(4)
    for step in range(3):
        x, y = images(step).requires_grad_(), images(step).requires_grad_()
        out, expected = ours(x), theirs(y)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
        slope = images(10 + step)
        out.backward(slope)
        expected.backward(slope)
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.running_variance, theirs.running_var, rtol=1e-12, atol=0)


def test_eval_mode_uses_the_running_statistics() -> None:
    ours, theirs = pair(4)
    for step in range(2):
        ours(images(step))
        theirs(images(step))
    x = images(9)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-12, atol=1e-12)
    kept = ours.running_mean.clone()
    ours(images(10))
    assert torch.equal(ours.running_mean, kept)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (3, 4, 2, 2, 2)])
def test_any_number_of_positions(shape: tuple[int, ...]) -> None:
    out = BatchNorm(4).double()(2 + torch.randn(shape, dtype=torch.float64))
    over = [dim for dim in range(len(shape)) if dim != 1]
    torch.testing.assert_close(out.mean(over), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(out.var(over, correction=0), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-3)


def test_running_statistics_stay_put_while_another_network_trains() -> None:
    layer = BatchNorm(4).double()
    trained = layer(images(0)).detach()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.requires_grad_(False)
    x = images(0).requires_grad_()
    held = layer(x)
    held.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert torch.equal(held.detach(), trained), "the batch's statistics are used all the same"
    layer.requires_grad_(True)
    layer(images(1))
    assert not torch.equal(layer.running_mean, before["running_mean"])
    assert not torch.equal(layer.running_variance, before["running_variance"])


def test_state_is_weights_and_two_statistics() -> None:
    assert list(BatchNorm(2).state_dict()) == ["weight", "bias", "running_mean", "running_variance"]
