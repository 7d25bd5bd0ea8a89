"""`report.html`: a run on one page that needs nothing else, to look at while it trains and to hand on when it is done.

Whatever is missing or damaged in the run's folder is left out of the page; only an unwritable folder is an error.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from limner.explore.pictures import write_whole
from limner.models.outside import is_file_spec
from limner.program import limner_command
from limner.training import page
from limner.training.alarms import active
from limner.training.log import number
from limner.training.progress import duration, kimg, short
from limner.training.record import RunRecord, read_run
from limner.training.report_metrics import metrics_of, newest_metrics
from limner.training.report_numbers import loss_plots, speed_plots
from limner.training.report_pictures import newest_reconstructions, newest_sheet, newest_turns, time_lapse_figure
from limner.training.run_folder import check_run

_MOST_EVENTS = 60


def write_report(run: Path) -> Path:
    """Write `report.html` in the folder of a run, from whatever is there.

    Raises:
        LimnerError: there is no such folder.
        ResourceError: the page cannot be written.
    """
    if not run.is_dir():
        check_run(run)
    record = read_run(run)
    name = run.resolve().name
    sections = (
        _header(record, name),
        page.section("Faces", _faces(record)),
        page.section("Turns", newest_turns(record.folder / "samples")),
        page.section("Photos and their reconstructions", newest_reconstructions(record.folder / "samples")),
        page.section("Losses", loss_plots(record)),
        page.section("Metrics", metrics_of(record)),
        page.section("Speed", speed_plots(record)),
        page.section("What happened", _events(record)),
        page.section("Next", _commands(run, record)),
        page.section("Settings", _settings(record)),
        _footer(),
    )
    return write_whole(run / "report.html", page.document(f"{name} · limner", sections).encode())


def _header(record: RunRecord, name: str) -> str:
    state, bad = _state(record)
    facts = [_word(record.fact("model_name")), _data_name(record), _resolution(record)]
    described = " · ".join(page.text(fact) for fact in facts if fact)
    chip = f'<span class="state{" bad" if bad else ""}">{page.text(state)}</span>'
    below = f'<p class="sub">{chip}{described}</p>{_alarms(record)}{_tiles(record)}'
    return f"<header><h1>{page.text(name)}</h1>{below}</header>"


def _alarms(record: RunRecord) -> str:
    """What is wrong now, a line each."""
    messages = [_word(event.get("message")) for event in active(record.log)]
    lines = "".join(f'<tr class="bad"><td>{page.text(said[:1].upper() + said[1:])}.</td></tr>' for said in messages)
    return f'<div class="tiles"><div class="panel"><table><tbody>{lines}</tbody></table></div></div>' if lines else ""


def _state(record: RunRecord) -> tuple[str, bool]:
    last = record.last("start", "resume", "end")
    if last is None:
        return ("not started" if not record.history else "in training or interrupted"), False
    if last["event"] != "end":
        return "in training or interrupted", False
    reason = _word(last.get("reason")) or "ended"
    return reason, reason.startswith("diverged")


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _data_name(record: RunRecord) -> str:
    data = record.fact("dataset") or record.config.get("data")
    if isinstance(data, Mapping):
        data = data.get("name")
    if not data and record.cards:
        data = record.cards[-1].dataset
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
    for name, value, images in newest_metrics(record):
        tiles.append(page.tile(name, f"{value:.4g}", f"at {kimg(images)} kimg"))
    if device := _word(record.fact("device")):
        tiles.append(page.tile("device", device, words=True))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _images_tile(record: RunRecord) -> str:
    if not record.total_images:
        return page.tile("images seen", f"{kimg(record.images)} kimg")
    share = min(100 * record.images / record.total_images, 100)
    bar = f'<progress max="100" value="{share:.1f}">{share:.0f}%</progress>'
    return page.tile("images seen", f"{kimg(record.images)} kimg", f"of {kimg(record.total_images)} kimg{bar}")


def _recent_speed(record: RunRecord) -> float | None:
    speeds = [speed for tick in record.ticks[-10:] if (speed := number(tick.get("images_per_second"))) and speed > 0]
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


def _events(record: RunRecord) -> str:
    told = {"start", "resume", "rollback", "warning", "recovered", "end"}
    events = [event for event in record.history if event["event"] in told]
    counted = {id(event) for event in record.log}
    rows = []
    for event in reversed(events[-_MOST_EVENTS:]):
        kind = "bad" if event["event"] in ("warning", "rollback") else ""
        kind = kind if id(event) in counted else "gone"
        said = _word(event.get("message")) or _word(event.get("reason")) or _known_facts(event)
        rows.append((kind, (_moment(event.get("time")), f"{kimg(event['images'])} kimg", event["event"], said)))
    left_out = len(events) - len(rows)
    note = f'<p class="aside">{left_out} earlier events are in log.jsonl.</p>' if left_out > 0 else ""
    if any(kind == "gone" for kind, _ in rows):
        note += '<p class="aside">Pale: a later resume or rollback went back behind it.</p>'
    return page.table(("time, UTC", "images seen", "what", ""), rows, numbers=(1,)) + note


def _known_facts(event: Mapping[str, Any]) -> str:
    facts = {name: value for name, value in event.items() if name not in ("event", "images", "time")}
    return ", ".join(f"{name} {value}" for name, value in facts.items() if isinstance(value, str | int | float))


def _moment(value: object) -> str:
    try:
        return datetime.fromisoformat(_word(value)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return ""


def _commands(run: Path, record: RunRecord) -> str:
    finished = (record.last("start", "resume", "end") or {}).get("reason") == "finished"
    relative = os.path.relpath(run)
    place = shlex.quote(str(run.resolve()) if relative.startswith("..") else relative)
    turns = next((run / "samples").glob("turns-*.png"), None)
    limner, named = limner_command(), _model_flag(record)
    going_on = (f"{limner} resume {place}{named}", "go on from the newest checkpoint")
    if finished:
        more = 1.5 * record.total_images / 1000
        going_on = (f"{limner} resume {place} --kimg {more:.3g}{named}", "train it further")
    lines = (
        going_on,
        (f"{limner} sample {place} --seeds 0-63{named}", "draw new faces"),
        *([(f"{limner} turn {place} --out turn.gif{named}", "see them turn")] if turns else []),
        (f"{limner} evaluate {place}{named}", "measure the newest checkpoint"),
    )
    body = "\n".join(f'<span class="what"># {page.text(what)}</span>\n{page.text(line)}' for line, what in lines)
    return f'<div class="panel"><pre>{body}</pre></div>'


def _model_flag(record: RunRecord) -> str:
    """`--model` with a placeholder for a model in a file: a reader decides which file to run, not a run."""
    source = record.config.get("model_source")
    return " --model FILE.py:CLASS" if isinstance(source, str) and is_file_spec(source) else ""


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
