"""From a run's settings to its plan: every stage tried, by every process, and refused where it cannot fit."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from limner.errors import LimnerError, ResourceError
from limner.latents import Labels
from limner.layers.batch_norm import BatchNorm
from limner.models import Model
from limner.models.outside import import_path
from limner.training.config import TrainConfig
from limner.training.distributed import World
from limner.training.forecast import Plan
from limner.training.memory import find_budget
from limner.training.preflight import (
    StageFigures,
    allowed_sizes,
    micro_batches_by_resolution,
    settle_stage,
    stages_of,
)
from limner.training.rehearsing import Answer, Rehearsals
from limner.training.settling import outline
from limner.training.sheets import SHEET_FACES, faces_at_once, faces_drawn
from limner.training.trainer import refuse_batch

SHORT_KIMG = 10.0
"""a run that grows and is over sooner is not tried first, unless asked for"""


def nothing(stage: StageFigures) -> None:
    """The default of who wants to hear of a stage."""


def preflight(
    model_class: type[Model], config: TrainConfig[Any], labels: Labels, world: World, out: Path, start: int = 0
) -> Plan:
    """Try what a run, or the rest of one, is made of, where the settings ask for that. Collective.

    Raises:
        ResourceError: it would not fit in memory or on the disk.
    """
    model = outline(model_class, config, labels)
    plan = Plan(model=model, config=config, start=start, processes=world.size, out=out)
    if not is_tried_first(model_class, model, config, start):
        return plan
    if world.is_first:
        print("pre-flight: trying every stage on made-up images", file=sys.stderr, flush=True)
    plan = make_plan(model_class, config, labels, world, out, start)
    problems = plan.problems() if world.is_first else []
    said = world.share_text("; ".join(problems))  # the disk is the first process's
    if said:
        raise ResourceError(said)
    return plan


def is_tried_first(model_class: type[Model], model: Model, config: TrainConfig[Any], start: int) -> bool:
    """Return whether every stage of a run is tried before its first step."""
    if config.preflight == "off" or start >= config.images:
        return False
    known = import_path(model_class) is not None  # another process can only make those
    if config.preflight == "on" or config.memory is not None:
        if not known:
            raise LimnerError(
                f"preflight: the class of {model_class.name} cannot be imported by another process; move it to a file "
                "of its own, or use --preflight off"
            )
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
        sheet = _one_sheet(rehearsals, config.images - 1, model)
    return dataclasses.replace(plan, stages=tuple(done), checkpoint_bytes=checkpoint, sheet=sheet)


def agree(stage: StageFigures, world: World) -> StageFigures:
    """The smallest parts of all processes, and the most memory and time."""
    own = torch.tensor([-stage.micro_batch, stage.peak_bytes, stage.seconds_per_image], dtype=torch.float64)
    worst = torch.stack([one.cpu() for one in world.gather(own)]).amax(dim=0).tolist()
    return dataclasses.replace(stage, micro_batch=-int(worst[0]), peak_bytes=worst[1], seconds_per_image=worst[2])


def _one_sheet(rehearsals: Rehearsals, images_seen: int, model: Model) -> Answer | None:
    """From one batch of its pictures; a sheet's are all held at once, as floats and as bytes, turned ones are not."""
    count = faces_at_once(model.resolution)
    answer = rehearsals.pictures(images_seen, count)
    if answer is None:
        return Answer(float("inf"), 0.0, "pictures")
    others = (SHEET_FACES - count) * model.resolution**2 * 3 * (2 * 4 + 1)
    return Answer(answer.peak_bytes + others, answer.seconds * faces_drawn(model) / count, "pictures")
