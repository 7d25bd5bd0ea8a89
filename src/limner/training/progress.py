"""What a person sees while a run trains: a bar, the speed, the time left, the losses, the newest metric.

On a terminal it is one live display; anywhere else (a file, a batch system's log) one plain line a tick.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_SPEED_MEMORY_SECONDS = 60.0
"""ticks older than this weigh less than 1/e in the speed shown"""
_REFRESH_SECONDS = 0.5
"""least time between two redraws between ticks: one costs about a millisecond"""


class Progress:
    """The live display of one run; a context manager.

    Args:
        total_images: images seen at the end of the run.
        start_images: images seen at its start (more than 0 after a resume).
        console: where to write; standard error by default.
    """

    def __init__(self, total_images: int, start_images: int = 0, console: Console | None = None) -> None:
        self.total_images = total_images
        self.images = self._shown = start_images
        self.speed = Speed()
        self.resolution: int | None = None
        self._losses: dict[str, float] = {}
        self._metrics: dict[str, float] = {}
        self._refreshed = 0.0
        self._console = console if console is not None else Console(stderr=True)
        self._live: Live | None = None
        self._gone = False
        if self._console.is_terminal:
            # Refreshed by ticks alone: a thread of its own would not survive the fork of a data worker.
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            with self._unless_gone():
                self._live.start()
            if self._gone:
                self._live = None

    def tick(
        self,
        images: int,
        images_per_second: float,
        losses: Mapping[str, float],
        resolution: int | None = None,
    ) -> None:
        """Show the state at `images` images seen; `images_per_second` was measured since the last tick."""
        if resolution != self.resolution:
            self.speed.forget()  # another resolution trains at another speed
        self.speed.add(images_per_second, images - self.images)
        self.images = self._shown = images
        self.resolution, self._losses = resolution, dict(losses)
        if self._live is None:
            self._print(" | ".join((self._position(), *self._details(), *self._loss_line())))
        self._refresh()

    def advance(self, images: int) -> None:
        """Move the bar between two ticks, at most twice a second; silent where there is no terminal."""
        self._shown = images
        if self._live is not None and time.monotonic() - self._refreshed >= _REFRESH_SECONDS:
            self._refresh()

    def metric(self, name: str, value: float) -> None:
        """Show a metric's newest value: on a terminal from now on, elsewhere once, as a line of its own."""
        self._metrics.pop(name, None)
        self._metrics[name] = value
        if self._live is None:
            self._print(f"{clean(name)} {short(value)} at {kimg(self.images)} kimg")
        self._refresh()

    def note(self, message: str) -> None:
        """Print one line that stays (a checkpoint, a warning, growth to a new resolution)."""
        self._print(clean(message))
        self._refresh()

    def close(self) -> None:
        """Leave the last state on the screen; a second call does nothing."""
        live, self._live = self._live, None
        if live is not None:
            with self._unless_gone():
                live.stop()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def seconds_left(self) -> float | None:
        """Until the end of the run at the speed of the last minute or so; None before the first tick."""
        if not self.speed.images_per_second:
            return None
        return max(self.total_images - self.images, 0) / self.speed.images_per_second

    def _position(self) -> str:
        share = 100 * self.images / self.total_images if self.total_images else 100.0
        return f"{kimg(self.images)} of {kimg(self.total_images)} kimg ({share:.1f}%)"

    def _details(self) -> list[str]:
        details = [f"{self.resolution}²"] if self.resolution else []
        if self.speed.images_per_second:
            details.append(f"{short(self.speed.images_per_second)} images/s")
        if self.seconds_left is not None:
            details.append(f"{duration(self.seconds_left)} left")
        return details

    def _loss_line(self) -> list[str]:
        losses = [f"{clean(name)} {short(value)}" for name, value in self._losses.items()]
        return [", ".join(losses)] if losses else []

    def _numbers(self) -> list[str]:
        metrics = [f"{clean(name)} {short(value)}" for name, value in self._metrics.items()]
        return [*self._loss_line(), *([", ".join(metrics)] if metrics else [])]

    def _print(self, line: str) -> None:
        if self._gone:
            return
        with self._unless_gone():
            if self._live is not None:
                self._console.print(line, markup=False, highlight=False)
            else:
                print(line, file=self._console.file, flush=True)

    def _refresh(self) -> None:
        if self._live is not None and not self._gone:
            self._refreshed = time.monotonic()
            with self._unless_gone():
                self._live.update(self._display(), refresh=True)

    @contextmanager
    def _unless_gone(self) -> Iterator[None]:
        """Whoever read the display may go away; training goes on. (rich turns a broken pipe into SystemExit.)"""
        try:
            yield
        except (OSError, ValueError, SystemExit):
            self._gone = True

    def _display(self) -> RenderableType:
        row = Table.grid(padding=(0, 2))
        details = Text(" · ".join(self._details()), style="cyan")
        row.add_row(ProgressBar(max(self.total_images, 1), self._shown, width=30), Text(self._position()), details)
        return Group(row, *(Text(numbers, style="dim", overflow="ellipsis") for numbers in self._numbers()))


class Speed:
    """Images per second, smoothed over the seconds they took, so that a slow moment does not shake the time left."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh."""
        self.images_per_second: float | None = None

    def add(self, images_per_second: float, images: int) -> None:
        """Take in one measurement over `images` images; one that is not a positive number is ignored."""
        if not (math.isfinite(images_per_second) and images_per_second > 0):
            return
        if self.images_per_second is None:
            self.images_per_second = images_per_second
            return
        seconds = max(images, 0) / images_per_second
        weight = 1 - math.exp(-seconds / _SPEED_MEMORY_SECONDS)
        # Averaged as seconds per image, since time left is what a person reads from it.
        pace = weight / images_per_second + (1 - weight) / self.images_per_second
        self.images_per_second = 1 / pace


def duration(seconds: float) -> str:
    """A time in the two largest units that matter: "8 s", "4 min 10 s", "1 h 54 min", "2 d 3 h"."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def kimg(images: int) -> str:
    """Thousands of images, to the nearest hundred: 12345 is "12.3"."""
    return f"{images / 1000:.1f}".removesuffix(".0")


def short(value: float) -> str:
    """Four digits that matter, whatever the size."""
    value = float(value)
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"


def clean(text: str) -> str:
    """Without control characters: a name must not move the cursor of a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", str(text))
