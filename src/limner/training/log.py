"""`log.jsonl`: what happened in a run, one JSON object a line (docs/runs.md lists the events).

A line is written by one system call, so a process killed at any moment leaves at most one torn line, at the end of the
file. Reading skips it, and the next line written starts on a line of its own.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from limner.errors import LimnerError, ResourceError

_logger = logging.getLogger(__name__)


class RunLog:
    """Appends events to a run's `log.jsonl`, and to TensorBoard where asked.

    Another process may append to the same file meanwhile (an evaluation beside a training run).

    Args:
        path: the log file; its folder is made where missing.
        tensorboard: also write scalars and sample sheets under `tensorboard/` beside the log
            (needs `pip install limner[tensorboard]`).

    Raises:
        ResourceError: the file cannot be opened for writing.
        LimnerError: TensorBoard was asked for and is not installed.
    """

    def __init__(self, path: Path, *, tensorboard: bool = False) -> None:
        self.path = path
        self.lines_lost = 0
        self._mirror = TensorBoardMirror(path.parent / "tensorboard", path.parent) if tensorboard else None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._torn = _ends_within_a_line(path)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise ResourceError(
                f"{path}: the log cannot be written ({error.strerror}); choose another run folder"
            ) from error

    def write(self, event: str, images: int, **fields: object) -> None:
        """Append one event at `images` images seen; `fields` may hold anything JSON can, NumPy numbers and paths.

        A full disk does not stop the run: the line is lost, counted in `lines_lost`, and told at the next success.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"event": event, "images": int(images), "time": now, **fields}
        if self._append(_encode(line)) and self.lines_lost:
            lost, self.lines_lost = self.lines_lost, 0
            self.write("warning", images, message=f"{lost} earlier lines of this log could not be written")
        if self._mirror is not None:
            self._mirror.write(line)

    def _append(self, data: bytes) -> bool:
        data = b"\n" + data if self._torn else data
        try:
            written = self._file.write(data) or 0
        except OSError as error:
            written = 0
            _logger.warning("%s: a line of the log is lost (%s)", self.path, error.strerror)
        self._torn = self._torn if written == 0 else written < len(data)
        self.lines_lost += written < len(data)
        return written == len(data)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()
        if self._mirror is not None:
            self._mirror.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a log in the order written, superseded ones too; an absent file has none.

    Lines that are not a JSON object with "event" and "images" are skipped: they were torn by a kill or a power cut.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ResourceError(f"{path}: the log cannot be read ({error.strerror})") from error
    return [event for line in lines if (event := _parse(line)) is not None]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of a log that count: those a later resume or rollback went back behind are left out."""
    return standing(read_events(path))


def standing(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of all events those that count: a "resume" or "rollback" at X images supersedes earlier ones beyond X images."""
    kept: list[dict[str, Any]] = []
    for event in events:
        if event["event"] in ("resume", "rollback"):
            kept = [earlier for earlier in kept if earlier["images"] <= event["images"]]
        kept.append(event)
    return kept


def number(value: object) -> float | None:
    """A number read from the log, or None where it is absent, not finite or not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # JSON's whole numbers know no bound
        return None


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    images = event.get("images")
    return event if type(images) is int and 0 <= images < 2**63 else None


def _ends_within_a_line(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _encode(line: Mapping[str, object]) -> bytes:
    return json.dumps(_plain(line), allow_nan=False).encode("ascii") + b"\n"


def _plain(value: object) -> object:
    """What JSON can hold: numbers that are not finite become the strings "nan", "inf" and "-inf"."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy numbers and arrays, tensors
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, str | int) else str(value)


SHEETS = {"file": "samples", "reconstructions": "reconstructions", "turns": "turns"}
"""the pictures that an event `sample` names, and what TensorBoard calls them"""


class TensorBoardMirror:
    """The same events for TensorBoard: losses, speed, metrics and all sheets over images seen.

    A resume hides what TensorBoard holds beyond the images it resumed at.
    """

    def __init__(self, folder: Path, run: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise LimnerError(
                "TensorBoard was asked for and is not installed: pip install limner[tensorboard], or leave it off"
            ) from error
        self._make_writer = SummaryWriter
        self._writer: Any = None
        self._folder = folder
        self._run = run

    def write(self, line: Mapping[str, Any]) -> None:
        """Mirror one event; events without a number or a picture are left out."""
        event, images = line["event"], line["images"]
        if event in ("resume", "rollback"):
            self.close()
            self._writer = self._make_writer(str(self._folder), purge_step=images + 1)
        if self._writer is None:
            self._writer = self._make_writer(str(self._folder))
        if event == "tick":
            for name, value in _scalars(line):
                self._writer.add_scalar(name, value, images)
        elif event == "metric":
            self._writer.add_scalar(f"metrics/{line.get('name')}", float(line.get("value", math.nan)), images)
        elif event == "sample":
            for key, tag in SHEETS.items():
                if key in line:
                    self._add_sheet(tag, str(line[key]), images)
        self._writer.flush()

    def _add_sheet(self, tag: str, file: str, images: int) -> None:
        from PIL import Image

        try:
            with Image.open(self._run / file, formats=("PNG", "JPEG", "WEBP")) as sheet:
                pixels = np.asarray(sheet.convert("RGB"))
        except OSError as error:
            _logger.warning("%s: not shown in TensorBoard (%s)", file, error)
            return
        self._writer.add_image(tag, pixels, images, dataformats="HWC")

    def close(self) -> None:
        """Write what is buffered; a later event opens a new file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _scalars(tick: Mapping[str, Any]) -> list[tuple[str, float]]:
    losses = tick.get("losses")
    found = {f"losses/{name}": value for name, value in losses.items()} if isinstance(losses, Mapping) else {}
    for name in ("images_per_second", "learning_rate", "memory_mb"):
        value = tick.get(name)
        if isinstance(value, Mapping):
            found |= {f"{name}/{key}": item for key, item in value.items()}
        elif value is not None:
            found[name] = value
    return [(name, float(value)) for name, value in found.items()]
