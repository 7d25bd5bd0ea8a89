"""Convolutions of volumes against torch's own: values, derivatives of two orders, rounding, and the choice of a way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.layers import volume, winograd_volume
from limner.layers.volume import (
    HALVING,
    KEEPING,
    SLICES,
    DoublingVolumeConvolution,
    VolumeConvolution,
    choose,
    doubling_volume_convolution,
)

WAYS: list[tuple[volume.Maps, tuple[int, int, int]]] = [
    *((KEEPING, sides) for sides in [(8, 8, 8), (5, 6, 9), (1, 4, 13), (4, 4, 4), (2, 3, 1)]),
    *((HALVING, sides) for sides in [(8, 8, 8), (4, 6, 10), (2, 12, 4)]),
    *((SLICES, sides) for sides in [(4, 4, 4), (7, 4, 3), (1, 2, 4)]),
]


def three(x: Tensor, w: Tensor, y: Tensor, maps: volume.Maps) -> tuple[Tensor, ...]:
    return maps.convolve(x, w), maps.spread(y, w), maps.correlate(x, y)


def reference(x: Tensor, w: Tensor, maps: volume.Maps) -> Tensor:
    y = F.conv3d(x, w, None, 1, 1)
    return F.avg_pool3d(y, 2) if maps == HALVING else y


def truths(x: Tensor, w: Tensor, y: Tensor, maps: volume.Maps) -> tuple[Tensor, ...]:
    x, w = x.double().requires_grad_(), w.double().requires_grad_()
    made = reference(x, w, maps)
    return made.detach(), *torch.autograd.grad(made, (x, w), y.double())


@pytest.fixture
def nothing_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume, "LEAST_PAIRS", dict.fromkeys(volume.LEAST_PAIRS, 0))
    monkeypatch.setattr(volume, "LEAST_ROWS", 0)
    monkeypatch.setattr(volume, "LEAST_WORK", 0)


@pytest.mark.parametrize("room", [1, 2**10, 2**18])
@pytest.mark.parametrize(("maps", "sides"), WAYS)
def test_it_is_exact(
    maps: volume.Maps, sides: tuple[int, int, int], room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd_volume, "ROOM", room)
    torch.manual_seed(0)
    x, w = torch.randn(3, 5, *sides, dtype=torch.float64), torch.randn(7, 5, 3, 3, 3, dtype=torch.float64)
    y = torch.randn_like(reference(x, w, maps))
    for ours, truth in zip(three(x, w, y, maps), truths(x, w, y, maps), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("maps", "side", "most"), [(KEEPING, 8, 5e-6), (HALVING, 8, 1e-6), (SLICES, 4, 2e-6)])
def test_rounding_errors_stay_small(maps: volume.Maps, side: int, most: float) -> None:
    torch.manual_seed(0)
    x, w = F.leaky_relu(torch.randn(2, 128, side, side, side), 0.2), torch.randn(32, 128, 3, 3, 3)
    y = torch.randn_like(reference(x, w, maps))
    for ours, truth in zip(three(x, w, y, maps), truths(x, w, y, maps), strict=True):
        difference = (ours.double() - truth).square().mean().sqrt() / truth.square().mean().sqrt()
        assert difference < most


@pytest.mark.parametrize(("maps", "side"), [(KEEPING, 8), (HALVING, 8), (SLICES, 4)])
def test_what_it_returns_is_its_own_and_channels_last(maps: volume.Maps, side: int) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(2, 8, *[side] * 3), torch.randn(16, 8, 3, 3, 3)
    y = torch.randn_like(reference(x, w, maps))
    first = three(x, w, y, maps)
    kept = [each.clone() for each in first]
    three(x + 1, w - 1, y * 2, maps)
    for each, before in zip(first, kept, strict=True):
        assert torch.equal(each, before)
        assert each.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.usefixtures("nothing_is_too_small")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sides", [(4, 4, 4), (8, 6, 8)])
def test_values_and_two_derivatives_are_those_of_torch(sides: tuple[int, int, int], bias: bool) -> None:
    torch.manual_seed(0)
    ours = VolumeConvolution(3, 5, bias=bias).double()
    theirs = nn.Conv3d(3, 5, 3, padding=1, bias=bias).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, *sides, dtype=torch.float64, requires_grad=True)
    found = []
    for layer in (ours, theirs):
        y = layer(x)
        (slope,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        slope.square().sum().backward()
        found.append([y, slope, x.grad, *(parameter.grad for parameter in layer.parameters())])
        x.grad = None
    for mine, truth in zip(*found, strict=True):
        torch.testing.assert_close(mine, truth, rtol=1e-10, atol=1e-9)


@pytest.mark.usefixtures("nothing_is_too_small")
@pytest.mark.parametrize("sides", [(4, 4, 4), (4, 5, 4)])
def test_derivatives_are_those_of_finite_differences(sides: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    layer = VolumeConvolution(2, 3).double()
    x = torch.randn(2, 2, *sides, dtype=torch.float64, requires_grad=True)
    values = {name: value.detach().requires_grad_() for name, value in layer.named_parameters()}

    def function(x: Tensor, *given: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(values, given, strict=True)), x)

    assert type(function(x, *values.values()).grad_fn).__name__ == "AddBackward0", "not torch's own"
    assert torch.autograd.gradcheck(function, (x, *values.values()), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, *values.values()), fast_mode=True)


@pytest.mark.usefixtures("nothing_is_too_small")
def test_frozen_weights_get_no_gradient_and_pass_it_on() -> None:
    layer = VolumeConvolution(3, 5).requires_grad_(False)
    x = torch.randn(2, 3, 8, 8, 8, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


@pytest.mark.usefixtures("nothing_is_too_small")
def test_it_works_after_inference_mode() -> None:
    layer = VolumeConvolution(3, 5)
    for side in (4, 12):
        x = torch.randn(2, 3, side, side, side)
        with torch.inference_mode():
            first = layer(x)
        second = layer(x)
        second.sum().backward()
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("images", "sides", "channels", "expected"),
    [
        (16, (4, 4, 4), (256, 512), SLICES),
        (16, (8, 8, 8), (128, 256), KEEPING),
        (16, (16, 16, 16), (64, 64), KEEPING),
        (16, (16, 16, 16), (16, 32), None),
        (16, (8, 8, 8), (64, 64), None),
        (2, (4, 4, 4), (256, 512), None),
        (1, (8, 8, 8), (256, 512), None),
        (16, (5, 5, 5), (256, 512), None),
    ],
)
def test_the_way_depends_on_the_shape(
    images: int, sides: tuple[int, int, int], channels: tuple[int, int], expected: volume.Maps | None
) -> None:
    x = torch.empty(1).expand(images, channels[1], *sides)
    assert choose(x, (*channels, 3, 3, 3)) is expected
    assert choose(x.bfloat16(), (*channels, 3, 3, 3)) is None
    assert choose(x, (*channels, 1, 1, 1)) is None
    assert choose(x.to("meta"), (*channels, 3, 3, 3)) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert choose(x, (*channels, 3, 3, 3)) is None


@pytest.mark.parametrize(
    ("images", "channels", "expected"), [(16, (128, 256), HALVING), (16, (32, 64), None), (2, (128, 256), None)]
)
def test_the_way_that_doubles_depends_on_the_shape(
    images: int, channels: tuple[int, int], expected: volume.Maps | None
) -> None:
    x = torch.empty(1).expand(images, channels[1], 4, 4, 4)
    assert choose(x, (*channels, 3, 3, 3), doubled=True) is expected


@pytest.mark.parametrize("least", [0, 2**12])
@pytest.mark.parametrize("sides", [(4, 4, 4), (1, 2, 3)])
def test_doubling_is_repeating_before(sides: tuple[int, int, int], least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume, "LEAST_PAIRS", {HALVING: least})
    monkeypatch.setattr(volume, "LEAST_ROWS", 0)
    monkeypatch.setattr(volume, "LEAST_WORK", 0)
    monkeypatch.setattr(volume, "LEAST_FULL", 0)
    torch.manual_seed(0)
    values = torch.randn(2, 3, *sides), torch.randn(5, 3, 3, 3, 3), torch.randn(5)
    found = []
    for function in (doubling_volume_convolution, repeated_before):
        given = [each.double().requires_grad_() for each in values]
        y = function(*given)
        slope = torch.autograd.grad(y.pow(3).sum(), given[:2], create_graph=True)
        torch.stack([each.square().sum() for each in slope]).sum().backward()
        found.append([y, *slope, *(each.grad for each in given)])
    for ours, truth in zip(*found, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-10, atol=1e-8)


def repeated_before(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    return F.conv3d(F.interpolate(x, scale_factor=2.0, mode="nearest"), w, bias, 1, 1)


def test_other_kernels_are_those_of_torch() -> None:
    x = torch.randn(2, 3, 4, 4, 4)
    for kernel in (1, 3):
        layer = VolumeConvolution(3, 5, kernel)
        torch.testing.assert_close(layer(x), F.conv3d(x, layer.weight, layer.bias, 1, kernel // 2))


def test_doubling_is_the_adjoint_of_a_convolution_of_stride_two() -> None:
    torch.manual_seed(0)
    layer = DoublingVolumeConvolution(3, 5, bias=False).double()
    x = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    y = torch.randn(2, 5, 8, 8, 8, dtype=torch.float64)
    made = layer(x)
    assert made.shape == y.shape
    back = F.conv3d(y, layer.weight, None, 2, 1)
    torch.testing.assert_close((made * y).sum(), (x * back).sum())
