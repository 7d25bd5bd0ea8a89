"""The metrics of a report: the newest of each in a table, curves of those measured repeatedly, the closest pairs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from limner.metrics.card import Card
from limner.metrics.registry import METRICS
from limner.training import page
from limner.training.evaluation_details import details
from limner.training.evaluation_table import ARROWS, LEGEND, beside, measured_with
from limner.training.log import number
from limner.training.plots import Series
from limner.training.progress import kimg
from limner.training.record import RunRecord
from limner.training.report_numbers import plot, plots
from limner.training.report_pictures import closest_pairs

_MOST_ROWS = 60
_MOST_LINES = 5
"""sub-values drawn beside a value; more are only listed"""
_MOST_TOLD = ("fid", "fd", "pose_control", "swd", "ms_ssim")


def metrics_of(record: RunRecord) -> str:
    """All that is known of the run's metrics, as HTML."""
    pairs = closest_pairs(record.folder / "metrics")
    return metric_table(record) + one_by_one(record) + metric_plots(record) + pairs


def metric_plots(record: RunRecord) -> str:
    """One plot a metric that was measured at several moments, with its sub-values (levels, the reals' own)."""
    drawn = []
    for title, lines in _series(record).items():
        if max(len(points) for points in lines.values()) < 2:
            continue
        series = [Series(name, [(x / 1000, y) for x, y in sorted(points.items())]) for name, points in lines.items()]
        drawn.append(plot(record, title, series))
    return plots(drawn)


def metric_table(record: RunRecord) -> str:
    """The newest card of each metric, those of one extractor together; sub-values and protocol on demand."""
    cards = _newest_cards(record)
    if not cards:
        return ""
    head = "".join(f"<th{kind}>{name}</th>" for name, kind in _HEAD)
    body = "".join(_group(title, some) for title, some in groupby(cards, measured_with))
    table = f'<table class="metrics"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="panel">{table}</div><p class="aside">{page.text(LEGEND)}</p>'


def one_by_one(record: RunRecord) -> str:
    """The newest figures of every attribute or code, on demand: wider than a row of the table has room for."""
    drawn = []
    for found in filter(None, map(details, _newest_cards(record))):
        numbers = [place for place in range(len(found.head)) if place not in found.words]
        table = page.table(found.head, [("", row) for row in found.rows], numbers)
        drawn.append(f"<details><summary>{page.text(found.title)}</summary>{table}</details>")
    return "".join(drawn)


def _newest_cards(record: RunRecord) -> list[Card]:
    """The newest of every metric, in the order they are shown."""
    newest: dict[tuple[object, ...], Card] = {}
    for card in sorted(record.cards, key=lambda card: card.images_seen or 0):
        newest[card.name, card.split, card.weights, card.dataset] = card
    return sorted(list(newest.values())[-_MOST_ROWS:], key=_place)


_HEAD = (("metric", ""), ("newest value", ' class="number"'), ("", ""), ("beside", ""), ("images seen", ""), ("", ""))


def _place(card: Card) -> tuple[str, int, str]:
    """Pixels before networks, then in the order of METRICS."""
    order = list(METRICS)
    known = order.index(card.metric) if card.metric in order else len(order)
    return ("" if card.extractor is None else measured_with(card)), known, card.name


def _group(title: str, cards: Iterable[Card]) -> str:
    heading = f'<tr class="group"><th colspan="{len(_HEAD)}">{page.text(title)}</th></tr>'
    return heading + "".join(_row(card) for card in cards)


def _row(card: Card) -> str:
    spec = METRICS.get(card.metric)
    arrow = ARROWS[spec.better] if spec else ""
    summary = f'<p class="aside">{page.text(spec.summary)}</p>' if spec else ""
    values = _sub_values(card)
    details = f"<details><summary>how</summary>{summary}{values}<p>{page.text(_protocol(card))}</p></details>"
    seen = f"{kimg(card.images_seen or 0)} kimg"
    return (
        f'<tr><td>{page.text(card.name)}</td><td class="number">{card.value:.5g}</td><td>{arrow}</td>'
        f"<td>{'<br>'.join(map(page.text, beside(card).split(', ')))}</td><td>{seen}</td><td>{details}</td></tr>"
    )


