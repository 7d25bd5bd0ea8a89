"""Alarms: what goes wrong in a run without a number ceasing to be finite is said once, in the log, until it is over.

The state is a function of the log: a run that goes on, or goes back, hears again the lines that stand, so that an alarm
is neither lost nor said twice, and nothing of it is in a checkpoint. An alarm is raised by a watch whose readings stay
bad (`limner.training.watches` says which and for how long) and is over after three good readings in a row; then it may
be raised again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from limner.training.log import number
from limner.training.progress import kimg, short
from limner.training.watches import (
    RESOLUTION,
    AverageFar,
    BalanceLost,
    CodesEmpty,
    CodesIgnored,
    CriticBlind,
    DiscriminatorBlind,
    DiscriminatorWins,
    FlatFaces,
    LossesTooLarge,
    LossGrows,
    LossStuck,
    NothingLearnt,
    Reading,
    SameFaces,
    Saturated,
    Watch,
    WeightsTooLarge,
)

GOOD_READINGS = 3
"""in a row, and an alarm is over"""


@dataclass
class Vigil:
    """A watch, and how long its readings have been bad."""

    watch: Watch
    since: int = 0
    """images seen at the first of the bad readings"""
    bad: int = 0
    good: int = 0
    images: int = -1
    """at the newest reading"""
    raised: Reading | None = None
    """the reading that the alarm was raised, or went on, with"""

    @property
    def share(self) -> float:
        """Of the readings and of the images that make an alarm, whichever is further off."""
        lasted = (self.images - self.since) / self.watch.images
        return min(self.bad / self.watch.readings, lasted, 1.0) if self.bad else 0.0

    def hear(self, images: int, values: Mapping[str, Any]) -> bool:
        """Take in one line of the log; False where there was nothing to judge."""
        reading = self.watch.read(images, values) if images > self.images else None
        if reading is None:
            return False
        self.images = images
        if reading.bad:
            self.since = images if self.bad == 0 else self.since
            self.bad, self.good = self.bad + 1, 0
            self.raised = reading if self.raised or self.share >= 1 else None
        else:
            self.good += 1
            if self.raised is None or self.good >= GOOD_READINGS:
                self.bad, self.raised = 0, None
        return True


class Alarms:
    """Hears every line a run logs, and says what lines are to be written for it.

    Args:
        settings: the model's own, as in `config.json`; `fake_code` and `real_code` are what its discriminator should
            say (0 and 1 where they are missing).
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        fake, real = number(settings.get("fake_code")), number(settings.get("real_code"))
        codes = (0.0, 1.0) if fake is None or real is None or fake == real else (fake, real)
        watches = (
            SameFaces(),
            FlatFaces(),
            Saturated(),
            LossesTooLarge(),
            WeightsTooLarge(),
            AverageFar(),
            DiscriminatorWins(*codes),
            DiscriminatorBlind(*codes),
            CriticBlind(),
            BalanceLost(),
            CodesEmpty(),
            CodesIgnored(),
            NothingLearnt(),
        )
        self._vigils = {watch.alarm: Vigil(watch) for watch in watches}
        self._told: set[str] = set()

    @classmethod
    def after(cls, events: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> Alarms:
        """As they stand after the lines of a log that count (`read_log`)."""
        alarms = cls(settings)
        for event in events:
            alarms.remember(event)
        return alarms

    def remember(self, event: Mapping[str, Any]) -> None:
        """Take in a line of the log, one about an alarm too."""
        if event["event"] in ("warning", "recovered") and isinstance(event.get("alarm"), str):
            (self._told.add if event["event"] == "warning" else self._told.discard)(event["alarm"])
        else:
            self._hear(event)

    def hear(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take in a line just logged; returns the lines that follow from it, each with its `event` and `message`."""
        said = []
        for key in self._hear(event):
            vigil = self._vigils[key]
            if vigil.raised is not None and key not in self._told:
                self._told.add(key)
                said.append(_warning(key, vigil, vigil.raised))
            elif vigil.raised is None and key in self._told:
                self._told.discard(key)
                said.append(_recovered(key, vigil))
        return said

    def nearness(self) -> dict[str, float]:
        """Of each watch how much of what makes an alarm its bad readings in a row now are: 1 and it is raised."""
        return {key: vigil.share for key, vigil in self._vigils.items()}

    def _hear(self, event: Mapping[str, Any]) -> list[str]:
        """The keys of the vigils that the line concerns."""
        losses = event.get("losses")
        values = losses if event["event"] == "tick" else event if event["event"] == "sample" else None
        if not isinstance(values, Mapping):
            return []
        if event["event"] == "tick":
            self._watch_losses(values)
            values = _with_weights(event, values)
        vigils = [(key, vigil) for key, vigil in self._vigils.items() if vigil.watch.event == event["event"]]
        return [key for key, vigil in vigils if vigil.hear(event["images"], values)]

    def _watch_losses(self, losses: Mapping[str, Any]) -> None:
        for name in losses:
            for kind in (LossStuck, LossGrows):
                key = f"{kind.alarm}: {name}"
                if name.endswith("/loss") and key not in self._vigils:
                    self._vigils[key] = Vigil(kind(name))


def _with_weights(tick: Mapping[str, Any], losses: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a tick's losses, and what it says of the weights and of the pictures' side under names of their own."""
    weights = tick.get("weights")
    named = {f"weights/{name}": value for name, value in weights.items()} if isinstance(weights, Mapping) else {}
    return {**losses, **named, RESOLUTION: tick.get("resolution")}


def active(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of the lines of a log that count the warnings whose alarm is not over, oldest first."""
    found: dict[str, Mapping[str, Any]] = {}
    for event in events:
        key = event.get("alarm")
        if isinstance(key, str) and event["event"] == "warning":
            found[key] = event
        elif isinstance(key, str) and event["event"] == "recovered":
            found.pop(key, None)
    return list(found.values())


def _warning(key: str, vigil: Vigil, reading: Reading) -> dict[str, Any]:
    watch = vigil.watch
    where = "" if reading.bound == "at" else f" ({reading.bound} {short(reading.threshold)})"
    seen = f"{reading.metric} is {short(reading.value)}{where} since {kimg(vigil.since)} kimg"
    message = f"{watch.what}: {seen}; {watch.advice}"
    return {
        "event": "warning",
        "alarm": key,
        "metric": reading.metric,
        "value": reading.value,
        "threshold": reading.threshold,
        "since": vigil.since,
        "message": message,
    }


def _recovered(key: str, vigil: Vigil) -> dict[str, Any]:
    return {"event": "recovered", "alarm": key, "message": f"over: {vigil.watch.what}"}
