"""The numbers of a report over the images seen: losses and speed. (Metrics have a file of their own.)"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from limner.training.log import number
from limner.training.plots import Mark, Series, line_plot
from limner.training.progress import kimg
from limner.training.record import RunRecord


def loss_plots(record: RunRecord) -> str:
    """One plot for the losses of each phase."""
    groups: dict[str, list[Series]] = {}
    for name, points in _ticked(record, "losses").items():
        group, _, rest = name.rpartition("/")
        groups.setdefault(group or "losses", []).append(Series(rest or name, points))
    return plots([plot(record, group, lines) for group, lines in groups.items()])


def speed_plots(record: RunRecord) -> str:
    """Speed, memory, and the learning rates where they change: a constant rate is among the settings."""
    drawn = []
    for name, title in (("images_per_second", "images per second"), ("memory_mb", "memory, MB")):
        series = [Series(title, points) for points in _ticked(record, name).values()]
        drawn.append(plot(record, title, series, smooth=False))
    rates = {name: points for name, points in _ticked(record, "learning_rate").items() if _varies(points)}
    series = [Series(name or "learning rate", points) for name, points in rates.items()]
    return plots([*drawn, plot(record, "learning rate", series, smooth=False)])


def _varies(points: list[tuple[float, float | None]]) -> bool:
    return len({y for _, y in points if y is not None}) > 1


def plot(record: RunRecord, title: str, series: list[Series], *, smooth: bool = True) -> str:
    """Lines over the run so far, with its marks."""
    return line_plot(title, series, marks=_marks(record), x_range=(0.0, record.images / 1000), smooth=smooth)


def plots(drawn: list[str]) -> str:
    """Plots side by side, or "" for none."""
    shown = "".join(drawn)
    return f'<div class="plots">{shown}</div>' if shown else ""


def _ticked(record: RunRecord, field: str) -> dict[str, list[tuple[float, float | None]]]:
    """A field of the ticks over kimg, by name where it holds several; one number alone is named ""."""
    series: dict[str, list[tuple[float, float | None]]] = {}
    for tick in record.ticks:
        value = tick.get(field)
        named = value if isinstance(value, Mapping) else {"": value}
        for name, one in named.items():
            series.setdefault(name, []).append((tick["images"] / 1000, number(one)))
    return series


def _marks(record: RunRecord) -> list[Mark]:
    marks = [
        Mark(event["images"] / 1000, event["event"], f"{event['event']} at {kimg(event['images'])} kimg")
        for event in record.log
        if event["event"] in ("resume", "rollback")
    ]
    grown = [tick for tick in record.ticks if number(tick.get("resolution"))]
    for before, after in pairwise(grown):
        if before["resolution"] != after["resolution"]:
            name = f"{after['resolution']}²"
            marks.append(Mark(after["images"] / 1000, name, f"resolution {name} from here"))
    return sorted(marks, key=lambda mark: mark.x)
