"""The verb `limner data heads`: draw the built-in dataset, on all cores, whole or not at all."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from limner.cache import cache_folder
from limner.errors import LimnerError, ResourceError, RunLockedError
from limner.heads.person import ATTRIBUTE_NAMES
from limner.heads.render import check_settings, render_head

RENDERER_VERSION = 2
"""goes up when the same (seed, index) draws another picture; names the cache and stands in each dataset"""
DEFAULT_YAW_RANGE = 45.0
_LARGEST_COUNT = 10_000_000
_CHUNK_PIXELS = 64 * 64 * 64
_SECONDS_BETWEEN_LOOKS = 0.2


def make_heads(
    dest: tyro.conf.Positional[Path],
    *,
    count: int = 10_000,
    resolution: int = 64,
    yaw_range: float = DEFAULT_YAW_RANGE,
    seed: int = 0,
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
) -> None:
    """Draw the built-in dataset of heads: labelled, posed, and free of any real person.

    Head i depends on the seed and i alone: a longer set begins with the shorter one. Every tenth head is for testing,
    every twentieth for validation, the others for training.

    Args:
        dest: folder to make; must not exist.
        count: number of heads.
        resolution: side of the pictures, a power of two from 16 to 512 pixels.
        yaw_range: degrees that heads are turned to either side, evenly spread; 0 to 90.
        seed: number of the set; the same seed gives the same heads.
        workers: processes to draw with; by default one a core.
    """
    check_settings(seed, resolution, yaw_range)
    if resolution & (resolution - 1):
        raise LimnerError(f"resolution {resolution}: a dataset needs a power of two from 16 to 512")
    if not 1 <= count <= _LARGEST_COUNT:
        raise LimnerError(f"count {count}: must be 1 to {_LARGEST_COUNT:,}")
    if workers is not None and workers < 1:
        raise LimnerError(f"workers {workers}: must be 1 or more")
    _write_set(dest, count, HeadsJob(seed, resolution, yaw_range), workers or os.cpu_count() or 1)


def default_heads(resolution: int, count: int) -> Path:
    """The folder of seed 0's first `count` heads at `resolution`, drawn on first use and kept in the user's cache.

    The cache is $LIMNER_CACHE, else $XDG_CACHE_HOME/limner, else ~/.cache/limner. Several processes may ask at once:
    one draws, the others wait for it.

    Raises:
        LimnerError: resolution or count is out of range.
        ResourceError: the cache cannot be written.
    """
    folder = cache_folder() / "heads" / f"heads-v{RENDERER_VERSION}-{resolution}-{count}"
    while not (folder / "dataset.json").is_file():
        try:
            make_heads(folder, count=count, resolution=resolution)
        except RunLockedError:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        except LimnerError:
            if not (folder / "dataset.json").is_file():  # else another process finished it just now
                raise
    return folder


def split_of(index: np.ndarray) -> np.ndarray:
    """The split of heads by index: 2 (test) for every tenth, 1 (valid) for every twentieth, else 0 (train)."""
    return np.where(index % 10 == 9, 2, np.where(index % 20 == 8, 1, 0)).astype(np.uint8)


@dataclass(frozen=True)
class HeadsJob:
    """What every worker is told. yaw_range in degrees."""

    seed: int
    resolution: int
    yaw_range: float

    def draw(self, indices: range) -> Rows:
        """The heads at `indices`."""
        heads = [render_head(self.seed, index, self.resolution, self.yaw_range) for index in indices]
        return Rows(
            start=indices.start,
            images=np.stack([head.image for head in heads]),
            attributes=np.array([[head.attributes[name] for name in ATTRIBUTE_NAMES] for head in heads], np.uint8),
            pose=np.array([head.pose for head in heads], np.float32),
        )


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of the set from `start`: images (k, r, r, 3) uint8, attributes (k, a), pose (k, 3) radians."""

    start: int
    images: np.ndarray
    attributes: np.ndarray
    pose: np.ndarray


def _write_set(dest: Path, count: int, job: HeadsJob, workers: int) -> None:
    from limner.data.writer import DatasetWriter  # heads can be drawn without it

    attributes = np.zeros((count, len(ATTRIBUTE_NAMES)), np.uint8)
    pose = np.zeros((count, 3), np.float32)
    source = {
        "kind": "heads",
        "licence": "CC0-1.0",
        "renderer": RENDERER_VERSION,
        "seed": job.seed,
        "yaw_range_degrees": job.yaw_range,
    }
    with DatasetWriter(
        dest,
        name=f"heads-{job.resolution}",
        count=count,
        resolution=job.resolution,
        crop="rendered",
        resize="rendered",
        source=source,
        attribute_names=ATTRIBUTE_NAMES,
    ) as writer:
        for rows in _shown(_draw_all(count, job, workers), count):
            stop = rows.start + len(rows.images)
            writer.write(rows.start, rows.images)
            attributes[rows.start : stop] = rows.attributes
            pose[rows.start : stop] = rows.pose
        writer.finish(attributes=attributes, pose=pose, splits=split_of(np.arange(count)))


def _draw_all(count: int, job: HeadsJob, workers: int) -> Iterator[Rows]:
    """All rows in order, drawn by `workers` processes."""
    size = max(1, min(64, _CHUNK_PIXELS // job.resolution**2))
    chunks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    if workers == 1 or len(chunks) == 1:
        yield from map(job.draw, chunks)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(chunks)), _start_method(), initializer=_settle_worker, initargs=(os.getpid(),)
    )
    try:
        yield from pool.map(job.draw, chunks)
    except BrokenProcessPool as error:
        raise ResourceError("heads: a worker was killed, most likely for memory; use fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_method() -> multiprocessing.context.BaseContext:
    # Forked workers share the unpacked head, and need no `if __name__ == "__main__"` in a user's script. They touch
    # NumPy only, so a parent that has loaded torch does them no harm. macOS and Windows cannot fork safely.
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def _settle_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and go when it goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _shown(rows: Iterator[Rows], count: int) -> Iterator[Rows]:
    """The same rows, with a bar on standard error, or a line at the end where that is no terminal."""
    console = Console(stderr=True)
    columns = TextColumn("drawing heads"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    started = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("heads", total=count)
        for chunk in rows:
            yield chunk
            progress.advance(task, len(chunk.images))
    if not console.is_terminal:
        seconds = time.monotonic() - started
        console.print(f"drew {count:,} heads in {math.ceil(seconds)} s", highlight=False)
