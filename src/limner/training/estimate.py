"""What a run will take, said before its first step: time, epochs and disk, and what to do where that is too much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from limner.training.forecast import Plan
from limner.training.memory import size
from limner.training.pace import Pace
from limner.training.progress import duration, kimg, short

MANY_TIMES = 100
"""a picture shown more often than this, without augmentation, is likely to be memorized"""
LONG_SECONDS = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A run before its first step."""

    plan: Plan
    pace: Pace | None
    """None where nothing was measured: the run is short, or its pre-flight was turned off"""
    pictures: int
    """images to train on"""

    @property
    def images(self) -> int:
        """Images still to be shown."""
        return self.plan.config.images - self.plan.start

    @property
    def seconds(self) -> float | None:
        """Of training; None where nothing is known, or where the model grows and not all of it was tried."""
        if self.plan.stages:
            return self.plan.seconds
        if self.pace is None or len(self.plan.model.milestones()) > 1:
            return None
        return self.images / self.pace.images_per_second

    @property
    def times_shown(self) -> float:
        """How often the whole run shows each picture."""
        return self.plan.config.images / max(self.pictures, 1)

    def lines(self) -> list[str]:
        """The estimate in words, a line or two."""
        if self.pace is None:
            return []
        model, times = self.plan.model, f"{short(float(f'{self.times_shown:.3g}'))} times"
        shown = f"each of the {self.pictures} pictures is shown {times}"
        if self.plan.stages:  # its own line says time and disk
            return [f"estimate: {shown}{self._threads()}"]
        speed = f"{short(float(f'{self.pace.images_per_second:.3g}'))} images/s"
        if self.seconds is None:
            sides = f"{self.pace.resolution}², of {model.resolution}² in the end"
            return [f"estimate: about {speed} at {sides} (`limner plan` tries every size); {shown}{self._threads()}"]
        end = datetime.now().astimezone() + timedelta(seconds=self.seconds)
        disk = f"disk {size(self._disk_bytes())} of {size(self.plan.free_disk_bytes)} free"
        return [
            f"estimate: about {duration(self.seconds)} without metrics, until {end:%a %d %b %Y %H:%M}: "
            f"{kimg(self.images)} kimg at {speed}{self._threads()}",
            f"estimate: {shown}; {disk}",
        ]

    def warnings(self) -> list[str]:
        """What is likely to disappoint about the run, and what to do instead."""
        found = []
        if self.times_shown > MANY_TIMES:
            enough = max(self.pictures * MANY_TIMES / 1000, 1)
            found.append(
                f"each of the {self.pictures} pictures is shown about {self.times_shown:.0f} times: a model can "
                f"memorize so few (the metric copy_rate tells); use more pictures, or --kimg {enough:.3g}"
            )
        if self.seconds is not None and self.seconds > LONG_SECONDS:
            found.append(f"this takes about {duration(self.seconds)}; {self._shorter()}")
        return found

    def event(self) -> dict[str, Any] | None:
        """As kept in the log; None where nothing was measured."""
        if self.pace is None:
            return None
        return {
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "images_per_second": round(self.pace.images_per_second, 2),
            "times_shown": round(self.times_shown, 2),
            "threads": self.pace.threads,
            "speeds": {str(threads): round(speed, 2) for threads, speed in self.pace.speeds.items()},
        }

    def _disk_bytes(self) -> float:
        checkpoint = self.pace.checkpoint_bytes if self.pace else 0
        return self.plan.disk_with(checkpoint)

    def _threads(self) -> str:
        """The number of threads and what the others came to, where more than one was tried."""
        if self.pace is None or len(self.pace.speeds) < 2:
            return ""
        return f"; {_number(self.pace.threads)} ({_others(self.pace.speeds, self.pace.threads)})"

    def _shorter(self) -> str:
        """What takes less time."""
        model = self.plan.model
        ways = ["a smaller --resolution"]
        if "laptop" in model.presets:
            ways.insert(0, "--preset laptop")
        if self.pace is not None:
            in_an_hour = max(self.pace.images_per_second * 3.6, 1)
            ways.append(f"fewer images (--kimg {in_an_hour:.2g} takes an hour)")
        stop = "or stop it when its sheets please (Ctrl-C saves, `limner resume RUN` goes on)"
        return f"{', '.join(ways)} take less; {stop}"


def _number(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _others(speeds: Mapping[int, float], chosen: int) -> str:
    rest = ", ".join(f"{short(float(f'{speed:.3g}'))} with {n}" for n, speed in speeds.items() if n != chosen)
    return f"{rest}; --threads sets it"
