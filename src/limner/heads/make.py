"""The verb `limner data heads`: draw the built-in dataset, whole or not at all."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from limner.arguments import FilePath
from limner.cache import cache_folder
from limner.errors import LimnerError, RunLockedError
from limner.heads.person import ATTRIBUTE_NAMES
from limner.heads.pool import draw_in_order
from limner.heads.render import Head, check_settings, render_head

RENDERER_VERSION = 2
"""goes up when the same (seed, identity, view) draws another picture; names the cache and stands in each dataset"""
DEFAULT_YAW_RANGE = 45.0
DEFAULT_VIEWS = 1
KNOWN = ("attributes", "pose", "identity", "landmarks", "light")
"""what is known of each picture: arrays of the dataset"""
_LARGEST_COUNT = 10_000_000
_CHUNK_PIXELS = 64 * 64 * 64
_SECONDS_BETWEEN_LOOKS = 0.2


def make_heads(
    dest: tyro.conf.Positional[FilePath],
    *,
    count: int = 10_000,
    resolution: int = 64,
    views: int = DEFAULT_VIEWS,
    yaw_range: float = DEFAULT_YAW_RANGE,
    seed: int = 0,
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
) -> None:
    """Draw the built-in dataset of heads: labelled, posed, and free of any real person.

    Picture i shows person i // views. It depends on the seed, i, the views and the yaw range alone: a longer set begins
    with the shorter one. Every tenth person is for testing, every twentieth for validation, the others for training.

    Args:
        dest: folder to make; must not exist.
        count: number of pictures.
        resolution: side of the pictures, a power of two from 16 to 512 pixels.
        views: pictures of each person, with other expressions, poses, light and backdrops.
        yaw_range: degrees that heads are turned to either side, evenly spread; 0 to 90.
        seed: number of the set; the same seed gives the same heads.
        workers: processes to draw with; by default one a core.
    """
    if resolution & (resolution - 1):
        raise LimnerError(f"resolution {resolution}: a dataset needs a power of two from 16 to 512")
    check_settings(seed, resolution, yaw_range)
    check_order(count, views, workers)
    _write_set(Path(dest), count, HeadsJob(seed, resolution, yaw_range, views), workers or os.cpu_count() or 1)


def default_heads(resolution: int, count: int) -> Path:
    """The folder of seed 0's first `count` heads at `resolution`, drawn on first use and kept in the user's cache.

    The cache is `limner.cache.cache_folder()`. Several processes may ask at once: one draws, the others wait for it.

    Raises:
        LimnerError: resolution or count is out of range.
        ResourceError: the cache cannot be written.
    """
    shown = f"v{RENDERER_VERSION}-views{DEFAULT_VIEWS}-yaw{DEFAULT_YAW_RANGE:g}"
    folder = cache_folder() / "heads" / f"heads-{shown}-{resolution}-{count}"
    while not (folder / "dataset.json").is_file():
        try:
            make_heads(folder, count=count, resolution=resolution, views=DEFAULT_VIEWS, yaw_range=DEFAULT_YAW_RANGE)
        except RunLockedError:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        except LimnerError:
            if not (folder / "dataset.json").is_file():  # else another process finished it just now
                raise
    return folder


def check_order(count: int, views: int, workers: int | None) -> None:
    """Raise LimnerError unless so many pictures, views and workers can be had."""
    if not 1 <= count <= _LARGEST_COUNT:
        raise LimnerError(f"count {count}: must be 1 to {_LARGEST_COUNT:,}")
    if views < 1:
        raise LimnerError(f"views {views}: must be 1 or more")
    if workers is not None and workers < 1:
        raise LimnerError(f"workers {workers}: must be 1 or more")


def split_of(identity: np.ndarray) -> np.ndarray:
    """The split of pictures by person: 2 (test) for every tenth, 1 (valid) for every twentieth, else 0 (train)."""
    return np.where(identity % 10 == 9, 2, np.where(identity % 20 == 8, 1, 0)).astype(np.uint8)


@dataclass(frozen=True)
class HeadsJob:
    """What every worker is told. yaw_range in degrees; views: pictures of each person."""

    seed: int
    resolution: int
    yaw_range: float
    views: int

    def head(self, row: int) -> Head:
        """The head of a row."""
        identity, view = divmod(row, self.views)
        return render_head(self.seed, identity, self.resolution, self.yaw_range, view)

    def draw(self, rows: range) -> Rows:
        """The heads of these rows."""
        return Rows.of(rows.start, [self.head(row) for row in rows])


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of the set from `start`: images (k, r, r, 3) uint8, and by name what is known of them."""

    start: int
    images: np.ndarray
    known: dict[str, np.ndarray]

    @classmethod
    def of(cls, start: int, heads: list[Head]) -> Rows:
        """The rows of some heads."""
        known: dict[str, np.ndarray] = {
            "attributes": np.array([[head.attributes[name] for name in ATTRIBUTE_NAMES] for head in heads], np.uint8),
            "pose": np.array([head.pose for head in heads], np.float32),
            "identity": np.array([head.identity for head in heads], np.int64),
            "landmarks": np.stack([head.landmarks for head in heads]),
            "light": np.stack([head.light for head in heads]),
        }
        return cls(start, np.stack([head.image for head in heads]), known)


def _write_set(dest: Path, count: int, job: HeadsJob, workers: int) -> None:
    from limner.data.partial import stopped_by_sigterm  # heads can be drawn without these
    from limner.data.writer import DatasetWriter

    source = {
        "kind": "heads",
        "licence": "CC0-1.0",
        "renderer": RENDERER_VERSION,
        "seed": job.seed,
        "views": job.views,
        "yaw_range_degrees": job.yaw_range,
    }
    writer = DatasetWriter(
        dest,
        name=f"heads-{job.resolution}",
        count=count,
        resolution=job.resolution,
        crop="rendered",
        resize="rendered",
        source=source,
        attribute_names=ATTRIBUTE_NAMES,
    )
    size = max(1, min(64, _CHUNK_PIXELS // job.resolution**2))
    known: list[dict[str, np.ndarray]] = []
    with stopped_by_sigterm(dest), writer:
        for rows in draw_in_order(job.draw, count, size, workers):
            writer.write(rows.start, rows.images)
            known.append(rows.known)
        attributes, pose, identity, landmarks, light = (np.concatenate([k[name] for k in known]) for name in KNOWN)
        writer.finish(
            attributes=attributes,
            pose=pose,
            identity=identity,
            landmarks=landmarks,
            light=light,
            splits=split_of(identity),
        )
