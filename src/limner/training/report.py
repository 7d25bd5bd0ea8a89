"""`report.html`: a run on one page that needs nothing else, to look at while it trains and to hand on when it is done.

Whatever is missing or damaged in the run's folder is left out of the page; only an unwritable folder is an error.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from limner.errors import LimnerError
from limner.explore.pictures import write_whole
from limner.metrics.card import Card, read_card
from limner.training import page
from limner.training.log import number, read_events, standing
from limner.training.plots import Series, line_plot
from limner.training.progress import duration, kimg, short
from limner.training.report_pictures import newest_sheet, time_lapse_figure

_MOST_EVENTS = 60
_MOST_METRIC_ROWS = 40


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
        return [event for event in self.log if event["event"] == "tick"]

    @cached_property
    def images(self) -> int:
        return max((event["images"] for event in self.log), default=0)

    @cached_property
    def total_images(self) -> int:
        total = number(self.config.get("kimg"))
        return round(total * 1000) if total else 0

    def last(self, *events: str) -> dict[str, Any] | None:
        """The newest event of these kinds."""
        return next((event for event in reversed(self.history) if event["event"] in events), None)

    def fact(self, name: str) -> Any:
        """A setting as the newest start or resume gave it, else as the config has it."""
        started = self.last("start", "resume") or {}
        return started.get(name, self.config.get(name))


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


def write_report(run: Path) -> Path:
    """Write `report.html` in the folder of a run, from whatever is there.

    Raises:
        LimnerError: there is no such folder.
        ResourceError: the page cannot be written.
    """
    if not run.is_dir():
        raise LimnerError(f"{run}: no such run; give the folder that holds its config.json")
    record = read_run(run)
    name = run.resolve().name
    sections = (
        _header(record, name),
        page.section("Faces", _faces(record)),
        page.section("Losses", _losses(record)),
        page.section("Metrics", _metric_plots(record), _metric_table(record)),
        page.section("Speed", _speed(record)),
        page.section("What happened", _events(record)),
        page.section("Next", _commands(run)),
        page.section("Settings", _settings(record)),
        _footer(),
    )
    return write_whole(run / "report.html", page.document(f"{name} · limner", sections).encode())


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _header(record: RunRecord, name: str) -> str:
    state, bad = _state(record)
    facts = [_word(record.fact("model_name")), _data_name(record), _resolution(record)]
    described = " · ".join(page.text(fact) for fact in facts if fact)
    chip = f'<span class="state{" bad" if bad else ""}">{page.text(state)}</span>'
    return f'<header><h1>{page.text(name)}</h1><p class="sub">{chip}{described}</p>{_tiles(record)}</header>'


def _state(record: RunRecord) -> tuple[str, bool]:
    last = record.last("start", "resume", "end")
    if last is None:
        return ("not started" if not record.history else "in training or interrupted"), False
    if last["event"] != "end":
        return "in training or interrupted", False
    reason = _word(last.get("reason")) or "ended"
    return reason, not re.match(r"(done|finished|completed?|end)", reason)


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _data_name(record: RunRecord) -> str:
    data = record.fact("dataset") or record.config.get("data")
    if isinstance(data, Mapping):
        data = data.get("name")
    return re.split(r"[/\\]", data.rstrip("/\\"))[-1] if isinstance(data, str) and data else ""


def _resolution(record: RunRecord) -> str:
    newest = record.ticks[-1] if record.ticks else {}
    pixels = number(newest.get("resolution")) or number(record.fact("resolution"))
    return f"{pixels:.0f}²" if pixels else ""


def _tiles(record: RunRecord) -> str:
    tiles = [_images_tile(record)]
    if record.ticks and (seconds := number(record.ticks[-1].get("seconds"))):
        tiles.append(page.tile("time in training", duration(seconds)))
    if speed := _recent_speed(record):
        left = record.total_images - record.images
        going = left > 0 and (record.last("start", "resume", "end") or {"event": ""})["event"] != "end"
        tiles.append(page.tile("images per second", short(speed), f"{duration(left / speed)} left" if going else ""))
    if newest := _newest_metric(record):
        name, value, images = newest
        tiles.append(page.tile(name, f"{value:.4g}", f"at {kimg(images)} kimg"))
    if device := _word(record.fact("device_name")) or _word(record.fact("device")):
        tiles.append(page.tile("device", device, words=True))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _images_tile(record: RunRecord) -> str:
    if not record.total_images:
        return page.tile("images seen", f"{kimg(record.images)} kimg")
    share = min(100 * record.images / record.total_images, 100)
    bar = f'<progress max="100" value="{share:.1f}">{share:.0f}%</progress>'
    return page.tile("images seen", f"{kimg(record.images)} kimg", f"of {kimg(record.total_images)} kimg{bar}")


def _recent_speed(record: RunRecord) -> float | None:
    speeds = [speed for tick in record.ticks[-10:] if (speed := number(tick.get("images_per_second")))]
    return median(speeds) if speeds else None


def _faces(record: RunRecord) -> str:
    files = sorted((record.folder / "samples").glob("images-*.png"))
    figures = [figure for figure in (newest_sheet(files), time_lapse_figure(files)) if figure]
    if not figures:
        return ""
    return (
        f'<div class="pair">{"".join(figures)}</div>'
        if len(figures) > 1
        else figures[0].replace("faces", "faces single", 1)
    )


def _series_of(record: RunRecord) -> dict[str, list[tuple[float, float | None]]]:
    """Each logged loss over kimg; a tick at the same or fewer images replaces later ones (it followed a rollback)."""
    kept: list[dict[str, Any]] = []
    for tick in record.ticks:
        while kept and kept[-1]["images"] >= tick["images"]:
            kept.pop()
        kept.append(tick)
    series: dict[str, list[tuple[float, float | None]]] = {}
    for tick in kept:
        losses = tick.get("losses")
        for name, value in losses.items() if isinstance(losses, Mapping) else ():
            series.setdefault(name, []).append((tick["images"] / 1000, number(value)))
        for name in ("images_per_second", "learning_rate", "memory_mb"):
            series.setdefault(f" {name}", []).append((tick["images"] / 1000, number(tick.get(name))))
    return series


def _marks(record: RunRecord) -> list[tuple[float, str]]:
    marks = [
        (event["images"] / 1000, f"{event['event']} at {kimg(event['images'])} kimg")
        for event in record.log
        if event["event"] in ("resume", "rollback")
    ]
    grown = [tick for tick in record.ticks if number(tick.get("resolution"))]
    for before, after in pairwise(grown):
        if before["resolution"] != after["resolution"]:
            marks.append((after["images"] / 1000, f"resolution {after['resolution']}² from here"))
    return marks


def _losses(record: RunRecord) -> str:
    groups: dict[str, list[Series]] = {}
    for name, points in _series_of(record).items():
        if not name.startswith(" "):
            group, _, rest = name.rpartition("/")
            groups.setdefault(group or "losses", []).append(Series(rest or name, points))
    return _plots([line_plot(group, lines, marks=_marks(record)) for group, lines in groups.items()])


def _speed(record: RunRecord) -> str:
    series = _series_of(record)
    titles = {"images_per_second": "images per second", "memory_mb": "memory, MB", "learning_rate": "learning rate"}
    plots = []
    for name, title in titles.items():
        points = series.get(f" {name}", [])
        if name != "learning_rate" or len({y for _, y in points}) > 1:  # a constant rate is among the settings
            plots.append(line_plot(title, [Series(title, points)], marks=_marks(record)))
    return _plots(plots)


def _plots(plots: list[str]) -> str:
    shown = "".join(plots)
    return f'<div class="plots">{shown}</div>' if shown else ""


def _metric_series(record: RunRecord) -> dict[str, dict[str, dict[int, float]]]:
    """Plot title → line → images → value: from the cards, and from logged numbers that have none."""
    plots: dict[str, dict[str, dict[int, float]]] = {}
    for card in record.cards:
        detail = ", ".join(part for part in (card.split, card.weights) if part)
        lines = plots.setdefault(f"{card.name} ({detail})" if detail else card.name, {})
        for line, height in {card.metric: card.value, **card.values}.items():
            lines.setdefault(line, {})[card.images_seen or 0] = height
    known = {card.name for card in record.cards} | {card.metric for card in record.cards}
    for event in record.log:
        name, value = _word(event.get("name")), number(event.get("value"))
        if event["event"] == "metric" and name and value is not None and name not in known:
            plots.setdefault(name, {}).setdefault(name, {})[event["images"]] = value
    return plots


def _newest_metric(record: RunRecord) -> tuple[str, float, int] | None:
    for event in reversed(record.log):
        name, value = _word(event.get("name")), number(event.get("value"))
        if event["event"] == "metric" and name and value is not None:
            return name, value, event["images"]
    card = max(record.cards, key=lambda card: card.images_seen or 0, default=None)
    return (card.name, card.value, card.images_seen or 0) if card else None


def _metric_plots(record: RunRecord) -> str:
    plots = []
    for title, lines in _metric_series(record).items():
        series = [Series(name, [(x / 1000, y) for x, y in sorted(points.items())]) for name, points in lines.items()]
        plots.append(line_plot(title, series))
    return _plots(plots)


def _metric_table(record: RunRecord) -> str:
    newest: dict[tuple[object, ...], Card] = {}
    for card in sorted(record.cards, key=lambda card: card.images_seen or 0):
        newest[card.name, card.split, card.weights, card.dataset] = card
    rows = [
        ("", (card.name, f"{card.value:.5g}", kimg(card.images_seen or 0), _protocol(card)))
        for card in list(newest.values())[-_MOST_METRIC_ROWS:]
    ]
    return page.table(("metric", "newest value", "kimg", "how it was measured"), rows, numbers=(1, 2))


def _protocol(card: Card) -> str:
    """The card's protocol in one line: numbers with another one are not comparable."""
    parts = [
        f"{card.count_fakes} fakes, {card.count_reals} reals" + (f" of {card.dataset}" if card.dataset else ""),
        f"split {card.split}" if card.split else "",
        f"{card.weights} weights" if card.weights else "",
        f"{card.resolution}²",
        f"crop {card.crop}" if card.crop else "",
        f"resize {card.resize}" if card.resize else "",
        f"quantisation {card.quantisation}",
        f"extractor {card.extractor} {(card.extractor_sha256 or '')[:12]}".strip() if card.extractor else "",
        *(f"{name} {value}" for name, value in card.settings.items()),
        f"seed {card.seed}",
        f"limner {card.code_version}",
    ]
    return " · ".join(part for part in parts if part)


