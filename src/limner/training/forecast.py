"""What a run will take, as its pre-flight found it: memory, time and disk, and why it cannot be where it cannot."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from limner.checkpoint import list_checkpoints
from limner.models import Model
from limner.training.config import TrainConfig
from limner.training.memory import Budget, size
from limner.training.preflight import (
    StageFigures,
    allowed_sizes,
    micro_batches_by_resolution,
    resolutions_of,
)
from limner.training.progress import duration, kimg
from limner.training.rehearsing import Answer
from limner.training.sheets import faces_drawn, shown_pixels

_PNG_BYTES_PER_PIXEL = 2.2
"""of a sheet of faces; noise would take 3"""
_PNG_BYTES_PER_ENLARGED_PIXEL = {"lanczos": 1.0, "pixels": 0.15}
"""further bytes where faces are enlarged, per pixel shown: 64 faces of 32² shown at 96² took 0.4 to 1.7 in all, heads
1.1 (0.3 with pixels), heads of 4² 0.6, and 32² shown at 256² 0.7"""
_PAGE_BYTES = 1e6
"""of the report and the time-lapse"""
_LOG_BYTES_PER_TICK = 700


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before its first step; without stages where it was not tried."""

    model: Model
    """its outline"""
    config: TrainConfig[Any]
    start: int = 0
    """images seen where it begins, or goes on"""
    processes: int = 1
    stages: tuple[StageFigures, ...] = ()
    """as far as they fit, and the first that does not"""
    budget: Budget | None = None
    checkpoint_bytes: int = 0
    sheet: Answer | None = None
    """one sheet of pictures"""
    out: Path = Path()

    # --- memory -------------------------------------------------------------------------------------------------

    @property
    def largest(self) -> StageFigures:
        """The stage that needs most memory."""
        return max(self.stages, key=lambda stage: stage.peak_bytes)

    @property
    def peak_bytes(self) -> float:
        return max(self.largest.peak_bytes, self.sheet.peak_bytes if self.sheet else 0.0)

    def settled(self, config: TrainConfig[Any]) -> TrainConfig[Any]:
        """The run's settings with micro-batches that fit."""
        held = micro_batches_by_resolution(self.model, config.micro_batches)
        for stage in self.stages:
            own = stage.batch_size // self.processes
            if 0 < stage.micro_batch < min(held.get(stage.resolution, config.micro_batch) or own, own):
                held[stage.resolution] = stage.micro_batch
        if not held:
            return config
        by_order = tuple(held.get(side, 0) for side in resolutions_of(self.model))
        return dataclasses.replace(config, micro_batches=by_order)

    def smaller_parts(self, config: TrainConfig[Any]) -> list[str]:
        """What is new about the micro-batches, a line each."""
        held = micro_batches_by_resolution(self.model, config.micro_batches)
        now = micro_batches_by_resolution(self.model, self.settled(config).micro_batches)
        changed = {side: parts for side, parts in now.items() if parts != held.get(side)}
        before = {side: held.get(side) or config.micro_batch or "the whole batch" for side in changed}
        return [
            f"at {side}² batches are taken in parts of {parts} images ({before[side]} would not fit): the same "
            f"training, rounded otherwise"
            for side, parts in changed.items()
        ]

    # --- time and disk ------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Of training and of drawing sheets; metrics are not in it."""
        sheets = self.sheets * self.sheet.seconds if self.sheet else 0.0
        return sum(stage.seconds for stage in self.stages) + sheets

    @property
    def sheets(self) -> int:
        """Sheets still to be drawn."""
        every = self.config.sample_kimg * 1000
        return int(self.config.images // every - self.start // every) + 1

    @property
    def disk_bytes(self) -> float:
        """Still to be written: checkpoints, one more than are kept; sheets; the log."""
        return self.disk_with(self.checkpoint_bytes)

    def disk_with(self, checkpoint_bytes: int) -> float:
        """Bytes still to be written where a checkpoint has `checkpoint_bytes`: checkpoints, sheets and the log."""
        config = self.config
        saves = (config.images - self.start) / (config.checkpoint_kimg * 1000) + 2
        kept = min(config.keep_checkpoints + 1, int(saves)) * checkpoint_bytes
        there = sum(path.stat().st_size for path in list_checkpoints(self.out / "checkpoints"))
        ticks = (config.images - self.start) / (config.tick_kimg * 1000)
        return max(kept - there, checkpoint_bytes) + self._sheet_bytes() + ticks * _LOG_BYTES_PER_TICK

    def _sheet_bytes(self) -> float:
        every = self.config.sample_kimg * 1000
        parts = [(stage.images, stage.resolution) for stage in self.stages]
        parts = parts or [(self.config.images - self.start, self.model.resolution)]  # nothing was tried
        sheets = [images / every * faces_drawn(self.model) * self._face_bytes(side) for images, side in parts]
        return sum(sheets) + _PAGE_BYTES

    def _face_bytes(self, made: int) -> float:
        """Return what a face of that side takes on a sheet."""
        shown = shown_pixels(self.model.resolution)
        further = shown**2 * _PNG_BYTES_PER_ENLARGED_PIXEL[self.config.enlarge] if made < shown else 0.0
        return made**2 * _PNG_BYTES_PER_PIXEL + further

    @property
    def free_disk_bytes(self) -> float:
        folder = next(one for one in (self.out.absolute(), *self.out.absolute().parents) if one.exists())
        return float(shutil.disk_usage(folder).free)

    # --- told ---------------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Why the run cannot be; a line each."""
        found = []
        if self.stages and self.stages[-1].micro_batch == 0 and self.budget:
            stage, own = self.stages[-1], self.stages[-1].batch_size // self.processes
            smallest = allowed_sizes(self.model, stage.batch_size, self.processes, None)[-1]
            parts = f"{smallest} of its images at a time" if smallest < own else "whole, as it must be"
            needs = size(stage.peak_bytes) if stage.peak_bytes < float("inf") else "more than there is"
            found.append(
                f"memory: {stage.named}, {stage.phase or 'first'} phase, a batch of {stage.batch_size} taken {parts} "
                f"needs {needs} of {self.budget.said}; use a smaller --batch-size or --resolution, narrower "
                f"networks, or more --memory"
            )
        elif self.stages and self.budget and self.peak_bytes > self.budget.bytes:
            found.append(
                f"memory: drawing pictures of {self.model.resolution}² needs {size(self.peak_bytes)} of "
                f"{self.budget.said}; use a smaller --resolution, narrower networks, or more --memory"
            )
        if self.stages and self.disk_bytes > self.free_disk_bytes:
            found.append(
                f"disk: checkpoints ({size(self.checkpoint_bytes)} each) and sheets need {size(self.disk_bytes)}, "
                f"{size(self.free_disk_bytes)} are free in {self.out}; use another --out, a longer --sample-kimg "
                f"or fewer --keep-checkpoints"
            )
        return found

    def warnings(self) -> list[str]:
        """What is odd about the run's length."""
        last, needed = self.model.milestones()[-1], self.model.images_needed()
        if self.config.images > last or needed is None:
            return []
        stage = self.model.stage(self.config.images - 1)
        return [
            f"the run ends at {kimg(self.config.images)} kimg, with {stage.resolution}² "
            f"{'still fading in' if stage.fading else 'alone'}: {self.model.resolution}² stands alone from "
            f"{kimg(last)} kimg on; the whole schedule is --kimg {kimg(needed)}"
        ]

    def lines(self) -> list[str]:
        """The short form."""
        if not self.stages or self.budget is None:
            return []
        end = datetime.now().astimezone() + timedelta(seconds=self.seconds)
        sides = list(dict.fromkeys(stage.resolution for stage in self.stages))
        levels = f"{sides[0]}² to {sides[-1]}²" if len(sides) > 1 else f"{sides[0]}²"
        return [
            f"plan: {levels}, {duration(self.seconds)} without metrics, until about {end:%a %d %b %Y %H:%M}; "
            f"memory at most {size(self.peak_bytes)} ({self.largest.named}) of {self.budget.said}; "
            f"disk {size(self.disk_bytes)} of {size(self.free_disk_bytes)}",
            *([] if self.start else self.smaller_parts(self.config)),  # a resume says what it changed
        ]

    def event(self) -> dict[str, Any] | None:
        """As kept in the log; None where nothing was tried."""
        if not self.stages or self.budget is None:
            return None
        return {
            "seconds": round(self.seconds, 1),
            "memory_mb": round(self.peak_bytes / 1e6, 1),
            "available_mb": round(self.budget.bytes / 1e6, 1) if self.budget.bytes < float("inf") else None,
            "checkpoint_mb": round(self.checkpoint_bytes / 1e6, 1),
            "disk_mb": round(self.disk_bytes / 1e6, 1),
            "stages": [_stage_event(stage) for stage in self.stages],
        }


def _stage_event(stage: StageFigures) -> dict[str, Any]:
    return {
        "start": stage.start,
        "stop": stage.stop,
        "resolution": stage.resolution,
        "fading": stage.fading,
        "batch_size": stage.batch_size,
        "micro_batch": stage.micro_batch,
        "memory_mb": round(stage.peak_bytes / 1e6, 1),
        "phase": stage.phase,
        "seconds_per_kimg": round(stage.seconds_per_image * 1000, 4),
        "scaled": stage.scaled,
    }
