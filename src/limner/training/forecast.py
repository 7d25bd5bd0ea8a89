"""What a run will take: memory, time and disk, from a pre-flight; refused where there is not enough of one."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch

from limner.checkpoint import list_checkpoints
from limner.errors import LimnerError, ResourceError
from limner.latents import Labels
from limner.layers.batch_norm import BatchNorm
from limner.models import MODELS, Model
from limner.training.config import TrainConfig
from limner.training.distributed import World
from limner.training.memory import Budget, find_budget, size
from limner.training.preflight import (
    StageFigures,
    allowed_sizes,
    micro_batches_by_resolution,
    resolutions_of,
    settle_stage,
    stages_of,
)
from limner.training.progress import duration, kimg
from limner.training.rehearsing import Answer, Rehearsals
from limner.training.settling import outline
from limner.training.sheets import SHEET_FACES, faces_at_once
from limner.training.trainer import refuse_batch

SHORT_KIMG = 10.0
"""a run that grows and is over sooner is not tried first, unless asked for"""
_PNG_BYTES_PER_PIXEL = 2.2
"""of a sheet of faces; noise would take 3"""
_LOG_BYTES_PER_TICK = 700


def nothing(stage: StageFigures) -> None:
    """The default of who wants to hear of a stage."""


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
        config = self.config
        saves = (config.images - self.start) / (config.checkpoint_kimg * 1000) + 2
        kept = min(config.keep_checkpoints + 1, int(saves)) * self.checkpoint_bytes
        there = sum(path.stat().st_size for path in list_checkpoints(self.out / "checkpoints"))
        ticks = (config.images - self.start) / (config.tick_kimg * 1000)
        return max(kept - there, self.checkpoint_bytes) + self._sheet_bytes() + ticks * _LOG_BYTES_PER_TICK

    def _sheet_bytes(self) -> float:
        # A level's picture has each pixel repeated up to full size, which compresses to little more than once.
        per_image = SHEET_FACES * _PNG_BYTES_PER_PIXEL / (self.config.sample_kimg * 1000)
        return sum(stage.images * per_image * stage.resolution**2 for stage in self.stages)

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


def preflight(
    model_class: type[Model], config: TrainConfig[Any], labels: Labels, world: World, out: Path, start: int = 0
) -> Plan:
    """Try what a run, or the rest of one, is made of, where the settings ask for that. Collective.

    Raises:
        ResourceError: it would not fit in memory or on the disk.
    """
    model = outline(model_class, config, labels)
    plan = Plan(model=model, config=config, start=start, processes=world.size, out=out)
    if not _wanted(model_class, model, config, start):
        return plan
    if world.is_first:
        print("pre-flight: trying every stage on made-up images", file=sys.stderr, flush=True)
    plan = make_plan(model_class, config, labels, world, out, start)
    problems = plan.problems() if world.is_first else []
    said = world.share_text("; ".join(problems))  # the disk is the first process's
    if said:
        raise ResourceError(said)
    return plan


def _wanted(model_class: type[Model], model: Model, config: TrainConfig[Any], start: int) -> bool:
    if config.preflight == "off" or start >= config.images:
        return False
    known = MODELS.get(model_class.name) is model_class  # another process can only make those
    if config.preflight == "on" or config.memory is not None:
        if not known:
            raise LimnerError(f"preflight: {model_class.name} is not in limner.models.MODELS; use --preflight off")
        return True
    return known and len(model.milestones()) > 1 and config.images - start >= SHORT_KIMG * 1000


def make_plan(
    model_class: type[Model],
    config: TrainConfig[Any],
    labels: Labels,
    world: World,
    out: Path,
    start: int = 0,
    *,
    for_another_machine: bool = False,
    tell: Callable[[StageFigures], None] = nothing,
) -> Plan:
    """Try every stage of a run on made-up images. Collective; the processes agree on the result.

    Args:
        model_class: what is trained.
        config: settled.
        labels: what the model is told of its data.
        world: the run's processes.
        out: the run's folder, or where it will be.
        start: images seen where it goes on.
        for_another_machine: plan for as much --memory as is said, even where less is free.
        tell: hears of each stage when it is known.
    """
    model = outline(model_class, config, labels)
    budget = find_budget(config.memory, world.device, world.size_here, exactly=for_another_machine)
    held = micro_batches_by_resolution(model, config.micro_batches)
    first = 2 if any(isinstance(module, BatchNorm) for module in model.modules()) else 1
    done: list[StageFigures] = []
    plan = Plan(model=model, config=config, start=start, processes=world.size, budget=budget, out=out)
    with Rehearsals(model_class, config, labels, world.device) as rehearsals:
        for stage in stages_of(model, config, start, config.images):
            refuse_batch(model, stage.batch_size, config.micro_batch, world.size)
            sizes = allowed_sizes(model, stage.batch_size, world.size, held.get(stage.resolution) or config.micro_batch)
            own = stage.batch_size // world.size
            found = agree(settle_stage(stage, sizes, own, first, rehearsals.updates, budget), world)
            done.append(found)
            tell(found)
            if found.micro_batch == 0:
                return dataclasses.replace(plan, stages=tuple(done))
            if found.micro_batch < own:
                held[stage.resolution] = found.micro_batch
        checkpoint = rehearsals.checkpoint_bytes()
        sheet = _one_sheet(rehearsals, config.images - 1, model.resolution)
    return dataclasses.replace(plan, stages=tuple(done), checkpoint_bytes=checkpoint, sheet=sheet)


def agree(stage: StageFigures, world: World) -> StageFigures:
    """The smallest parts of all processes, and the most memory and time."""
    own = torch.tensor([-stage.micro_batch, stage.peak_bytes, stage.seconds_per_image], dtype=torch.float64)
    worst = torch.stack([one.cpu() for one in world.gather(own)]).amax(dim=0).tolist()
    return dataclasses.replace(stage, micro_batch=-int(worst[0]), peak_bytes=worst[1], seconds_per_image=worst[2])


def _one_sheet(rehearsals: Rehearsals, images_seen: int, resolution: int) -> Answer | None:
    """From one batch of its pictures; they are all held at once, as floats and as bytes."""
    count = faces_at_once(resolution)
    answer = rehearsals.pictures(images_seen, count)
    if answer is None:
        return Answer(float("inf"), 0.0, "pictures")
    others = (SHEET_FACES - count) * resolution**2 * 3 * (2 * 4 + 1)
    return Answer(answer.peak_bytes + others, answer.seconds * SHEET_FACES / count, "pictures")
