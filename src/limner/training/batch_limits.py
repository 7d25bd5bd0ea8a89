"""Refuse batches that cannot be, and say which size can: far larger than the data set, or more than the memory holds.

What a batch takes of memory is estimated from the generator's outline first, which costs nothing. Only where a generous
multiple of that would not fit is it tried: the process that rehearses a run (`limner.training.rehearsal`) does
iterations with ever larger batches, as far as they are quick, and a line through the last two tells the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limner.errors import LimnerError, ResourceError
from limner.latents import Labels
from limner.layers.batch_norm import BatchNorm
from limner.models import Model
from limner.models.outside import import_path
from limner.training.config import TrainConfig
from limner.training.distributed import World
from limner.training.memory import Budget, find_budget, size
from limner.training.planning import is_tried_first
from limner.training.rehearsing import Answer, Rehearsals
from limner.training.settling import outline

TIMES_THE_DATA = 10
"""a batch that shows each picture more often than this is a mistake"""
GENEROUS = 8.0
"""times what the generator keeps for its backward pass: no model here takes more for a whole iteration"""
PATIENCE_SECONDS = 2.0
"""no larger batch is tried after an iteration that took longer"""
_UNKNOWN_BYTES_PER_PIXEL = 4096.0
"""taken for what a generator keeps of each pixel where its outline does not tell"""
_SAFE = 0.8
"""share of what fits by a line through two measurements that is named: peaks differ from one iteration to the next"""
_FLOAT_BYTES = 4


def refuse_more_than_the_data(model: Model, config: TrainConfig[Any], pictures: int) -> None:
    """Raise LimnerError where a batch is many times as large as the data set.

    Args:
        model: may be on the meta device.
        config: settled.
        pictures: images to train on.
    """
    largest = max(model.stage(images).batch_size or config.batch_size or 1 for images in model.milestones())
    if largest > TIMES_THE_DATA * pictures:
        raise LimnerError(
            f"batch size {largest} is more than {TIMES_THE_DATA} times the {pictures} images to train on; "
            f"use --batch-size {pictures} or less"
        )


def refuse_more_than_the_memory(
    model_class: type[Model], config: TrainConfig[Any], labels: Labels, world: World
) -> None:
    """Refuse batches whose iteration does not fit in memory. Collective.

    Where the pre-flight is to try every stage and batches may be taken in parts, it does so, and nothing is done here.

    Args:
        model_class: what is trained.
        config: settled.
        labels: what the model is told of its data.
        world: the run's processes; each has its own rows of a batch, and its own memory.

    Raises:
        ResourceError: naming a size that fits.
    """
    model = outline(model_class, config, labels)
    if in_parts(model) and is_tried_first(model_class, model, config, 0):
        return
    budget = find_budget(config.memory, world.device, world.size_here, exactly=False)
    batch = largest_batch(model, config, world.size)
    if not world.any(int(GENEROUS * batch.rows * batch.bytes_per_row > budget.bytes)):
        return
    can_try = import_path(model_class) is not None and config.preflight != "off"
    if can_try:
        with Rehearsals(model_class, config, labels, world.device) as rehearsals:
            most, needed = rows_that_fit(batch, budget, rehearsals.updates, _fewest_rows(model))
    else:  # what is certain: the generator's own share
        needed = batch.rows * batch.bytes_per_row
        most = batch.rows if needed <= budget.bytes else int(budget.bytes / (GENEROUS * batch.bytes_per_row))
    most = int(min(rows.item() for rows in world.gather(torch.tensor(most))))
    if most < batch.rows:
        raise ResourceError(_refusal(model, batch, most, needed, budget, world.size))


@dataclass(frozen=True)
class LargestBatch:
    """The batch of a run that takes most memory."""

    images_seen: int
    """where it comes first"""
    resolution: int
    size: int
    """images of all processes"""
    rows: int
    """images of one pass of one process"""
    bytes_per_row: float
    """least that a pass keeps of each image"""


def largest_batch(model: Model, config: TrainConfig[Any], processes: int) -> LargestBatch:
    """Return the batch of a run that takes most memory, of all stages of a model that grows.

    Args:
        model: an outline, whose stage is changed.
        config: settled.
        processes: that share each batch.
    """
    found = []
    for images in model.milestones():
        if images >= config.images and images > 0:
            continue
        stage = model.stage(images)
        size = stage.batch_size or config.batch_size or model.batch_size
        own = max(size // processes, 1)
        model.set_images_seen(images)
        kept = kept_bytes_per_row(model, stage.resolution)
        found.append(LargestBatch(images, stage.resolution, size, min(config.micro_batch or own, own), kept))
    return max(found, key=lambda batch: batch.rows * batch.bytes_per_row)


def kept_bytes_per_row(model: Model, resolution: int) -> float:
    """Return what a pass keeps of each image, at least: the image, its fake, and the generator's inner values.

    Args:
        model: an outline, at the stage that is meant.
        resolution: side of the images of that stage, pixels.
    """
    images = 2 * 3 * resolution**2 * _FLOAT_BYTES
    try:
        inner = (_kept_bytes(model, 4) - _kept_bytes(model, 2)) / 2
    except (RuntimeError, NotImplementedError):  # an operation that needs real numbers
        inner = _UNKNOWN_BYTES_PER_PIXEL * resolution**2
    return images + inner


def _kept_bytes(model: Model, rows: int) -> int:
    """Return the bytes that autograd keeps while so many images are generated; of tensors that have no memory."""
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        if not isinstance(tensor, nn.Parameter):
            kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.generate(torch.zeros(rows, model.latents.width, device="meta"))
    return kept


Ask = Callable[[int, int, int, bool], Answer | None]
"""(images seen, batch size, micro-batch, whether it is timed) → what an iteration took; None: memory was out"""


def rows_that_fit(batch: LargestBatch, budget: Budget, ask: Ask, first: int) -> tuple[int, float]:
    """Return how many images of a pass fit (all of the batch's, if they do), and the bytes that the batch needs.

    Args:
        batch: to be tried.
        budget: memory that may be taken.
        ask: does an iteration.
        first: images of the first try.
    """
    tried: dict[int, float] = {}
    rows, slope = min(first, batch.rows), batch.bytes_per_row
    while True:
        answer = ask(batch.images_seen, rows, rows, False)
        if answer is None:
            break
        tried[rows] = answer.peak_bytes
        *_, last = sorted(tried)
        slope = _slope(tried, batch.bytes_per_row)
        if rows == batch.rows or answer.peak_bytes > budget.bytes or answer.effort_seconds > PATIENCE_SECONDS:
            break
        rows = min(2 * rows, batch.rows)
        if answer.peak_bytes + slope * (rows - last) > budget.bytes:
            break
    if not tried:
        return 0, float("inf")
    last = max(tried)
    needed = tried[last] + slope * (batch.rows - last)
    most = last + int((budget.bytes - tried[last]) / slope)
    return (batch.rows if needed <= budget.bytes else max(min(most, batch.rows - 1), 0)), needed


def _slope(tried: dict[int, float], least: float) -> float:
    """Return bytes for each further image, of the last two tries; a process's peak jumps, so no less than `least`."""
    if len(tried) < 2:
        return least
    before, last = sorted(tried)[-2:]
    return max((tried[last] - tried[before]) / (last - before), least)


def in_parts(model: Model) -> bool:
    """Return whether a batch may be taken in parts without training another model."""
    return model.rows_together > 0 and not any(isinstance(module, BatchNorm) for module in model.modules())


def _fewest_rows(model: Model) -> int:
    """Return the size of the smallest batch that can be tried: two images, or as many as a loss compares."""
    return max(model.rows_together, 2)


def _refusal(model: Model, batch: LargestBatch, most: int, needed: float, budget: Budget, processes: int) -> str:
    together = max(model.rows_together, 1)
    rows = _round_number(int(_SAFE * most)) // together * together
    parts = f" in parts of {batch.rows}" if batch.rows < batch.size // processes else ""
    needs = f"about {size(needed)}" if needed < float("inf") else "more memory than there is"
    said = f"batch size {batch.size}{parts} at {batch.resolution}² needs {needs}, of {budget.said}"
    if rows < 1:
        return f"{said}; not even the smallest batch fits: use a smaller --resolution or narrower networks"
    ways = [f"--batch-size {rows * processes} or less"] if not parts else []
    if in_parts(model):
        ways.append(f"--micro-batch {rows} (the same training in parts)")
    return f"{said}; use {', or '.join(ways)}"


def _round_number(count: int) -> int:
    """Return the largest number of two digits and zeros that is not above it: what an estimate is good for."""
    zeros = 10 ** max(len(str(count)) - 2, 0)
    return count // zeros * zeros
