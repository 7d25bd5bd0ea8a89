"""Draw the rows of a set in order, on all cores, under a progress bar."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from limner.errors import ResourceError
from limner.heads.pack import load_pack
from limner.signals import end_workers, leave_signals_to

Drawn = TypeVar("Drawn")


def draw_in_order(draw: Callable[[range], Drawn], count: int, size: int, workers: int) -> Iterator[Drawn]:
    """`draw` of rows 0 … count - 1, `size` at a time, in order, by `workers` processes; progress on standard error.

    Raises:
        ResourceError: a process was killed.
    """
    chunks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    if workers == 1 or len(chunks) == 1:
        yield from _shown(map(draw, chunks), chunks)
        return
    load_pack()  # forked workers share it
    pool = ProcessPoolExecutor(
        min(workers, len(chunks)), _start_method(), initializer=leave_signals_to, initargs=(os.getpid(),)
    )
    try:
        yield from _shown(pool.map(draw, chunks), chunks)
    except BrokenProcessPool as error:
        raise ResourceError("heads: a worker was killed, most likely for memory; use fewer --workers") from error
    except (KeyboardInterrupt, GeneratorExit):  # nobody wants the rest
        end_workers(pool)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_method() -> multiprocessing.context.BaseContext:
    # Forked workers need no `if __name__ == "__main__"` in a user's script. They touch
    # NumPy only, so a parent that has loaded torch does them no harm. macOS and Windows cannot fork safely.
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def _shown(drawn: Iterator[Drawn], chunks: list[range]) -> Iterator[Drawn]:
    """The same, with a bar on standard error, or a line at the end where that is no terminal."""
    console = Console(stderr=True)
    columns = TextColumn("drawing heads"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    started, count = time.monotonic(), chunks[-1].stop
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("heads", total=count)
        for chunk, rows in zip(chunks, drawn, strict=True):
            yield rows
            progress.advance(task, len(chunk))
    if not console.is_terminal:
        seconds = time.monotonic() - started
        console.print(f"drew {count:,} heads in {math.ceil(seconds)} s", highlight=False)
