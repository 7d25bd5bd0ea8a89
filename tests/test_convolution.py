"""Convolutions against torch's own: values and derivatives of two orders, both ways of computing them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limner.layers import bilinear, convolution, winograd, winograd3
from limner.layers.convolution import (
    Convolution,
    TransposedConvolution,
    doubling_convolution,
    halving_convolution,
    input_gradients_only,
)
from limner.layers.resampling import doubled, halved

GEOMETRIES = [(4, 2, 1, 8), (4, 1, 0, 4), (3, 1, 1, 5), (4, 2, 1, 34)]  # kernel, stride, padding, side


def pair(transposed: bool, kernel: int, stride: int, padding: int) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's of the same weights, 3 channels to 5."""
    torch.manual_seed(0)
    ours = (TransposedConvolution if transposed else Convolution)(3, 5, kernel, stride, padding).double()
    theirs = (nn.ConvTranspose2d if transposed else nn.Conv2d)(3, 5, kernel, stride, padding).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def draw(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def nothing_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "SMALL", 0)


@pytest.fixture(params=["as it chooses", "product", "convolution", "winograd"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "winograd":  # wherever it can
        monkeypatch.setattr(bilinear, "LEAST_CHANNELS", dict.fromkeys(bilinear.LEAST_CHANNELS, 0))
        monkeypatch.setattr(bilinear, "LEAST_CHANNELS_3", 0)
        monkeypatch.setattr(bilinear, "LEAST_TILES", 0)
        monkeypatch.setattr(bilinear, "LEAST_TILES_3", 0)
        monkeypatch.setattr(bilinear, "MOST_PLANES", 0)
        monkeypatch.setattr(winograd, "BLOCK", 1)  # an image at a time
        monkeypatch.setattr(winograd3, "BLOCK", 1)
    elif request.param == "as it chooses":
        monkeypatch.setattr(bilinear, "PLANE", 1)
    else:
        monkeypatch.setattr(bilinear, "choose", lambda *arguments: request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "side"), [*GEOMETRIES, (4, 1, 0, 1), (4, 2, 1, 9)])
def test_values_and_two_derivatives_are_those_of_torch(
    transposed: bool, kernel: int, stride: int, padding: int, side: int
) -> None:
    if not transposed and side < kernel:
        pytest.skip("no position")
    x = draw(side)
    found = []
    for layer in pair(transposed, kernel, stride, padding):
        y = layer(x)
        (slope,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        slope.square().sum().backward()  # a penalty on the slope: needs derivatives of both derivatives
        found.append([y, slope, x.grad, *(parameter.grad for parameter in layer.parameters())])
        x.grad = None
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-10)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("transposed", [False, True])
def test_derivatives_are_those_of_finite_differences(transposed: bool) -> None:
    layer, _ = pair(transposed, 4, 2, 1)
    x, names = draw(4), ("weight", "bias")
    parameters = [getattr(layer, name).detach().requires_grad_() for name in names]

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(function, (x, *parameters), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, *parameters), fast_mode=True)


def test_gradients_of_the_weights_are_left_out_where_only_inputs_count() -> None:
    layer, _ = pair(False, 4, 2, 1)
    x = draw(8)
    with input_gradients_only():
        (slope,) = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
        layer(x).sum().backward()
    assert layer.weight.grad is None
    slope.square().sum().backward()
    assert layer.weight.grad is not None, "the penalty on the slope still teaches the weights"


def test_frozen_weights_get_no_gradient_and_pass_it_on() -> None:
    layer, _ = pair(False, 4, 2, 1)
    layer.requires_grad_(False)
    x = draw(8)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


