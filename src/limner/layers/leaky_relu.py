"""Leaky ReLU whose second derivative is known to be zero, so that nothing is carried back along it.

y = x where x > 0, else slope x (Maas, Hannun & Ng 2013). Its derivative is a step of x: constant wherever it has a
derivative of its own. torch's function says so with a tensor of zeros, which a gradient penalty then takes back through
the whole forward pass; here that path does not exist. Values and all other derivatives are torch's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def leaky_relu(x: Float[Tensor, "..."], slope: float = 0.2) -> Float[Tensor, "..."]:
    """x where it is positive, slope * x elsewhere; slope > 0. What is kept for the way back is the outcome alone."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return F.leaky_relu(x, slope)
    return _LeakyReLU.apply(x, slope)


class _LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, slope: float) -> Tensor:
        return F.leaky_relu(x, slope)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        # The next layer keeps it too, so that it costs nothing; it has the sign of x.
        context.save_for_backward(output)
        context.slope = inputs[1]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        (output,) = context.saved_tensors
        # Detached, it is no way back to x.
        return _Step.apply(gradients[0], output.detach(), context.slope), None


class _Step(torch.autograd.Function):
    """The gradient where the outcome is positive, slope times it elsewhere."""

    @staticmethod
    def forward(gradient: Tensor, output: Tensor, slope: float) -> Tensor:
        return torch.ops.aten.leaky_relu_backward(gradient, output, slope, True)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        context.save_for_backward(inputs[1])
        context.slope = inputs[2]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (output,) = context.saved_tensors
        return _Step.apply(gradients[0], output, context.slope), None, None
