"""The sheets a run has drawn of its fixed latents, and how large its pictures were at the time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.training.log import read_log
from limner.training.progress import kimg


@dataclass(frozen=True)
class Drawn:
    """One sheet."""

    file: Path
    images: int
    """images seen when it was drawn"""
    resolution: int | None = None
    """side of what the model made then, pixels (a sheet shows all at the full side); None: unknown"""
    fading_from: int | None = None
    """side of the level below, pixels, where a level was being faded in"""

    @property
    def caption(self) -> str:
        """Such as "16² · 412 kimg", or "16² → 32² · 460 kimg" in a fade."""
        sides = [f"{side}²" for side in (self.fading_from, self.resolution) if side is not None]
        return " · ".join([*([" → ".join(sides)] if self.resolution else []), f"{kimg(self.images)} kimg"])


def drawn_sheets(run: Path) -> list[Drawn]:
    """A run's sheets that are still there, the earliest first, with what its log says of them.

    A sheet that the run later went back behind does not count; without a log all in `samples/` do, of unknown size.

    Raises:
        ResourceError: the log cannot be read.
    """
    events = read_log(run / "log.jsonl")
    sheets = [_of_event(run, event, events) for event in events if event["event"] == "sample"]
    if not sheets:
        sheets = [Drawn(file, _images_of(file)) for file in (run / "samples").glob("images-*.png")]
    by_file = {sheet.file: sheet for sheet in sheets if sheet is not None and sheet.file.is_file()}
    return sorted(by_file.values(), key=lambda sheet: sheet.images)


def captions_of(files: Iterable[Path]) -> list[str]:
    """A caption for each of a run's sheets; without sizes where they are all the same, or one is unknown."""
    files = list(files)
    known = {sheet.file: sheet for sheet in drawn_sheets(files[0].parent.parent)} if files else {}
    sheets = [known.get(file, Drawn(file, _images_of(file))) for file in files]
    sizes = {sheet.resolution for sheet in sheets}
    if None in sizes or len(sizes) == 1:
        return [f"{kimg(sheet.images)} kimg" for sheet in sheets]
    return [sheet.caption for sheet in sheets]


def _of_event(run: Path, event: dict[str, Any], events: list[dict[str, Any]]) -> Drawn | None:
    if not isinstance(event.get("file"), str):
        return None
    file = run / "samples" / Path(event["file"]).name  # never outside of the run
    resolution = _side(event.get("resolution")) or _from_ticks(event["images"], events)
    return Drawn(file, event["images"], resolution, _side(event.get("fading_from")))


def _from_ticks(images: int, events: list[dict[str, Any]]) -> int | None:
    """The side as the ticks before, or else the first one, have it: logs of earlier versions."""
    ticks = [event for event in events if event["event"] == "tick" and _side(event.get("resolution"))]
    before = [tick for tick in ticks if tick["images"] <= images]
    return _side((before[-1:] or ticks[:1])[0]["resolution"]) if ticks else None


def _side(value: object) -> int | None:
    return value if type(value) is int and 0 < value < 2**16 else None


def _images_of(file: Path) -> int:
    found = re.search(r"[0-9]{1,15}", file.stem)
    return int(found[0]) if found else 0
