"""How many threads a process trains with on a CPU.

More threads than free cores make training slower, not faster: every layer waits for the thread that got no core. A
browser beside a training run is enough. So the number is measured before the first step (`limner.training.pace`), kept
in the run's settings, and looked at again when training has become far slower.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from limner.training.distributed import World

FAR_SLOWER = 0.5
"""of the usual speed: below it, a tick counts as slow"""
SLOW_TICKS = 2
"""in a row, and other numbers of threads are tried"""
WORTH = 1.2
"""times as fast as before must another number of threads be to be kept"""
LOOK_AGAIN_TICKS = 50
"""after a change: the number the run began with is tried again, as the other program may have ended"""


def candidates(most: int) -> tuple[int, ...]:
    """Return the numbers of threads worth trying, ascending: one, half of them, all but one, all."""
    return tuple(sorted({number for number in (1, most // 2, most - 1, most) if number >= 1}))


def chosen_outside() -> bool:
    """Return whether the user or a launcher has set the number of threads by an environment variable."""
    return any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))


@contextmanager
def threads_of_a_run(threads: int | None) -> Iterator[None]:
    """Compute with so many threads (None: as many as before) and restore the number at the end.

    The number belongs to the whole process, so a program that trains with the library gets its own back.
    """
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def use_recorded_threads(wanted: int | None, facts: Mapping[str, Any]) -> list[str]:
    """Compute with as many threads as a checkpoint was made with, for the same rounding; returns what to say of it.

    Args:
        wanted: asked for now; nothing is recalled then.
        facts: of the checkpoint; earlier versions kept no number.
    """
    recorded, most = facts.get("threads"), torch.get_num_threads()
    if wanted is not None or not isinstance(recorded, int) or recorded < 1:
        return []
    torch.set_num_threads(min(recorded, most))
    if recorded > most:
        return [f"threads: {most}, where the run had {recorded}: this process may use no more, so it rounds otherwise"]
    return []


def thread_monitor(wanted: int | None, world: World, most: int) -> ThreadMonitor | None:
    """Return what looks at the threads again while a run trains, where nobody has fixed their number.

    Args:
        wanted: the run's setting.
        world: a lone process on a CPU may change its number; others may not.
        most: threads that this process may use.
    """
    if wanted is not None or world.device.type != "cpu" or world.size > 1 or chosen_outside() or most == 1:
        return None
    return ThreadMonitor(torch.get_num_threads(), candidates(most))


def fastest(speeds: Mapping[int, float], usual: int, worth: float = 1.05) -> int:
    """Return the number of threads with the highest speed; `usual`, unless another is `worth` times as fast.

    Args:
        speeds: images per second by number of threads.
        usual: what is kept when the difference is small.
        worth: how many times as fast another must be.
    """
    best = max(speeds, key=lambda threads: speeds[threads])
    return best if speeds[best] > worth * speeds.get(usual, 0.0) else usual


@dataclass
class ThreadMonitor:
    """Watch the speed of a run's ticks, and try other numbers of threads where it has become far slower.

    The usual speed is the highest of the ticks since the last change, at one resolution. After `SLOW_TICKS` ticks at
    less than `FAR_SLOWER` of it, every other candidate is tried for one tick; the fastest is kept if it is `WORTH`
    times as fast.
    """

    threads: int
    """in use"""
    others: tuple[int, ...]
    """numbers of threads that may be tried"""
    _resolution: int = 0
    _usual: float = 0.0
    _slow: int = 0
    _to_try: list[int] = field(default_factory=list)
    _speeds: dict[int, float] = field(default_factory=dict)
    _began_with: int = 0
    _ticks_since: int = 0

    def __post_init__(self) -> None:
        self._began_with = self._kept = self.threads

    def tick(self, images_per_second: float, resolution: int) -> str | None:
        """Take in the speed of a tick. Where `threads` changes, return a line that says why.

        Args:
            images_per_second: of the tick that has ended, which was computed with `threads`.
            resolution: pixels a side; another one starts afresh.
        """
        if resolution != self._resolution:
            self._resolution, self._usual, self._slow = resolution, 0.0, 0
            self._to_try, self._speeds = [], {}
            return self._use(self._kept, "another resolution is trained now")
        if self._speeds:
            return self._go_on_trying(images_per_second)
        self._ticks_since += 1
        self._usual = max(self._usual, images_per_second)
        self._slow = self._slow + 1 if images_per_second < FAR_SLOWER * self._usual else 0
        if self._slow >= SLOW_TICKS:
            reason = f"training is far slower than before ({images_per_second:.3g} images/s, {self._usual:.3g} before)"
            return self._begin_trying(
                [number for number in self.others if number != self.threads], reason, images_per_second
            )
        if self.threads != self._began_with and self._ticks_since >= LOOK_AGAIN_TICKS:
            return self._begin_trying([self._began_with], "the machine may be free again", images_per_second)
        return None

    def _begin_trying(self, numbers: list[int], reason: str, images_per_second: float) -> str | None:
        self._slow = self._ticks_since = 0
        if not numbers:
            return None
        self._speeds = {self.threads: images_per_second}
        self._to_try = numbers
        return self._use(self._to_try.pop(), f"{reason}; tried for a tick")

    def _go_on_trying(self, images_per_second: float) -> str | None:
        self._speeds[self.threads] = images_per_second
        if self._to_try:
            return self._use(self._to_try.pop(), "tried for a tick")
        best = fastest(self._speeds, self._kept, WORTH)
        measured = ", ".join(f"{number}: {speed:.3g}" for number, speed in sorted(self._speeds.items()))
        self._kept, self._usual, self._speeds = best, self._speeds[best], {}
        return self._use(best, f"images/s by number of threads: {measured}") or f"threads: {best} kept; {measured}"

    def _use(self, threads: int, reason: str) -> str | None:
        if threads == self.threads:
            return None
        self.threads = threads
        return f"threads: {threads} from here on; {reason}"
