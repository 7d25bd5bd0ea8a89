"""Bounds of finite numbers: how large weights and losses may become before a run counts as diverged.

There are two bounds of each. Beyond the first an alarm is raised (`limner.training.watches`); beyond the second the
recorder treats the state as it treats numbers that are not finite: it rolls back, and ends the run where that does not
help. Healthy runs of every model stay far below both: docs/runs.md has the figures.

Weights are compared with the largest weight that the same phase started with, and never with less than 1. Losses have
no common unit: some are means and some are sums over pixels, so their bound grows with the pixels beyond 32².
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from limner.training.progress import short

WEIGHTS_SUSPECT, WEIGHTS_DIVERGED = 1e3, 1e5
"""times the largest weight at the start, or times 1 where that was smaller"""
LOSSES_SUSPECT, LOSSES_DIVERGED = 1e6, 1e9
"""of anything that a phase logs, at 32² and below"""
DIVERGED_TICKS = 3
"""ticks in a row with losses beyond the second bound that end an attempt"""
_SMALLEST_WEIGHT = 1e-3
"""added to both sides of a ratio of weights, so that weights that start at 0 have one"""

Phases = Mapping[str, Mapping[str, nn.Parameter]]


class WeightSizes:
    """Measures the largest weight of every phase, beside that at the start and that of the averaged weights.

    Args:
        trained: by phase its parameters by name, as the initialization left them.
    """

    def __init__(self, trained: Phases) -> None:
        self.trained = trained
        self.start = {phase: _largest(list(weights.values())) for phase, weights in trained.items()}

    def measure(self, average: nn.Module) -> dict[str, float]:
        """Return `PHASE/largest`, `PHASE/at_start` and `PHASE/average_factor` for every phase.

        The factor is the larger of the largest weight and the largest averaged weight, divided by the smaller.
        """
        averages = dict(average.named_parameters())
        found: dict[str, float] = {}
        for phase, weights in self.trained.items():
            largest = _largest(list(weights.values()))
            averaged = _largest([averages[name] for name in weights])
            floor = max(self.start[phase], _SMALLEST_WEIGHT)
            low, high = sorted((largest + floor, averaged + floor))
            sizes = {"largest": largest, "at_start": self.start[phase], "average_factor": high / low}
            found |= {f"{phase}/{name}": float(f"{value:.4g}") for name, value in sizes.items()}
        return found


def weights_bound(at_start: float, factor: float) -> float:
    """Return how large a weight may be where the largest one was `at_start`."""
    return factor * max(at_start, 1.0)


def losses_bound(resolution: int | None, factor: float) -> float:
    """Return how large anything logged may be at that side of the pictures, pixels."""
    return factor * max(1.0, ((resolution or 0) / 32) ** 2)


def diverged_weights(sizes: Mapping[str, float]) -> str | None:
    """Return what is the matter with weights beyond the second bound, or None where they are within it."""
    for name, value in sizes.items():
        phase, _, kind = name.rpartition("/")
        if kind == "largest":
            bound = weights_bound(sizes[f"{phase}/at_start"], WEIGHTS_DIVERGED)
            if not math.isfinite(value):
                return f"{phase}: its largest weight is not finite"
            if value > bound:
                return f"{phase}: its largest weight is {short(value)}, more than {short(bound)}"
    return None


def diverged_losses(losses: Mapping[str, float], resolution: int) -> str | None:
    """Return what is the matter with losses beyond the second bound, or None where they are within it."""
    bound = losses_bound(resolution, LOSSES_DIVERGED)
    for name, value in losses.items():
        if not abs(value) <= bound:
            return f"{name} is {short(value)}, beyond ±{short(bound)}"
    return None


@torch.no_grad()
def _largest(tensors: Sequence[Tensor]) -> float:
    """Return the largest absolute value; one transfer from the device."""
    values = [tensor.detach() for tensor in tensors if tensor.numel()]
    if not values:
        return 0.0
    return float(torch.stack(torch._foreach_norm(values, float("inf"))).max())
