"""Spectral normalization: σ, its derivatives, and when its vectors move."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils.parametrizations import spectral_norm

from limner.layers import spectral
from limner.layers.spectral import Spectral, SpectralConvolution, SpectralLinear, power_iteration

MEMORY = pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])


def make(memory: torch.memory_format = torch.contiguous_format, iterations: int = 0) -> SpectralConvolution:
    torch.manual_seed(0)
    layer = SpectralConvolution(5, 7, 3, 2, 1).double().to(memory_format=memory)  # type: ignore[call-overload]
    for _ in range(iterations):
        power_iteration(layer)
    return layer


def weights_over_sigma(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """As the definition has it, with vectors that are held fixed; `right` in the order of a contiguous weight."""
    return weight / (left @ weight.flatten(1) @ right)


@MEMORY
def test_sigma_becomes_the_largest_singular_value(memory: torch.memory_format) -> None:
    layer = make(memory, iterations=300)
    wanted = layer.weight / torch.linalg.svdvals(layer.weight.flatten(1))[0]
    torch.testing.assert_close(layer.normalized(), wanted)
    assert torch.linalg.svdvals(layer.normalized().flatten(1))[0].item() == pytest.approx(1)


def test_a_new_layer_is_close_to_it_already() -> None:
    for layer in (make(), SpectralLinear(40, 30)):
        largest = torch.linalg.svdvals(layer.normalized().flatten(1))[0]
        assert 1 <= largest.item() + 1e-6 < 1.1  # power iteration comes from below


@MEMORY
def test_the_gradient_is_that_of_weights_over_sigma_with_fixed_vectors(memory: torch.memory_format) -> None:
    layer = make(memory)
    weight = layer.weight
    right = F.normalize(layer.left @ weight.detach().flatten(1), dim=0)
    factors = torch.randn(weight.shape, dtype=torch.float64)
    made = [layer.normalized(), weights_over_sigma(weight, layer.left, right)]
    torch.testing.assert_close(*made)
    gradients = [torch.autograd.grad((each.pow(2) * factors).sum(), weight)[0] for each in made]
    torch.testing.assert_close(*gradients)
    assert gradients[0].is_contiguous(memory_format=memory)


def test_derivatives_with_respect_to_weights() -> None:
    """Along rank-one weights the vectors do not move, so that finite differences hold them fixed as well."""
    left = F.normalize(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), dim=0)
    right = torch.tensor([0.3, 1.0, -0.7, 2.0], dtype=torch.float64)

    def normalized(size: Tensor, by_row: Tensor) -> Tensor:
        return spectral._OverLargest.apply(size * torch.outer(left, right), left) * by_row

    size, by_row = torch.tensor([1.7]).double().requires_grad_(), torch.randn(3, 1).double().requires_grad_()
    assert gradcheck(normalized, (size, by_row))
    assert gradgradcheck(normalized, (size, by_row))


@MEMORY
def test_second_derivatives_are_those_of_the_definition(memory: torch.memory_format) -> None:
    layer, found = make(memory), []
    right = F.normalize(layer.left @ layer.weight.detach().flatten(1), dim=0)
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64, requires_grad=True)
    for over_sigma in (layer.normalized, lambda: weights_over_sigma(layer.weight, layer.left, right)):
        y = torch.conv2d(x, over_sigma(), None, 2, 1)
        inputs = (x, layer.weight)
        first = torch.autograd.grad(y.pow(3).sum(), inputs, create_graph=True)
        found.append([*first, *torch.autograd.grad(sum(each.pow(2).sum() for each in first), inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_it_is_torch_s_with_the_same_vectors() -> None:
    ours = make()
    theirs = spectral_norm(nn.Conv2d(5, 7, 3, 2, 1).double())
    with torch.no_grad():
        theirs.parametrizations.weight.original.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
    vectors = theirs.parametrizations.weight[0]
    vectors._u.copy_(ours.left)
    vectors._v.copy_(F.normalize(ours.left @ ours.weight.detach().flatten(1), dim=0))
    theirs.eval()  # no iteration of its own
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.parametrizations.weight.original.grad)
    theirs.train()
    theirs(x)  # moves its vectors once
    power_iteration(ours)
    torch.testing.assert_close(ours.left, vectors._u)


def test_passes_change_nothing_and_power_iteration_moves_the_vectors_of_spectral_layers_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(SpectralConvolution(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 3), nn.Flatten(), SpectralLinear(64, 2))
    x = torch.randn(3, 3, 6, 6)
    before = copy.deepcopy(network.state_dict())
    network(x).sum().backward()
    network(x)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    power_iteration(network)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"0.left", "3.left"}
    for layer in network.modules():
        if isinstance(layer, Spectral):
            assert layer.left.norm().item() == pytest.approx(1)


def test_under_autocast_sigma_is_as_exact_as_without() -> None:
    layer = make().float()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer.normalized()
    assert torch.equal(found, layer.normalized())
