"""How fast a run will train on this machine: a few updates are timed before the first step.

The updates are done by a trainer that is thrown away afterwards, on the run's own data, so the run itself is the same
with and without the measurement. Where the number of threads is free, each candidate is timed, and the fastest is used.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from limner.checkpoint import Checkpoint
from limner.training.config import TrainConfig
from limner.training.distributed import World
from limner.training.log import number, read_log
from limner.training.threads import candidates, chosen_outside, fastest
from limner.training.trainer import NotFiniteError, Trainer

TRIAL_SECONDS = 0.7
"""each number of threads is timed for so long, or for one update of every phase if that takes longer"""
LONGEST_ITERATION_SECONDS = 1.0
"""batches whose iteration would take longer are timed by smaller ones, which cost a little more for each image"""
TOO_SLOW = 4.0
"""times as long as with the first number of threads may the smallest batch take, or that number is not timed further"""
SHORTEST_RUN = 50
"""iterations; a shorter run is over before measuring it would help anybody"""
LARGEST_SIDE = 64
"""pixels; of a model that grows, the largest side up to here that is quick enough is timed"""


@dataclass(frozen=True)
class Pace:
    """The measured speed of a run."""

    images_per_second: float
    """of all processes together, without sheets, metrics and checkpoints"""
    resolution: int
    """side of the images trained on while it was measured, pixels"""
    checkpoint_bytes: int
    threads: int
    """of each process; the fastest of those tried"""
    speeds: Mapping[int, float]
    """images per second by number of threads"""


def pace_of(config: TrainConfig[Any], world: World, make_trainer: Callable[[], Trainer]) -> Pace | None:
    """Measure the pace of a run that begins, and set the number of threads. Collective.

    Args:
        config: settled.
        world: the run's processes.
        make_trainer: makes a trainer to measure with.

    Returns:
        None where nothing is measured: the run is short, or `preflight` is off.
    """
    if config.preflight == "off" or config.images < SHORTEST_RUN * (config.batch_size or 1):
        return None
    now = torch.get_num_threads()
    free = world.device.type == "cpu" and world.size == 1 and config.threads is None and not chosen_outside()
    return measure_pace(make_trainer(), candidates(now) if free else (now,))


def pace_so_far(folder: Path, found: Checkpoint | None) -> Pace | None:
    """Return a run's pace in its newest ticks; None where it has none yet."""
    ticks = [event for event in read_log(folder / "log.jsonl") if event["event"] == "tick"][-10:]
    speeds = [speed for tick in ticks if (speed := number(tick.get("images_per_second"))) and speed > 0]
    if not speeds or found is None:
        return None
    side, threads, speed = number(ticks[-1].get("resolution")), torch.get_num_threads(), statistics.median(speeds)
    return Pace(speed, int(side or 0), found.path.stat().st_size, threads, {threads: speed})


def measure_pace(trainer: Trainer, threads: Sequence[int]) -> Pace | None:
    """Time a few updates. Collective; leaves the trainer's weights and stage changed.

    Args:
        trainer: one that will not be used for anything else.
        threads: numbers of threads to try, ascending; the last one is the usual one. All processes must give the same.

    Returns:
        The pace, or None where an update was not finite: the run itself will say so.
    """
    try:
        return _measure(trainer, threads)
    except NotFiniteError:
        return None


def _measure(trainer: Trainer, threads: Sequence[int]) -> Pace:
    torch.set_num_threads(threads[0])
    resolution = _go_to_the_stage_to_time(trainer)
    least = _iteration(trainer, _fewest_rows(trainer), resolution)
    rows = _rows_to_time(trainer, resolution)
    speeds = {number: _speed(trainer, rows, resolution, number, TOO_SLOW * least) for number in threads}
    chosen = int(trainer.world.share_text(str(fastest(speeds, threads[-1]))))
    torch.set_num_threads(chosen)
    tensors, _ = trainer.state()
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return Pace(speeds[chosen], resolution, size, chosen, speeds)


def _go_to_the_stage_to_time(trainer: Trainer) -> int:
    """Put the trainer at the stage to time; returns the side of its images.

    A model that grows is quick at first and takes four times as long at each further side, so its sides are tried one
    after another until an iteration of the fewest images is no longer quick.
    """
    alone = [images for images in trainer.model.milestones() if not trainer.model.stage(images).fading]
    resolution = 0
    for images in alone:
        side = trainer.model.stage(images).resolution
        if resolution and side > LARGEST_SIDE:
            break
        trainer.images_seen, resolution = images, side
        trainer.model.set_images_seen(images)
        seconds = _iteration(trainer, _fewest_rows(trainer), side)  # a first one allocates: it takes longer
        if float(trainer.world.share_text(str(seconds))) > LONGEST_ITERATION_SECONDS / 4:
            break
    return resolution


def _fewest_rows(trainer: Trainer) -> int:
    """Return the size of the smallest batch that can be trained on: two images, or as many as a loss compares."""
    return max(trainer.model.rows_together, 2) * trainer.world.size


def _rows_to_time(trainer: Trainer, resolution: int) -> int:
    """Return the size of the batches to time: the run's own, or the largest that is quick enough."""
    whole = trainer.model.stage(trainer.images_seen).batch_size or trainer.recipe.batch_size
    fewest = rows = min(whole, _fewest_rows(trainer))
    for _ in range(3):  # a small batch costs more for each image, so each time more turn out to be quick enough
        seconds = _iteration(trainer, rows, resolution)
        quick = int(trainer.world.share_text(str(int(rows * LONGEST_ITERATION_SECONDS / max(seconds, 1e-6)))))
        larger = whole if whole <= quick else quick // fewest * fewest
        if larger <= rows:
            break
        rows = larger
    return rows


def _speed(trainer: Trainer, rows: int, resolution: int, threads: int, too_slow: float) -> float:
    """Return images per second with batches of `rows`, at that number of threads.

    Where the smallest batch takes longer than `too_slow` seconds, that alone is timed: on a busy machine too many
    threads can take minutes.
    """
    torch.set_num_threads(threads)
    fewest = _fewest_rows(trainer)
    seconds = _iteration(trainer, fewest, resolution)  # starts the threads, too
    if trainer.world.any(int(seconds > too_slow)):
        return fewest * trainer.steps / seconds
    seconds, iterations = 0.0, 0
    while trainer.world.any(int(seconds < TRIAL_SECONDS)):
        seconds += _iteration(trainer, rows, resolution)
        iterations += 1
    return iterations * rows * trainer.steps / max(seconds, 1e-9)


def _iteration(trainer: Trainer, rows: int, resolution: int) -> float:
    """Do every update of an iteration on batches of `rows`; returns its seconds."""
    began = time.perf_counter()
    trainer.update_all(rows, resolution)
    trainer.average.update(trainer.model, trainer.images_seen, rows * trainer.steps)
    if trainer.world.device.type == "cuda":
        torch.cuda.synchronize(trainer.world.device)
    return time.perf_counter() - began