def _sub_values(card: Card) -> str:
    """All of them but those of one attribute or code, which have a table of their own."""
    if details(card) is None:
        return page.pairs((name, f"{value:.5g}") for name, value in card.values.items())
    return page.pairs((_SUMMARIES[name], f"{card.values[name]:.5g}") for name in card.values if name in _SUMMARIES)


_SUMMARIES = {
    "probe": "probe on real images",
    "balanced": "balanced",
    "chance": "by chance",
    "others": "names dealt out at random",
    "agreement": "agreement by name",
    "own_name": "codes whose best match is their own name",
    "matched": "best matching",
    "chance_matched": "best matching, by chance",
}
"""of the metrics whose other sub-values are each of one attribute or code"""


def _protocol(card: Card) -> str:
    """The card's protocol in one line: numbers with another one are not comparable."""
    reals = "reals of a file" if card.count_reals is None else f"{card.count_reals} reals"
    parts = [
        f"{card.count_fakes} fakes, {reals}" + (f" of {card.dataset}" if card.dataset else ""),
        f"split {card.split}" if card.split else "",
        f"{card.weights} weights" if card.weights else "",
        f"{card.resolution}²",
        f"crop {card.crop}" if card.crop else "",
        f"resize {card.resize}" if card.resize else "",
        f"quantisation {card.quantisation}",
        f"extractor {card.extractor} {(card.extractor_sha256 or '')[:12]}".strip() if card.extractor else "",
        f"its resize {card.extractor_resize}" if card.extractor_resize else "",
        f"attributes {card.attributes}" if card.attributes else "",
        f"truncation {card.truncation}" if card.truncation is not None else "",
        *(f"{name} {value}" for name, value in card.settings.items() if value != ""),
        f"seed {card.seed}",
        f"limner {card.code_version}",
    ]
    return " · ".join(part for part in parts if part)


def _series(record: RunRecord) -> dict[str, dict[str, dict[int, float]]]:
    """Plot title → line → images → value: from the cards, and from logged numbers that have none."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for card in sorted(record.cards, key=_place):
        detail = ", ".join(part for part in (card.split, card.weights) if part)
        lines = found.setdefault(f"{card.name} ({detail})" if detail else card.name, {})
        for line, height in {card.metric: card.value, **_drawn_beside(card)}.items():
            lines.setdefault(line, {})[card.images_seen or 0] = height
    known = {card.name for card in record.cards} | {card.metric for card in record.cards}
    for event in record.log:
        name, value = event.get("name"), number(event.get("value"))
        if event["event"] == "metric" and isinstance(name, str) and value is not None and name not in known:
            found.setdefault(name, {}).setdefault(name, {})[event["images"]] = value
    return found


def _drawn_beside(card: Card) -> dict[str, float]:
    """Sub-values in the value's own unit: the one to read it beside, or its few parts."""
    spec = METRICS.get(card.metric)
    if spec and spec.beside:
        name, words = spec.beside
        return {words: card.values[name]} if name in card.values and name != "deviation" else {}
    return dict(card.values) if len(card.values) <= _MOST_LINES else {}


def newest_metrics(record: RunRecord, most: int = 3) -> list[tuple[str, float, int]]:
    """Name, newest value and images seen of at most `most` metrics, one of a kind, those that say most first."""
    newest: dict[str, tuple[float, int]] = {}
    kinds: dict[str, tuple[str, int]] = {}
    for card in sorted(record.cards, key=lambda card: card.images_seen or 0):
        newest[card.name] = card.value, card.images_seen or 0
        kinds[card.name] = card.metric, card.count_fakes
    for event in record.log:
        name, value = event.get("name"), number(event.get("value"))
        if event["event"] == "metric" and isinstance(name, str) and value is not None:
            newest[name] = value, event["images"]

    def rank(name: str) -> tuple[int, int, int]:
        kind, count = kinds.get(name, (name, 0))
        return -newest[name][1], _MOST_TOLD.index(kind) if kind in _MOST_TOLD else len(_MOST_TOLD), -count

    first: dict[str, str] = {}
    for name in sorted(newest, key=rank):
        first.setdefault(kinds.get(name, (name, 0))[0], name)
    return [(name, *newest[name]) for name in list(first.values())[:most]]