@pytest.mark.parametrize(
    ("which", "channels", "side", "images", "expected"),
    [
        ("spread", (64, 3), 64, 64, "planes"),
        ("convolve", (64, 3), 64, 64, "convolution"),
        ("convolve", (128, 64), 32, 64, "convolution"),
        ("correlate", (128, 64), 32, 64, "winograd"),
        ("convolve", (512, 256), 8, 64, "winograd"),
        ("convolve", (512, 256), 8, 16, "product"),
        ("spread", (512, 256), 10, 64, "convolution"),
    ],
)
def test_the_way_depends_on_the_shape(
    which: str, channels: tuple[int, int], side: int, images: int, expected: str
) -> None:
    x = torch.empty(images, 1, 1, 1)
    sides, positions = (side, side), (side // 2, side // 2)
    assert bilinear.choose(which, x, channels, bilinear.HALVING, sides, positions) == expected
    chosen = bilinear.choose(which, x.bfloat16(), channels, bilinear.HALVING, sides, positions)
    assert chosen in ("convolution", "product")


@pytest.mark.parametrize(
    ("channels", "side", "images", "expected"),
    [
        (256, 64, 2, "winograd"),
        (128, 128, 1, "winograd"),
        (64, 64, 16, "convolution"),
        (512, 4, 32, "winograd"),
        (512, 4, 16, "product"),
        (512, 30, 1, "winograd"),
        (512, 8, 2, "convolution"),
    ],
)
def test_the_way_that_keeps_the_side_depends_on_the_shape(channels: int, side: int, images: int, expected: str) -> None:
    x, sides = torch.empty(images, 1, 1, 1), (side, side)
    for way in ("convolve", "spread"):
        found = bilinear.choose(way, x, (channels, channels), bilinear.KEEPING, sides, sides)
        assert found == expected
    assert bilinear.choose("convolve", x.bfloat16(), (512, 512), bilinear.KEEPING, (64, 64), (64, 64)) != "winograd"


def test_winograd_rounds_hardly_more_than_a_convolution() -> None:
    torch.manual_seed(0)
    x, w, y = torch.randn(16, 64, 16, 8), torch.randn(128, 64, 4, 4), torch.randn(16, 128, 8, 4)
    exact = torch.conv2d(x.double(), w.double(), None, 2, 1)
    exact_x, exact_w, _ = torch.ops.aten.convolution_backward(
        y.double(), x.double(), w.double(), None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
    )
    for ours, truth in (
        (winograd.convolve(x, w), exact),
        (winograd.spread(y, w), exact_x),
        (winograd.correlate(x, y), exact_w),
    ):
        assert (ours - truth).square().mean().sqrt() < 1e-6 * truth.square().mean().sqrt()


@pytest.mark.parametrize("transposed", [False, True])
def test_autocast_computes_in_bfloat16(transposed: bool) -> None:
    layer, reference = (each.float() for each in pair(transposed, 4, 2, 1))
    x = draw(8).detach().float()
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = layer(x), reference(x)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), reference(x), rtol=0.05, atol=0.05)
    ours.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("transposed", [False, True])
def test_small_ones_are_left_to_torch(transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, _ = pair(transposed, 4, 2, 1)
    ours = "AddBackward0" if transposed else "_ConvolveBackward"
    assert type(layer(draw(8)).grad_fn).__name__ == ours
    monkeypatch.setattr(convolution, "SMALL", 2**22)
    assert type(layer(draw(8)).grad_fn).__name__ == "ConvolutionBackward0"


# --- together with halving and doubling ---------------------------------------------------------------------------


def halving(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return halved(torch.conv2d(x, weight, bias, 1, 1))


def doubling(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.conv2d(doubled(x), weight, bias, 1, 1)


RESAMPLING = [(halving_convolution, halving), (doubling_convolution, doubling)]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("ours", "theirs"), RESAMPLING)
@pytest.mark.parametrize("side", [2, 4, 6, 16])
def test_halving_and_doubling_are_those_after_and_before(ours: Any, theirs: Any, side: int) -> None:
    found = []
    for function in (ours, theirs):
        layer, x = pair(False, 3, 1, 1)[0], draw(side)
        y = function(x, layer.weight, layer.bias)
        (slope,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        slope.square().sum().backward()
        found.append([y, slope, x.grad, layer.weight.grad, layer.bias.grad])
    for each, truth in zip(*found, strict=True):
        torch.testing.assert_close(each, truth, rtol=1e-11, atol=1e-10)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("function", [ours for ours, _ in RESAMPLING])
def test_their_derivatives_are_those_of_finite_differences(function: Any) -> None:
    layer = pair(False, 3, 1, 1)[0]
    arguments = (draw(4), *(each.detach().requires_grad_() for each in (layer.weight, layer.bias)))
    assert torch.autograd.gradcheck(function, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, arguments, fast_mode=True)


@pytest.mark.parametrize(("ours", "theirs"), RESAMPLING)
def test_small_halving_and_doubling_are_left_to_torch(ours: Any, theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "SMALL", 2**22)
    x, layer = draw(6), pair(False, 3, 1, 1)[0]
    y = ours(x, layer.weight, layer.bias)
    assert type(y.grad_fn).__name__ == "ConvolutionBackward0"
    torch.testing.assert_close(y, theirs(x, layer.weight, layer.bias), rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize(
    ("channels", "side", "images", "expected"),
    [(512, 16, 16, "winograd"), (256, 64, 1, "winograd"), (64, 64, 16, "convolution"), (512, 8, 2, "product")],
)
def test_the_way_that_halves_depends_on_the_shape(channels: int, side: int, images: int, expected: str) -> None:
    x, sides, positions = torch.empty(images, 1, 1, 1), (side, side), (side // 2, side // 2)
    for way in ("convolve", "spread"):
        found = bilinear.choose(way, x, (channels, channels), bilinear.AVERAGING, sides, positions)
        assert found == expected
