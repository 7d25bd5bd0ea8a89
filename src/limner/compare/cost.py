"""What a model costs: parameters, time, memory, and the images and seconds until a score was first reached."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from limner.compare.contenders import Contender, Group
from limner.compare.scores import Estimate
from limner.errors import LimnerError
from limner.metrics.registry import METRICS
from limner.training.log import number
from limner.training.record import RunRecord


@dataclass(frozen=True)
class Goal:
    """A score to reach."""

    name: str
    """the number's, as in the log: swd_1024"""
    value: float
    lower: bool
    """whether lower is better"""

    def reached_by(self, value: float) -> bool:
        return value <= self.value if self.lower else value >= self.value

    def __str__(self) -> str:
        return f"{self.name} {'≤' if self.lower else '≥'} {self.value:.4g}"


@dataclass(frozen=True)
class Cost:
    """Of one run; None where its log does not say."""

    seconds: float | None
    images_per_second: float | None
    memory_mb: float | None


def cost_of(record: RunRecord) -> Cost:
    """Seconds in training (pictures and metrics not counted), images a second of them, and the peak of memory."""
    seconds = number(record.ticks[-1].get("seconds")) if record.ticks else None
    memory = [peak for tick in record.ticks if (peak := number(tick.get("memory_mb"))) is not None]
    speed = record.ticks[-1]["images"] / seconds if seconds else None
    return Cost(seconds, speed, max(memory, default=None))


def parameters(group: Group) -> tuple[int, int | None]:
    """Of all networks, and of the one that makes the pictures: `generator`, or `decoder` of an autoencoder."""
    maker = getattr(group.model, "generator", None) or getattr(group.model, "decoder", None)
    return _count(group.model), _count(maker) if isinstance(maker, nn.Module) else None


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def seconds_at(record: RunRecord, images: int) -> float | None:
    """Seconds in training after so many images: between two ticks on the straight line."""
    known = [(0, 0.0)] + [(t["images"], s) for t in record.ticks if (s := number(t.get("seconds"))) is not None]
    place = bisect_left([seen for seen, _ in known], images)
    if place == len(known):
        return known[-1][1] if len(known) > 1 else None  # the last tick may lie an iteration before the end
    (left, before), (right, after) = known[max(place - 1, 0)], known[place]
    return after if right == left else before + (after - before) * (images - left) / (right - left)


def scores_over_time(record: RunRecord) -> dict[str, dict[int, float]]:
    """Name of a number → images seen → its value, from the log's metric events that count."""
    found: dict[str, dict[int, float]] = {}
    for event in record.log:
        name, value = event.get("name"), number(event.get("value"))
        if event["event"] == "metric" and isinstance(name, str) and value is not None:
            found.setdefault(name, {})[event["images"]] = value
    return found


def choose_goal(groups: Sequence[Group], asked: str | None) -> Goal | None:
    """What was asked for as NAME=VALUE, or the best score that every run reached of the first number that all of them
    measured more than once; None where there is none.

    Raises:
        LimnerError: what was asked for is not NAME=VALUE, or has no direction, or no run measured it.
    """
    runs = [run for group in groups for run in group.runs]
    tracked = [scores_over_time(run.record) for run in runs]
    if asked is not None:
        return _asked_goal(asked, tracked)
    for name in _by_rank({name for scores in tracked for name in scores}):
        curves = [scores.get(name, {}) for scores in tracked]
        if all(len(curve) > 1 for curve in curves):
            lower = _lower(name)
            best = [min(curve.values()) if lower else max(curve.values()) for curve in curves]
            return Goal(name, _rounded(max(best) if lower else min(best), lower), lower)
    return None


def _asked_goal(asked: str, tracked: Sequence[dict[str, dict[int, float]]]) -> Goal:
    wanted, _, value = asked.partition("=")
    limit = _finite(value)
    if not wanted or limit is None:
        raise LimnerError(f"--reach {asked!r}: write NAME=VALUE, such as swd=20")
    names = {name for scores in tracked for name in scores}
    known = _by_rank({name for name in names if name == wanted or _metric(name) == wanted})
    if not known:
        there = ", ".join(_by_rank(names)) or "none"
        raise LimnerError(f"--reach {asked!r}: no run measured {wanted} with lower or higher better; measured: {there}")
    name = max(known, key=lambda name: sum(len(scores.get(name, {})) for scores in tracked))
    return Goal(name, limit, _lower(name))


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _metric(name: str) -> str | None:
    """The metric a number's name begins with: swd_1024 → swd, fd_probe_2k → fd."""
    return next((key for key in METRICS if name == key or name.startswith(f"{key}_")), None)


def _lower(name: str) -> bool:
    return METRICS[_metric(name) or ""].better == "lower"


def _by_rank(names: set[str]) -> list[str]:
    """Those with a direction, in the order of METRICS."""
    order = list(METRICS)
    directed = [name for name in names if (key := _metric(name)) and METRICS[key].better != "as reals"]
    return sorted(directed, key=lambda name: (order.index(_metric(name) or ""), name))


def _rounded(value: float, lower: bool) -> float:
    """To three digits, towards the easier side, so that a run that has this best score still reaches it."""
    if value == 0:
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return float(f"{(math.ceil if lower else math.floor)(value / step) * step:.10g}")


@dataclass(frozen=True)
class Reached:
    """When a group's runs first reached a goal."""

    images: Estimate | None
    seconds: Estimate | None
    runs: int
    """how many of them did"""


def reached(group: Group, goal: Goal) -> Reached:
    """Over the runs that reached it; estimates are None where none did."""
    moments = [(run, images) for run in group.runs if (images := _first(run, goal)) is not None]
    seconds = [spent for run, images in moments if (spent := seconds_at(run.record, images)) is not None]
    return Reached(
        Estimate.of([float(images) for _, images in moments]) if moments else None,
        Estimate.of(seconds) if seconds else None,
        len(moments),
    )


def _first(run: Contender, goal: Goal) -> int | None:
    curve = scores_over_time(run.record).get(goal.name, {})
    return next((images for images in sorted(curve) if goal.reached_by(curve[images])), None)
