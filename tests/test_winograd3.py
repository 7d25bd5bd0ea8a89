"""Minimal filtering of 3x3 kernels against torch's convolutions: exact in float64, and how it rounds in float32."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.layers import winograd3
from limner.layers.scratch import Scratch


def reference(x: Tensor, w: Tensor, name: str) -> Tensor:
    y = F.conv2d(x, w, None, 1, 1)
    return F.avg_pool2d(y, 2) if name == "halved" else y


def three(x: Tensor, w: Tensor, y: Tensor, name: str) -> tuple[Tensor, ...]:
    return winograd3.convolve(x, w, name), winograd3.spread(y, w, name), winograd3.correlate(x, y, name)


def truths(x: Tensor, w: Tensor, y: Tensor, name: str) -> tuple[Tensor, ...]:
    x, w = x.double().requires_grad_(), w.double().requires_grad_()
    made = reference(x, w, name)
    return made.detach(), *torch.autograd.grad(made, (x, w), y.double())


@pytest.mark.parametrize("block", [1, 3, 128])
@pytest.mark.parametrize("name", ["same", "halved"])
@pytest.mark.parametrize("sides", [(4, 8), (2, 2), (6, 10), (16, 14)])
def test_it_is_exact(sides: tuple[int, int], name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd3, "BLOCK", block)
    torch.manual_seed(0)
    x, w = torch.randn(3, 5, *sides, dtype=torch.float64), torch.randn(7, 5, 3, 3, dtype=torch.float64)
    y = torch.randn_like(reference(x, w, name))
    for ours, truth in zip(three(x, w, y, name), truths(x, w, y, name), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sides", [(1, 1), (5, 7), (3, 18)])
def test_odd_sides_are_padded(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(2, 3, *sides, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    y = torch.randn_like(reference(x, w, "same"))
    for ours, truth in zip(three(x, w, y, "same"), truths(x, w, y, "same"), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "most"), [("same", 2e-6), ("halved", 6e-7)])
def test_rounding_errors_stay_small(name: str, most: float) -> None:
    torch.manual_seed(0)
    x, w = F.leaky_relu(torch.randn(4, 256, 16, 16), 0.2), torch.randn(64, 256, 3, 3)
    y = torch.randn_like(reference(x, w, name))
    for ours, truth in zip(three(x, w, y, name), truths(x, w, y, name), strict=True):
        difference = (ours.double() - truth).square().mean().sqrt() / truth.square().mean().sqrt()
        assert difference < most


def test_what_it_returns_is_its_own_and_channels_last() -> None:
    torch.manual_seed(0)
    x, w, y = torch.randn(2, 8, 8, 8), torch.randn(16, 8, 3, 3), torch.randn(2, 16, 8, 8)
    first = three(x, w, y, "same")
    kept = [each.clone() for each in first]
    three(x + 1, w - 1, y * 2, "same")
    for each, before in zip(first, kept, strict=True):
        assert torch.equal(each, before)
        assert each.is_contiguous(memory_format=torch.channels_last)


def test_it_works_after_inference_mode_and_in_every_thread() -> None:
    x, w = torch.randn(1, 24, 12, 12), torch.randn(24, 24, 3, 3)
    with torch.inference_mode():
        first = winograd3.convolve(x, w)
    found: list[Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(winograd3.convolve(x, w))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in (*found, winograd3.convolve(x, w)):
        torch.testing.assert_close(each, first, rtol=0, atol=0)


def test_scratch_grows_and_is_used_again() -> None:
    scratch = Scratch()
    small = scratch.room("a", (2, 3), torch.float32)
    large = scratch.room("a", (4, 5), torch.float32)
    assert small.data_ptr() != large.data_ptr()
    assert scratch.room("a", (3, 3), torch.float32).data_ptr() == large.data_ptr()
    assert scratch.room("b", (3, 3), torch.float32).data_ptr() != large.data_ptr()
    assert scratch.room("a", (3, 3), torch.float64).dtype == torch.float64
