"""Instance normalization and its adaptive form: the definition, its derivatives, memory formats."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from limner.layers.instance_norm import adaptive_instance_norm, instance_norm, instance_statistics

FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels last": torch.channels_last,
    "channels last, 3-D": torch.channels_last_3d,
}
CASES = [
    ((3, 4, 5, 6), "contiguous"),
    ((3, 4, 5, 6), "channels last"),
    ((3, 4, 2, 3, 4), "contiguous"),
    ((3, 4, 2, 3, 4), "channels last, 3-D"),
    ((1, 5, 4, 4), "channels last"),
    ((3, 1, 4, 4), "channels last"),
    ((3, 4, 7), "contiguous"),
]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made.to(dtype)


def by_definition(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    over, ones = tuple(range(2, x.ndim)), (1,) * (x.ndim - 2)
    mean = x.mean(over, keepdim=True)
    deviation = ((x - mean).square().mean(over, keepdim=True) + eps).sqrt()
    y = (x - mean) / deviation * scale.view(*scale.shape, *ones) + shift.view(*shift.shape, *ones)
    return y, mean.flatten(1), deviation.flatten(1)


def all_that_is_made(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, ...]:
    return (adaptive_instance_norm(x, scale, shift, eps), instance_norm(x, eps), *instance_statistics(x, eps))


def wanted(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, ...]:
    plain = by_definition(x, torch.ones_like(scale), torch.zeros_like(shift), eps)
    return (by_definition(x, scale, shift, eps)[0], plain[0], *plain)


@pytest.mark.parametrize(("shape", "memory"), CASES)
def test_values_and_two_derivatives_are_those_of_the_definition(shape: tuple[int, ...], memory: str) -> None:
    found = []
    for function in (all_that_is_made, wanted):
        x = (3 + 2 * draw(*shape)).contiguous(memory_format=FORMATS[memory]).requires_grad_()
        scale, shift = (1 + draw(*shape[:2], seed=seed) for seed in (1, 2))
        inputs = (x, scale.requires_grad_(), shift.requires_grad_())
        made = function(*inputs, 1e-3)
        loss = sum((each * draw(*each.shape, seed=3 + i)).pow(2).sum() for i, each in enumerate(made))
        first = torch.autograd.grad(loss, inputs, retain_graph=True)
        again = torch.autograd.grad(loss, inputs, create_graph=True)
        second = torch.autograd.grad(sum(each.pow(3).sum() for each in again), inputs)
        found.append([*made, *first, *again, *second])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("memory", ["contiguous", "channels last"])
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_derivatives_are_those_of_finite_differences(check: Callable[..., bool], memory: str) -> None:
    x = draw(1, 2, 2, 2).contiguous(memory_format=FORMATS[memory])
    inputs = (x.requires_grad_(), draw(1, 2, seed=1).requires_grad_(), draw(1, 2, seed=2).requires_grad_())
    assert check(lambda x, scale, shift: adaptive_instance_norm(x, scale, shift, 0.1), inputs)
    assert check(lambda x: instance_statistics(x, 0.1), inputs[:1])
    assert check(lambda x: instance_statistics(x, 0.1)[1:], inputs[:1])


def test_it_is_torch_s() -> None:
    x = draw(3, 4, 5, 6, dtype=torch.float32)
    torch.testing.assert_close(instance_norm(x), F.instance_norm(x))
    constant = torch.full((2, 3, 4, 4), 7.0)
    assert instance_norm(constant).abs().max() < 1e-3  # of rounding, over √eps
    normalized, mean, deviation = instance_statistics(constant, eps=0.0)
    assert (mean == 7).all()
    for zero in (normalized, deviation):
        assert zero.count_nonzero() == 0


def test_one_image_does_not_know_of_another() -> None:
    x = draw(2, 3, 4, 4).requires_grad_()
    for memory in (torch.contiguous_format, torch.channels_last):
        y = instance_norm(x.contiguous(memory_format=memory))
        (gradient,) = torch.autograd.grad(y[0].pow(3).sum(), x)
        assert gradient[0].count_nonzero() > 0
        assert gradient[1].count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shape", "memory"), CASES[:4])
def test_type_and_memory_format_stay(dtype: torch.dtype, shape: tuple[int, ...], memory: str) -> None:
    x = draw(*shape, dtype=dtype).contiguous(memory_format=FORMATS[memory]).requires_grad_()
    scale, shift = draw(*shape[:2], seed=1, dtype=dtype), draw(*shape[:2], seed=2, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        y = adaptive_instance_norm(x, scale, shift)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    for found in (y, gradient):
        assert found.dtype == dtype
        assert found.is_contiguous(memory_format=FORMATS[memory])
    exact = by_definition(x.double(), scale.double(), shift.double(), 1e-5)[0]
    torch.testing.assert_close(y.double(), exact, rtol=1e-2, atol=3e-2 if dtype == torch.bfloat16 else 1e-5)


def test_a_large_mean_does_not_drown_the_deviation() -> None:
    x = (1000 + 0.1 * draw(2, 3, 8, 8)).float()
    exact = instance_statistics(x.double())
    for memory in (torch.contiguous_format, torch.channels_last):
        found = instance_statistics(x.contiguous(memory_format=memory))
        torch.testing.assert_close(found[2].double(), exact[2], rtol=1e-3, atol=0)


def test_an_expanded_image_and_a_gradient_of_another_format_are_taken() -> None:
    one = draw(1, 3, 4, 4).requires_grad_()
    y = instance_norm(one.expand(4, -1, -1, -1))
    weights = draw(4, 3, 4, 4, seed=1).contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad((y * weights).sum(), one)
    (again,) = torch.autograd.grad((instance_norm(one) * weights.sum(0, keepdim=True)).sum(), one)
    torch.testing.assert_close(gradient, again)
    y = instance_norm(one.contiguous(memory_format=torch.channels_last).expand(4, -1, -1, -1))
    torch.testing.assert_close(y[3:], instance_norm(one))


def test_what_follows_may_work_in_place() -> None:
    x = draw(2, 3, 4, 4).requires_grad_()
    (plain,) = torch.autograd.grad(F.leaky_relu(instance_norm(x), 0.2).square().sum(), x)
    (in_place,) = torch.autograd.grad(F.leaky_relu_(instance_norm(x), 0.2).square().sum(), x)
    torch.testing.assert_close(in_place, plain, rtol=0, atol=0)