def _events(record: RunRecord) -> str:
    told = {"start", "resume", "rollback", "warning", "end"}
    events = [event for event in record.history if event["event"] in told]
    counted = {id(event) for event in record.log}
    rows = []
    for event in reversed(events[-_MOST_EVENTS:]):
        kind = "bad" if event["event"] in ("warning", "rollback") else ""
        kind = kind if id(event) in counted else "gone"
        said = _word(event.get("message")) or _word(event.get("reason")) or _known_facts(event)
        rows.append((kind, (_moment(event.get("time")), kimg(event["images"]), event["event"], said)))
    left_out = len(events) - len(rows)
    note = f'<p class="aside">{left_out} earlier events are in log.jsonl</p>' if left_out > 0 else ""
    return page.table(("time, UTC", "kimg", "", ""), rows, numbers=(1,)) + note


def _known_facts(event: Mapping[str, Any]) -> str:
    facts = {name: value for name, value in event.items() if name not in ("event", "images", "time")}
    return ", ".join(f"{name} {value}" for name, value in facts.items() if isinstance(value, str | int | float))


def _moment(value: object) -> str:
    try:
        return datetime.fromisoformat(_word(value)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return ""


def _commands(run: Path) -> str:
    relative = os.path.relpath(run)
    place = shlex.quote(str(run.resolve()) if relative.startswith("..") else relative)
    lines = (
        (f"limner resume {place}", "go on from the newest checkpoint"),
        (f"limner sample {place} --seeds 0-63", "draw new faces"),
        (f"limner evaluate {place}", "measure the newest checkpoint"),
        (f"limner report {place}", "write this page again"),
    )
    body = "\n".join(f'{page.text(line)}  <span class="what"># {page.text(what)}</span>' for line, what in lines)
    return f'<div class="panel"><pre>{body}</pre></div>'


def _settings(record: RunRecord) -> str:
    rows = list(_flat(record.config))
    if not rows:
        return ""
    return f"<details><summary>{len(rows)} settings (config.json)</summary>{page.pairs(rows)}</details>"


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            rows += _flat(item, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)))
    return rows


def _footer() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    marked = "The faces are synthetic; the files in samples/ say so in their metadata."
    return f"<footer>Written {now} by limner {page.text(metadata.version('limner'))}. {marked}</footer>"
