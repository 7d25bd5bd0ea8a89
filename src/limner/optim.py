"""Optimizers as values: what a phase is trained with, said in the model's file and built by the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba 2015, arXiv:1412.6980."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def build(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        # One fused kernel over all tensors: the step of a small network is otherwise mostly launches.
        betas = (float(self.beta1), float(self.beta2))
        return torch.optim.Adam(list(parameters), lr=self.learning_rate, betas=betas, eps=self.eps, fused=True)


@dataclass(frozen=True)
class RMSprop:
    """Tieleman & Hinton 2012: gradients divided by a running root mean square, `smoothing` its decay."""

    learning_rate: float
    smoothing: float = 0.99
    eps: float = 1e-8

    def build(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(
            list(parameters), lr=self.learning_rate, alpha=self.smoothing, eps=self.eps, foreach=True
        )
