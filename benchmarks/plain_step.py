"""The plainest correct PyTorch training step of a model: what `benchmarks.training_step` measures ours against."""

from __future__ import annotations

import copy
import functools
from unittest import mock

import torch
import torch.nn.functional as F
from benchmarks.plain_volume import PlainSpectralConvolution, plain_volumes
from torch import nn

from limner.data.loader import Loader
from limner.layers.convolution import Convolution, TransposedConvolution
from limner.layers.equalized import EqualizedConvolution
from limner.layers.resampling import doubled, halved
from limner.layers.spectral import SpectralConvolution
from limner.layers.volume import DoublingVolumeConvolution, VolumeConvolution
from limner.models.base import Model, Phase
from limner.types import Batch, Draws, Logs


class Plain:
    """The model's own losses as a tutorial would train them: torch's layers, their default memory format, an optimizer
    that walks from tensor to tensor, nothing frozen, and the average of weights as a loop.

    So every parameter gets its gradient in every update, whether or not its optimizer's turn has come.
    """

    def __init__(self, model: Model, loader: Loader, resolution: int, batch_size: int, bf16: bool) -> None:
        self.model = with_torch_layers(model)
        self.average = copy.deepcopy(self.model)
        self.loader, self.resolution, self.batch_size, self.bf16 = loader, resolution, batch_size, bf16
        self.rng = torch.Generator().manual_seed(0)
        self.phases = [(phase, plain_optimizer(phase)) for phase in self.model.phases()]
        self.seen = 0

    def iteration(self) -> None:
        for phase, optimizer in self.phases:
            for step in range(phase.steps):
                batch = self.batch(self.seen + step * self.batch_size)
                self.model.zero_grad()
                logs = backward(phase, batch, self.bf16)
                optimizer.step()
                phase.after_step({name: value.detach() for name, value in logs.items()})
        self.seen += self.batch_size * max(phase.steps for phase, _ in self.phases)
        with torch.no_grad():
            for average, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                average.mul_(0.999).add_(value, alpha=0.001)

    def batch(self, start: int) -> Batch:
        images, _ = self.loader.batch(start, start + self.batch_size, self.resolution)
        latents = self.model.latents.sample(self.batch_size, self.rng)
        return Batch(images.contiguous(), latents, Draws(self.rng, self.batch_size, 0, self.batch_size))


def backward(phase: Phase, batch: Batch, bf16: bool) -> Logs:
    """Gradients of the phase's loss, with torch's own leaky ReLU; returns what the loss logs."""
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        mock.patch("limner.models.progan.leaky_relu", functools.partial(F.leaky_relu, negative_slope=0.2)),
        plain_volumes(),
    ):
        loss, logs = phase.loss(batch)
    loss.backward()
    return logs


def with_torch_layers(model: Model) -> Model:
    """The same networks and weights, convolving with torch's own layers."""
    for module in model.modules():
        if isinstance(module, Convolution):
            module.__class__ = nn.Conv2d
        elif isinstance(module, TransposedConvolution):
            module.__class__ = nn.ConvTranspose2d
        elif isinstance(module, VolumeConvolution):
            module.__class__ = nn.Conv3d
        elif isinstance(module, DoublingVolumeConvolution):
            module.__class__ = nn.ConvTranspose3d
        elif isinstance(module, SpectralConvolution):
            module.__class__ = PlainSpectralConvolution
        elif isinstance(module, EqualizedConvolution):
            module.__class__ = PlainEqualizedConvolution
    return model


class PlainEqualizedConvolution(EqualizedConvolution):
    """The same by torch's convolution, with halving and doubling as steps of their own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = doubled(x) if self.sampling == "doubling" else x
        y = torch.conv2d(x, self.scaled(), self.bias, self.geometry.stride, self.geometry.padding)
        return halved(y) if self.sampling == "halving" else y


def plain_optimizer(phase: Phase) -> torch.optim.Optimizer:
    """The phase's, of the same numbers, neither fused nor over all tensors at once."""
    parameters = [parameter for module in phase.trains for parameter in module.parameters()]
    built = phase.optimizer.build(parameters)
    one_by_one = {name: False for name in ("fused", "foreach") if name in built.defaults}
    return type(built)(parameters, **(built.defaults | one_by_one))
