"""Leaky ReLU against torch's own, and the path that is not there."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from limner.layers import bilinear, convolution
from limner.layers.convolution import Geometry
from limner.layers.input_gradient import input_gradient, squared_norms
from limner.layers.leaky_relu import leaky_relu


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(0)
    x = torch.randn(*shape, dtype=dtype)
    return (x + 0.1 * x.sign()).requires_grad_()  # away from the kink


@pytest.mark.parametrize("slope", [0.2, 0.01, 1.0])
def test_values_and_two_derivatives_are_those_of_torch(slope: float) -> None:
    found = []
    for function in (leaky_relu, F.leaky_relu):
        x, c = draw(2, 3, 4, 5), draw(2, 3, 4, 5)
        y = function(x * c, slope)
        (first,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        first.square().sum().backward()
        found.append([y, first, x.grad, c.grad])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_derivatives_are_those_of_finite_differences() -> None:
    x = draw(3, 4)
    assert torch.autograd.gradcheck(leaky_relu, (x,))
    assert torch.autograd.gradgradcheck(leaky_relu, (x,))


def test_at_zero_and_with_nothing_to_learn_it_is_torch_s() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    leaky_relu(x).sum().backward()
    assert x.grad.tolist() == pytest.approx([0.2, 0.2, 1.0])
    with torch.no_grad():
        torch.testing.assert_close(leaky_relu(x), F.leaky_relu(x, 0.2), rtol=0, atol=0)
    assert leaky_relu(x.detach()).grad_fn is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_type_and_memory_format_stay(dtype: torch.dtype) -> None:
    x = draw(2, 8, 4, 4, dtype=dtype).detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = leaky_relu(x)
        (slopes,) = torch.autograd.grad(y.float().sum(), x, create_graph=True)
    for found in (y, slopes):
        assert found.dtype == dtype
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_it_keeps_one_tensor_that_the_next_layer_keeps_too() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = draw(4, 4)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = leaky_relu(x)
    assert [tensor.data_ptr() for tensor in kept] == [y.data_ptr()]


# --- the path that is not there -----------------------------------------------------------------------------------


class CountProducts(TorchDispatchMode):
    """How often each kind of convolution is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        name = function._overloadpacket.__name__
        if name == "convolution_backward":
            name = "+".join(
                kind for kind, wanted in zip(("spread", "correlate"), arguments[-1], strict=False) if wanted
            )
        if name in ("convolution", "spread", "correlate", "spread+correlate"):
            self.counts[name] += 1
        return function(*arguments, **(options or {}))


def penalty_counts(activation: Any, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Of a gradient penalty of a network of three 3x3 convolutions, and of its way back."""
    monkeypatch.setattr(convolution, "SMALL", 0)
    monkeypatch.setattr(bilinear, "choose", lambda *arguments: "convolution")
    weights = [draw(4, before, 3, 3) for before in (3, 4, 4)]

    def network(x: Tensor) -> Tensor:
        for weight in weights:
            x = activation(convolution.convolution(x, weight, None, Geometry(3, 1, 1)))
        return x.sum(dim=(1, 2, 3))

    with CountProducts() as counter:
        squared_norms(input_gradient(network, draw(2, 3, 8, 8))).sum().backward()
    assert all(weight.grad is not None for weight in weights)
    return counter.counts


def test_a_penalty_goes_back_through_the_gradient_only(monkeypatch: pytest.MonkeyPatch) -> None:
    # Forward 3, the gradient 3; on its way back a correlation for every weight and a convolution between layers.
    assert penalty_counts(leaky_relu, monkeypatch) == {"convolution": 3 + 2, "spread": 3, "correlate": 3}
    torchs = penalty_counts(lambda x: F.leaky_relu(x, 0.2), monkeypatch)
    assert torchs["correlate"] > 3, "torch's own carries zeros back as well: the reason for this layer"
