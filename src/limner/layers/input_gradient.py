"""The gradient of a network's output in its input, differentiable in the weights: what penalties are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limner.layers.convolution import input_gradients_only
from limner.types import Images, Logits


def input_gradient(judge: Callable[[Images], Logits], points: Images) -> Images:
    """How each image's own judgement changes with its pixels; rows must not influence each other much.

    Minibatch standard deviation lets them: the gradient is then that of the sum over the batch, as published codes
    take it.
    """
    points = points.detach().requires_grad_(True)
    with input_gradients_only():
        (slopes,) = torch.autograd.grad(judge(points).sum(), points, create_graph=True)
    return slopes


def squared_norms(slopes: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n"]:
    """Of every image over all its pixels and colours."""
    return slopes.flatten(1).square().sum(dim=1)
