"""What a run's folder tells, read leniently: for the report, which shows whatever is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from limner.errors import LimnerError
from limner.metrics.card import Card, read_card
from limner.training.log import number, read_events, standing


@dataclass(frozen=True)
class RunRecord:
    """What can be read of a run's folder."""

    folder: Path
    config: Mapping[str, Any]
    log: list[dict[str, Any]]
    """the events that count"""
    history: list[dict[str, Any]]
    """all events, those superseded by a resume too"""
    cards: list[Card]

    @cached_property
    def ticks(self) -> list[dict[str, Any]]:
        """In order of images seen: a tick replaces earlier ones at as many images or more (they were rolled back)."""
        kept: list[dict[str, Any]] = []
        for event in self.log:
            if event["event"] == "tick":
                while kept and kept[-1]["images"] >= event["images"]:
                    kept.pop()
                kept.append(event)
        return kept

    @cached_property
    def images(self) -> int:
        """Seen so far."""
        return max((event["images"] for event in self.log), default=0)

    @cached_property
    def total_images(self) -> int:
        """To be seen in all, or 0 where the config does not say."""
        total = number(self.config.get("kimg"))
        return round(total * 1000) if total else 0

    def last(self, *events: str) -> dict[str, Any] | None:
        """The newest event of these kinds."""
        return next((event for event in reversed(self.history) if event["event"] in events), None)

    def fact(self, name: str) -> Any:
        """As the newest start or resume that says it, else as the config has it."""
        started = [event for event in self.history if event["event"] in ("start", "resume") and name in event]
        return started[-1][name] if started else self.config.get(name)


def read_run(run: Path) -> RunRecord:
    """Everything the report shows but the pictures; absent and unreadable parts are empty."""
    cards = []
    for path in sorted((run / "metrics").glob("*.json")):
        try:
            cards.append(read_card(path))
        except LimnerError:
            continue  # not a card, or of another version: `limner evaluate` says so, a report only shows
    history = read_events(run / "log.jsonl")
    return RunRecord(run, _read_config(run / "config.json"), standing(history), history, cards)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
