"""Photos to squares of pixels, in several processes, in the order of their names."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from limner.data.crops import Crop, Resize, fit
from limner.data.faults import PictureError
from limner.data.pictures import decode_image
from limner.data.sources import Photos
from limner.errors import ResourceError

_CHUNK_BYTES = 8 << 20
_LARGEST_CHUNK = 16
_QUIET_SECONDS = 10


@dataclass(frozen=True)
class Recipe:
    """What is done to each photo."""

    photos: Photos
    crop: Crop
    resolution: int
    resize: Resize


class Square(NamedTuple):
    """One photo, done. `pixels` (R, R, 3) uint8 or None where `fault` says why not."""

    name: str
    sha256: str
    """of the file; "" where it could not be read"""
    pixels: np.ndarray | None
    fault: PictureError | None
    notes: tuple[str, ...]


def make_square(recipe: Recipe, name: str) -> Square:
    """Read, hash, decode, crop and resize one photo; a bad one is returned, not raised."""
    digest = ""
    try:
        data = recipe.photos.read(name)
        digest = hashlib.sha256(data).hexdigest()
        image, notes = decode_image(data, name)
        pixels, enlarged = fit(image, recipe.crop, recipe.resolution, recipe.resize, name)
    except PictureError as error:
        return Square(name, digest, None, error, ())
    except MemoryError:
        return Square(name, digest, None, PictureError(name, "bomb", "out of memory"), ())
    return Square(name, digest, pixels, None, (*notes, "upscaled") if enlarged else notes)


def squares(recipe: Recipe, workers: int | None = None) -> Generator[list[Square], None, None]:
    """All photos of a recipe, in the order of their names, some at a time; shows progress on stderr.

    Args:
        recipe: what to do.
        workers: processes; None for one per core, 1 for none but this one.

    Raises:
        ResourceError: a process died, most often for want of memory.
    """
    names = recipe.photos.names
    size = max(1, min(_LARGEST_CHUNK, _CHUNK_BYTES // (3 * recipe.resolution**2)))
    chunks = [names[k : k + size] for k in range(0, len(names), size)]
    workers = min(workers or _cores(), len(chunks))
    done = _in_this_process(recipe, chunks) if workers == 1 else _in_processes(recipe, chunks, workers)
    return _shown(done, len(names), f"Decoding {recipe.photos.path.name}")


def _in_this_process(recipe: Recipe, chunks: list[tuple[str, ...]]) -> Generator[list[Square], None, None]:
    for chunk in chunks:
        yield [make_square(recipe, name) for name in chunk]


def _in_processes(recipe: Recipe, chunks: list[tuple[str, ...]], workers: int) -> Generator[list[Square], None, None]:
    # fork: nothing here holds a lock or uses torch, and a script without a `__main__` guard still works.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    arguments = (recipe, os.getpid())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=arguments)
    waiting: deque[Future[list[Square]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_work, chunk))
            if len(waiting) > 2 * workers:  # enough to keep all busy, few enough to fit in memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ResourceError(
            f"{recipe.photos.path}: a decoding process died, most often for want of memory; use fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_recipe: Recipe | None = None
"""what this worker process does"""


def _start_worker(recipe: Recipe, parent: int) -> None:
    global _recipe
    _recipe = recipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends the workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A parent killed with -9 cannot end its workers, so they look."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(names: tuple[str, ...]) -> list[Square]:
    assert _recipe is not None  # set by the initializer
    return [make_square(_recipe, name) for name in names]


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
