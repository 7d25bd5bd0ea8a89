"""Pre-flight: before a run's first step, every stage of it is tried on made-up images, so that none is met unprepared.

Each process of a run has a second one beside it (`limner.training.rehearsal`) do updates of every stage, on its own
rows of a batch; from these follow the images a pass may hold, and what the stage will take of memory and time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from limner.errors import LimnerError
from limner.models import Model
from limner.training.config import TrainConfig
from limner.training.memory import Budget
from limner.training.rehearsing import Answer
from limner.training.trainer import refuse_batch

PATIENCE_SECONDS = 10.0
"""an iteration that would take longer, on cores of its own, is not tried whole, but scaled from smaller ones"""
_WARM_SECONDS = 2.0
"""an iteration that took longer is not done again: what its first time cost beside hardly counts"""


@dataclass(frozen=True, kw_only=True)
class StageFigures:
    """One stage of a run, and what it takes of a process."""

    start: int
    """images seen where it begins …"""
    stop: int
    """… and ends"""
    resolution: int
    fading: bool
    batch_size: int
    """images per update, over all processes"""
    steps: int = 1
    """updates per iteration, of the phase with most"""
    micro_batch: int = 0
    """images per pass of a process; 0: not even the smallest fits"""
    peak_bytes: float = 0.0
    phase: str = ""
    """that needs most"""
    seconds_per_image: float = 0.0
    """of the run, not of the process"""
    scaled: bool = False
    """not tried with the whole batch, but scaled from smaller ones"""

    @property
    def images(self) -> int:
        return self.stop - self.start

    @property
    def seconds(self) -> float:
        return self.images * self.seconds_per_image

    @property
    def named(self) -> str:
        return f"{self.resolution}²{' fading in' if self.fading else ''}"


Ask = Callable[[int, int, int, bool], Answer | None]
"""(images seen, batch size, micro-batch, whether it is timed) → what an iteration took; None: memory was out"""


def stages_of(model: Model, config: TrainConfig[Any], start: int, stop: int) -> list[StageFigures]:
    """The stages between two numbers of images seen; nothing is measured yet."""
    marks = [images for images in model.milestones() if images < stop]
    spans = [(max(a, start), b) for a, b in zip(marks, [*marks[1:], stop], strict=True) if b > start]
    steps = max(phase.steps for phase in model.phases())
    found = []
    for low, high in spans:
        stage = model.stage(low)
        found.append(
            StageFigures(
                start=low,
                stop=high,
                resolution=stage.resolution,
                fading=stage.fading,
                batch_size=stage.batch_size or config.batch_size or model.batch_size,
                steps=steps,
            )
        )
    return found


def allowed_sizes(model: Model, batch_size: int, processes: int, most: int | None) -> list[int]:
    """Images per pass that train the same model, descending: of those with as many passes, the smallest.

    Args:
        model: may be on the meta device.
        batch_size: images per update, over all processes.
        processes: that share it.
        most: a limit, which is among the sizes where it is allowed itself.
    """
    own = batch_size // processes
    largest = min(most or own, own)
    by_passes: dict[int, int] = {}
    for micro_batch in _candidates(own, max(model.rows_together, 1), largest):
        try:
            refuse_batch(model, batch_size, micro_batch, processes)
        except LimnerError:
            continue
        by_passes[-(-own // micro_batch)] = micro_batch
    sizes = sorted(by_passes.values(), reverse=True)
    if largest == own:
        return [own, *(each for each in sizes if each < own)]
    return sorted({largest, *sizes}, reverse=True)


def _candidates(own: int, together: int, largest: int) -> list[int]:
    """Return images per pass, descending, among which is the smallest allowed for each number of passes.

    Of `own` images there are far fewer than `own`: up to √own passes, one size each; for more passes, sizes below √own.
    """
    root = math.isqrt(own) + 1
    sizes = {-(-own // (passes * together)) * together for passes in range(1, root + 1)} | set(range(1, root + 1))
    return sorted((size for size in sizes | {largest} if size <= largest), reverse=True)


def micro_batches_by_resolution(model: Model, settled: Sequence[int]) -> dict[int, int]:
    """A run's `micro_batches`, which are in the order of the model's resolutions."""
    resolutions = resolutions_of(model)
    return {side: size for side, size in zip(resolutions, settled, strict=False) if size}


def resolutions_of(model: Model) -> list[int]:
    """That it is trained at, in the order of its schedule."""
    return list(dict.fromkeys(model.stage(images).resolution for images in model.milestones()))


def settle_stage(
    stage: StageFigures, sizes: Sequence[int], own: int, first: int, ask: Ask, budget: Budget
) -> StageFigures:
    """The stage with the largest of `sizes` that fits, and its figures.

    Args:
        stage: without figures.
        sizes: images per pass, descending.
        own: this process's rows of a batch.
        first: rows of the first try.
        ask: does an iteration.
        budget: what may be taken.
    """
    middle = (stage.start + stage.stop) // 2  # where both sides of a fade have a part
    tried = _climb(lambda rows: ask(middle, rows, rows, False), first, own, budget)
    if not tried:
        return replace(stage, peak_bytes=float("inf"))
    for micro_batch in sizes:
        peak, seconds, effort = _read_off(tried, micro_batch)
        if peak > budget.bytes:
            continue
        phase, passes = tried[max(tried)].phase, own / micro_batch
        scaled = own not in tried or micro_batch < own
        if effort * passes <= (PATIENCE_SECONDS if scaled else _WARM_SECONDS) and peak <= budget.free:
            whole = ask(middle, own, micro_batch, True)
            if whole is None or whole.peak_bytes > budget.bytes:
                continue
            peak, seconds, phase, scaled, passes = whole.peak_bytes, whole.seconds, whole.phase, False, 1.0
        return replace(
            stage,
            micro_batch=micro_batch,
            peak_bytes=peak,
            phase=phase,
            seconds_per_image=seconds * passes / (stage.batch_size * stage.steps),
            scaled=scaled,
        )
    return replace(stage, peak_bytes=_read_off(tried, sizes[-1])[0], phase=tried[max(tried)].phase)


def _climb(ask: Callable[[int], Answer | None], first: int, own: int, budget: Budget) -> dict[int, Answer]:
    """Iterations of ever larger batches, as far as memory and patience go; at least two where there can be."""
    tried: dict[int, Answer] = {}
    rows = min(first, own)
    while True:
        answer = ask(rows)
        if answer is None:
            return tried
        tried[rows] = answer
        if rows == own or answer.peak_bytes > budget.free:
            return tried
        rows = min(2 * rows, own)
        peak, _, effort = _read_off(tried, rows)
        if len(tried) > 1 and (peak > min(budget.bytes, budget.free) or effort > PATIENCE_SECONDS):
            return tried


def _read_off(tried: dict[int, Answer], rows: int) -> tuple[float, float, float]:
    """Peak, seconds and effort of an iteration with so many rows: between two that were tried, or beyond the last."""
    at = sorted(tried)
    values = np.array([[tried[n].peak_bytes, tried[n].seconds, tried[n].effort_seconds] for n in at])
    if rows <= at[-1] or len(at) == 1:
        grown = max(1.0, rows / at[-1])  # beyond a single one: no more than in proportion
        found = [float(np.interp(rows, at, column)) * grown for column in values.T]
    else:
        slope = (values[-1] - values[-2]).clip(min=0) / (at[-1] - at[-2])
        found = (values[-1] + slope * (rows - at[-1])).tolist()
    return found[0], found[1], found[2]
