"""Two runs, or two cards, on the screen: their numbers side by side where they were measured in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

from limner.checkpoint import list_checkpoints
from limner.compare.scores import counts_note
from limner.errors import LimnerError
from limner.metrics.card import Card, read_card
from limner.metrics.card import compare as difference_of
from limner.metrics.registry import METRICS
from limner.training.evaluation_table import ARROWS, LEGEND
from limner.training.run_folder import check_run

Kind: TypeAlias = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Row:
    """The same number of both, and what the second has more than the first."""

    one: Card
    other: Card
    change: float
    equal: bool
    """True where both checkpoints have seen equally many images, or the user allowed them to differ."""


def show_two(first: Path, second: Path, ignore: Sequence[str]) -> None:
    """Print the numbers of two runs (or two cards). Unlike ones are named with what differs, not compared.

    Of runs with numbers of several checkpoints the newest one that both measured is shown. Where there is none, each
    run's newest number is shown, and neither is called better.

    Args:
        first: folder of a run, or a card in its metrics folder.
        second: what to compare with it.
        ignore: fields of the cards that may differ all the same, such as code_version or images_seen.

    Raises:
        LimnerError: they have no comparable number in common.
    """
    ours, theirs = read_cards(first), read_cards(second)
    # Who names two cards has chosen their checkpoints.
    chosen = "images_seen" in ignore or (first.is_file() and second.is_file())
    rows, unlike = [], []
    for one, other in pair_up(ours, theirs):
        try:
            change = difference_of(one, other, ignore=ignore)["value"]
        except LimnerError as error:
            unlike.append(str(error))
            continue
        rows.append(Row(one, other, change, chosen or one.images_seen == other.images_seen))
    if not rows:
        raise LimnerError(
            unlike[0] if unlike else f"{first} and {second} have no number in common; measure both: limner evaluate RUN"
        )
    console = Console()
    console.print(_table(first, second, rows))
    console.print(LEGEND, style="dim", highlight=False)
    notes = [*_unequal(first, second, rows), *unlike]
    notes += [*_missing(first, ours, theirs), *_missing(second, theirs, ours)]
    notes += [*_newer(first, [row.one for row in rows]), *_newer(second, [row.other for row in rows])]
    for line in notes:
        console.print(line, highlight=False, soft_wrap=True)


def read_cards(path: Path) -> list[Card]:
    """One card, or all of a run, in the order of METRICS and of images seen.

    Raises:
        LimnerError: there is nothing there, or no card.
        DataError: a card cannot be read.
    """
    if path.is_file():
        return [read_card(path)]
    check_run(path)
    cards = [read_card(file) for file in sorted((path / "metrics").glob("*.json"))]
    if not cards:
        raise LimnerError(f"{path}: no numbers in it; measure it first: limner evaluate {path}")
    order = list(METRICS)
    cards.sort(key=lambda card: card.images_seen or 0)
    return sorted(cards, key=lambda card: order.index(card.metric) if card.metric in order else len(order))


def pair_up(ours: Sequence[Card], theirs: Sequence[Card]) -> list[tuple[Card, Card]]:
    """Cards of the same kind, of the newest checkpoint that both measured, or else each one's newest.

    Two single cards are always a pair.
    """
    if len(ours) == len(theirs) == 1:
        return [(ours[0], theirs[0])]
    found = []
    for kind in dict.fromkeys(_kind(card) for card in ours):
        one, other = ({card.images_seen: card for card in cards if _kind(card) == kind} for cards in (ours, theirs))
        if other:
            shared = one.keys() & other.keys()
            found.append((one[max(shared or one, key=_seen)], other[max(shared or other, key=_seen)]))
    return found


def _seen(images: int | None) -> int:
    return -1 if images is None else images


def _kind(card: Card) -> Kind:
    return card.name, card.split, card.weights


def _table(first: Path, second: Path, rows: Sequence[Row]) -> Table:
    table = Table("metric", "", str(first), str(second), "difference", "better", "images", "images seen")
    for place in (2, 3, 4, 6, 7):
        table.columns[place].justify = "right"
    for row in rows:
        spec = METRICS.get(row.one.metric)
        table.add_row(
            row.one.name,
            ARROWS[spec.better] if spec else "",
            f"{row.one.value:.4g}",
            f"{row.other.value:.4g}",
            f"{row.change:+.4g}",
            _better(row.one, row.other, first, second) if row.equal else "unequal terms",
            f"{row.one.count_fakes:,}",
            " and ".join(dict.fromkeys(map(_images, (row.one, row.other)))),
        )
    return table


def _images(card: Card) -> str:
    return "unknown" if card.images_seen is None else f"{card.images_seen:,}"


def _unequal(first: Path, second: Path, rows: Sequence[Row]) -> list[str]:
    """A line for the numbers of checkpoints that have not seen equally many images, and one for unequal counts."""
    lines = []
    apart = [row for row in rows if not row.equal]
    if apart:
        names = ", ".join(row.one.name for row in apart)
        ours, theirs = _told(row.one for row in apart), _told(row.other for row in apart)
        lines.append(
            f"unequal terms: {names} of {first} at {ours} images seen, of {second} at {theirs}; measure both at one "
            "checkpoint, or allow it with --ignore images_seen"
        )
    note = counts_note([row.one for row in rows])
    return [*lines, note] if note else lines


def _told(cards: Iterable[Card]) -> str:
    return " or ".join(dict.fromkeys(map(_images, cards)))


def _newer(path: Path, shown: Sequence[Card]) -> list[str]:
    """A line where a run has a newer checkpoint than all the numbers that are shown."""
    if path.is_file():
        return []
    names = [file.stem.removeprefix("images-") for file in list_checkpoints(path / "checkpoints")]
    newest, seen = max(map(int, names), default=0), max(_seen(card.images_seen) for card in shown)
    if newest <= seen:
        return []
    return [f"{path} has a checkpoint of {newest:,} images seen, and these numbers are older: limner evaluate {path}"]


def _better(one: Card, other: Card, first: Path, second: Path) -> str:
    """Which of the two; nothing where they are equal. (Whether by more than chance, other seeds would tell.)"""
    spec = METRICS.get(one.metric)
    if spec is None:
        return ""
    bad = {"lower": lambda card: card.value, "higher": lambda card: -card.value}.get(
        spec.better, lambda card: abs(card.value - card.values.get("reals", card.value))
    )
    ours, theirs = bad(one), bad(other)
    return "" if ours == theirs else str(first if ours < theirs else second)


def _missing(path: Path, ours: Sequence[Card], theirs: Sequence[Card]) -> list[str]:
    known = {_kind(card) for card in theirs}
    names = list(dict.fromkeys(card.name for card in ours if _kind(card) not in known))
    return [f"only {path} has {', '.join(names)}"] if names and len(theirs) > 1 else []
