"""Refuse batches that cannot be: far larger than the data set, or more than the memory holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from limner.errors import LimnerError, ResourceError
from limner.layers.batch_norm import BatchNorm
from limner.models import Model
from limner.training.config import TrainConfig
from limner.training.distributed import World
from limner.training.memory import find_budget, hand_back, peak_bytes, restart_peak, size
from limner.training.trainer import Trainer

TIMES_THE_DATA = 10
"""a batch that shows each picture more often than this is a mistake"""
SUSPICIOUS_SHARE = 1 / 200
"""of the free memory: images of a pass that take less than this, as floats, are not tried"""
MARGIN = 1.2
"""times what is free must be needed before a batch is refused: a forecast from small batches is a little off"""


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


def refuse_more_than_the_memory(config: TrainConfig[Any], world: World, make_trainer: Callable[[], Trainer]) -> None:
    """Raise ResourceError where a pass over a batch needs far more memory than is free. Collective.

    Only a batch whose images alone are a good part of the memory is tried, by an update with two and one with eight
    images: memory grows in a straight line with their number.

    Args:
        config: settled.
        world: the run's processes.
        make_trainer: makes a trainer to try it with.
    """
    free = find_budget(config.memory, world.device, world.size_here, exactly=False).bytes
    own = (config.batch_size or 1) // world.size
    rows = min(config.micro_batch or own, own)
    image_bytes = 3 * (config.resolution or 1) ** 2 * 4
    if not world.any(int(rows * image_bytes > SUSPICIOUS_SHARE * free)):
        return
    trainer = make_trainer()
    fewest = max(trainer.model.rows_together, 2)
    few, more = (_peak_of_an_update(trainer, count) for count in (fewest, 4 * fewest))
    slope = max((more - few) / (3 * fewest), image_bytes)
    needed = few + slope * (rows - fewest)
    if not world.any(int(needed > MARGIN * free)):
        return
    fits = max(int((free - few) / slope) + fewest, fewest) // fewest * fewest
    normalized = any(isinstance(module, BatchNorm) for module in trainer.model.modules())
    flag, count = ("--micro-batch", fits) if config.micro_batch else ("--batch-size", fits * world.size)
    parts = "" if normalized or config.micro_batch else f", or --micro-batch {fits} for the same training in parts"
    raise ResourceError(
        f"a pass over {rows} images needs about {size(needed)} of the {size(free)} that a process may take; "
        f"use {flag} {count} or less{parts}"
    )


def _peak_of_an_update(trainer: Trainer, rows: int) -> int:
    """Return the most memory that an iteration takes, with `rows` images for each process."""
    hand_back()
    restart_peak(trainer.world.device)
    trainer.update_all(rows * trainer.world.size, trainer.model.stage(trainer.images_seen).resolution)
    return peak_bytes(trainer.world.device)
