"""Images of a source to squares of pixels, in several processes, in order."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from limner.data.crops import Crop, Resize, fit
from limner.data.faults import PictureError, printable
from limner.data.near_copies import signature
from limner.data.pictures import decode_image
from limner.data.same_names import photo_of
from limner.data.sources import Photos
from limner.errors import LimnerError, ResourceError
from limner.signals import end_workers, leave_signals_to

_CHUNK_BYTES = 8 << 20
_LARGEST_CHUNK = 16
_QUIET_SECONDS = 10


@runtime_checkable
class Work(Protocol):
    """What is done to each image of a source, in any process."""

    @property
    def path(self) -> Path:
        """Of the source."""
        ...

    @property
    def count(self) -> int:
        """Images of the source."""
        ...

    @property
    def resolution(self) -> int:
        """Side of the squares that are wanted, pixels."""
        ...

    def make(self, rows: range) -> list[Square]:
        """These images; bad ones are returned, not raised."""
        ...


@dataclass(frozen=True)
class Recipe:
    """What is done to each photo."""

    photos: Photos
    crop: Crop
    resolution: int
    resize: Resize
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """name → the pictures among which the photo is looked for of which it may be a mask"""
    find_copies: bool = False
    """Search for other sizes of one photo."""

    @property
    def path(self) -> Path:
        return self.photos.path

    @property
    def count(self) -> int:
        return len(self.photos.names)

    def make(self, rows: range) -> list[Square]:
        return [make_square(self, self.photos.names[row]) for row in rows]


class Square(NamedTuple):
    """One image, done. `pixels` (R, R, 3) uint8 or None where `fault` says why not."""

    name: str
    sha256: str
    """of the file, or of a record's pixels; "" where it could not be read"""
    pixels: np.ndarray | None
    fault: PictureError | None
    notes: tuple[str, ...]
    lower: Mapping[int, np.ndarray] | None = None
    """(r, r, 3) uint8 of each lower level that came with the image; the others are made from the one above"""
    split_key: str = ""
    """hex SHA-256 that decides the image's split, where that is not `sha256`"""
    signature: np.ndarray | None = None
    """(8, 8, 3) uint8 of a photo: what tells that two are one (`near_copies.py`)"""
    size: int = 0
    """pixels of the photo"""


def make_square(recipe: Recipe, name: str) -> Square:
    """Read, hash, decode, crop and resize one photo; a bad one is returned, not raised."""
    digest = ""
    try:
        data = recipe.photos.read(name)
        digest = hashlib.sha256(data).hexdigest()
        image, notes = decode_image(data, name)
        _refuse_mask(recipe, image, notes, name)
        pixels, enlarged = fit(image, recipe.crop, recipe.resolution, recipe.resize, name)
    except PictureError as error:
        return Square(name, digest, None, error, ())
    except MemoryError:
        return Square(name, digest, None, PictureError(name, "bomb", "out of memory"), ())
    size = image.width * image.height
    notes = (*notes, "upscaled") if enlarged else notes
    colours = signature(image) if recipe.find_copies else None
    return Square(name, digest, pixels, None, notes, signature=colours, size=size)


def _refuse_mask(recipe: Recipe, image: Image.Image, notes: tuple[str, ...], name: str) -> None:
    others = recipe.companions.get(name, ())
    if others and (photo := photo_of(image, "grey" in notes, name, others, recipe.photos)):
        raise PictureError(name, "mask", f"few colours, beside the photo '{printable(photo)}'")


def squares(work: Work, workers: int | None = None) -> Generator[list[Square], None, None]:
    """All images of a source, in order, some at a time; shows progress on stderr.

    Args:
        work: what to do.
        workers: processes; None for one per core, 1 for none but this one.

    Raises:
        LimnerError: a negative number of processes.
        ResourceError: a process died, most often for want of memory.
    """
    if workers is not None and workers < 0:
        raise LimnerError(f"--workers {workers}: at least 1")
    size = max(1, min(_LARGEST_CHUNK, _CHUNK_BYTES // (3 * work.resolution**2)))
    chunks = [range(work.count)[k : k + size] for k in range(0, work.count, size)]
    workers = min(workers or _cores(), len(chunks))
    done = _in_this_process(work, chunks) if workers == 1 else _in_processes(work, chunks, workers)
    return _shown(done, work.count, f"Decoding {work.path.name}")


def _in_this_process(work: Work, chunks: list[range]) -> Generator[list[Square], None, None]:
    for chunk in chunks:
        yield work.make(chunk)


def _in_processes(work: Work, chunks: list[range], workers: int) -> Generator[list[Square], None, None]:
    # fork: nothing here holds a lock or uses torch, and a script without a `__main__` guard still works.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    arguments = (work, os.getpid())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=arguments)
    waiting: deque[Future[list[Square]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_make, chunk))
            if len(waiting) > 2 * workers:  # enough to keep all busy, few enough to fit in memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ResourceError(
            f"{work.path}: a decoding process died, most often for want of memory; use fewer --workers"
        ) from error
    except (KeyboardInterrupt, GeneratorExit):  # nobody wants the rest
        end_workers(pool)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_work: Work | None = None
"""what this worker process does"""


def _start_worker(work: Work, parent: int) -> None:
    global _work
    _work = work
    leave_signals_to(parent)


def _make(rows: range) -> list[Square]:
    assert _work is not None  # set by the initializer
    return _work.make(rows)


def _shown(done: Generator[list[Square], None, None], total: int, what: str) -> Generator[list[Square], None, None]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    finished, said = 0, time.monotonic()
    bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
    with closing(done):
        some = next(done, None)  # starts the processes, before the bar's thread
        with bar:
            task = bar.add_task(what, total=total)
            while some is not None:
                yield some
                finished += len(some)
                bar.advance(task, len(some))
                if not console.is_terminal and time.monotonic() - said > _QUIET_SECONDS:
                    said = time.monotonic()
                    console.print(f"{what}: {finished:,} of {total:,}", highlight=False)
                some = next(done, None)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
