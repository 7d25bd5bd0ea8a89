"""The numbers of a report: losses, metrics and speed over the images seen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from limner.metrics.card import Card
from limner.training import page
from limner.training.log import number
from limner.training.plots import Mark, Series, line_plot
from limner.training.progress import kimg
from limner.training.record import RunRecord

_MOST_METRIC_ROWS = 40


def loss_plots(record: RunRecord) -> str:
    """One plot for the losses of each phase."""
    groups: dict[str, list[Series]] = {}
    for name, points in _ticked(record, "losses").items():
        group, _, rest = name.rpartition("/")
        groups.setdefault(group or "losses", []).append(Series(rest or name, points))
    return _plots([_plot(record, group, lines) for group, lines in groups.items()])


def speed_plots(record: RunRecord) -> str:
    """Speed, memory, and the learning rates where they change: a constant rate is among the settings."""
    plots = []
    for name, title in (("images_per_second", "images per second"), ("memory_mb", "memory, MB")):
        series = [Series(title, points) for points in _ticked(record, name).values()]
        plots.append(_plot(record, title, series, smooth=False))
    rates = {name: points for name, points in _ticked(record, "learning_rate").items() if _varies(points)}
    series = [Series(name or "learning rate", points) for name, points in rates.items()]
    return _plots([*plots, _plot(record, "learning rate", series, smooth=False)])


def _varies(points: list[tuple[float, float | None]]) -> bool:
    return len({y for _, y in points if y is not None}) > 1


def _plot(record: RunRecord, title: str, series: list[Series], *, smooth: bool = True) -> str:
    return line_plot(title, series, marks=_marks(record), x_range=(0.0, record.images / 1000), smooth=smooth)


def _plots(plots: list[str]) -> str:
    shown = "".join(plots)
    return f'<div class="plots">{shown}</div>' if shown else ""


def metric_plots(record: RunRecord) -> str:
    """One plot a metric, with its sub-values (levels, the same quantity of the reals)."""
    plots = []
    for title, lines in _metric_series(record).items():
        series = [Series(name, [(x / 1000, y) for x, y in sorted(points.items())]) for name, points in lines.items()]
        plots.append(_plot(record, title, series))
    return _plots(plots)


def metric_table(record: RunRecord) -> str:
    """The newest card of each metric, with its protocol."""
    newest: dict[tuple[object, ...], Card] = {}
    for card in sorted(record.cards, key=lambda card: card.images_seen or 0):
        newest[card.name, card.split, card.weights, card.dataset] = card
    rows = [
        ("", (card.name, f"{card.value:.5g}", f"{kimg(card.images_seen or 0)} kimg", _protocol(card)))
        for card in list(newest.values())[-_MOST_METRIC_ROWS:]
    ]
    return page.table(("metric", "newest value", "images seen", "how it was measured"), rows, numbers=(1, 2))


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
        name, value = event.get("name"), number(event.get("value"))
        if event["event"] == "metric" and isinstance(name, str) and value is not None and name not in known:
            plots.setdefault(name, {}).setdefault(name, {})[event["images"]] = value
    return plots


def newest_metrics(record: RunRecord, most: int = 3) -> list[tuple[str, float, int]]:
    """Name, newest value and images seen of each metric, at most `most` of them."""
    newest: dict[str, tuple[float, int]] = {}
    for card in sorted(record.cards, key=lambda card: card.images_seen or 0):
        newest[card.name] = card.value, card.images_seen or 0
    for event in record.log:
        name, value = event.get("name"), number(event.get("value"))
        if event["event"] == "metric" and isinstance(name, str) and value is not None:
            newest[name] = value, event["images"]
    return [(name, *found) for name, found in newest.items()][:most]


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
