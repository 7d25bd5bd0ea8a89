"""Share done and time left of a job whose steps have expected durations, which the job itself corrects."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

_TRUST = 0.1
"""of the expected total: how much of the job must be done before its own pace counts as much as the expected one"""
_MOST_OF_A_STEP = 0.95
"""of a step that does not say how far it is, and takes longer than expected"""


class TimeLeft:
    """Where a job is, in time.

    Args:
        expected: seconds of each step, in the order of the job. Only their ratios count where `measured` is False.
        measured: whether these are seconds of this machine.
        clock: seconds that only grow.
    """

    def __init__(
        self, expected: Mapping[str, float], *, measured: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expected, self._clock = dict(expected), clock
        self._total = sum(expected.values()) or 1.0
        self._trust = _TRUST * self._total if measured else 0.0
        self._started = self._entered = clock()
        self._step: str | None = None
        self._share: float | None = None
        self._before = self._seconds = 0.0
        self._slowness = 1.0

    def reach(self, step: str, share: float | None) -> None:
        """Say that `step` runs now, and which share of it is done; None where the step does not say."""
        if step != self._step:
            self._enter(step)
        self._share = share
        if share is not None:
            self._slowness = self._slower_by(self._done())

    def _enter(self, step: str) -> None:
        """Begin a step: those that stand before it in the order are done."""
        order = list(self._expected)
        if step in order:
            self._before = sum((self._expected[name] for name in order[: order.index(step)]), 0.0)
            self._seconds = self._expected[step]
        else:  # it was not foreseen, so it takes none of the expected time
            self._before, self._seconds = self._before + self._seconds, 0.0
        self._step, self._share, self._entered = step, 0.0, self._clock()
        self._slowness = self._slower_by(self._before)

    @property
    def share(self) -> float:
        """Of the whole job, 0 to 1."""
        return min(self._done() / self._total, 1.0)

    @property
    def seconds_left(self) -> float | None:
        """Until the end; None where nothing is known yet."""
        done = self._done()
        if not self._trust and not done:
            return None
        return max(self._total - done, 0.0) * self._slowness

    def _slower_by(self, done: float) -> float:
        """Seconds that an expected second has taken so far."""
        passed = self._clock() - self._started
        return (passed + self._trust) / (done + self._trust) if done + self._trust > 0 else 1.0

    def _done(self) -> float:
        """Expected seconds of what is done."""
        return self._before + self._seconds * self._share_of_step()

    def _share_of_step(self) -> float:
        if self._share is not None:
            return self._share
        needed = self._seconds * self._slowness
        return min((self._clock() - self._entered) / needed, _MOST_OF_A_STEP) if needed > 0 else 0.0
