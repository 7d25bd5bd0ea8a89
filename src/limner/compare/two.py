"""Two runs, or two cards, on the screen: their numbers side by side where they were measured in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

from limner.errors import LimnerError
from limner.metrics.card import Card, read_card
from limner.metrics.card import compare as difference_of
from limner.metrics.registry import METRICS
from limner.training.evaluation_table import ARROWS, LEGEND

Kind: TypeAlias = tuple[str, str | None, str | None]


def show_two(first: Path, second: Path, ignore: Sequence[str]) -> None:
    """Print the numbers of two runs (or two cards). Unlike ones are named with what differs, not compared.

    Args:
        first: folder of a run, or a card in its metrics folder.
        second: what to compare with it.
        ignore: fields of the cards that may differ all the same, such as code_version.

    Raises:
        LimnerError: they have no comparable number in common.
    """
    ours, theirs = read_cards(first), read_cards(second)
    rows, unlike = [], []
    for one, other in pair_up(ours, theirs):
        try:
            change = difference_of(one, other, ignore=ignore)["value"]
        except LimnerError as error:
            unlike.append(str(error))
            continue
        rows.append((one, other, change))
    if not rows:
        raise LimnerError(
            unlike[0] if unlike else f"{first} and {second} have no number in common; measure both: limner evaluate RUN"
        )
    console = Console()
    console.print(_table(first, second, rows))
    console.print(LEGEND, style="dim", highlight=False)
    for line in [*unlike, *_missing(first, ours, theirs), *_missing(second, theirs, ours)]:
        console.print(line, highlight=False, soft_wrap=True)


def read_cards(path: Path) -> list[Card]:
    """One card, or of a run the newest of each kind (name, split, weights), in the order of METRICS.

    Raises:
        LimnerError: there is nothing there, or no card.
        DataError: a card cannot be read.
    """
    if path.is_file():
        return [read_card(path)]
    if not path.is_dir():
        raise LimnerError(f"{path}: no such run or card; give the folder that `limner train` printed")
    newest: dict[Kind, Card] = {}
    cards = [read_card(file) for file in sorted((path / "metrics").glob("*.json"))]
    for card in sorted(cards, key=lambda card: card.images_seen or 0):
        newest[_kind(card)] = card
    if not newest:
        raise LimnerError(f"{path}: no numbers in it; measure it first: limner evaluate {path}")
    order = list(METRICS)
    return sorted(newest.values(), key=lambda card: order.index(card.metric) if card.metric in order else len(order))


def pair_up(ours: Sequence[Card], theirs: Sequence[Card]) -> list[tuple[Card, Card]]:
    """Cards of the same kind; two single cards always."""
    if len(ours) == len(theirs) == 1:
        return [(ours[0], theirs[0])]
    known = {_kind(card): card for card in theirs}
    return [(card, known[_kind(card)]) for card in ours if _kind(card) in known]


def _kind(card: Card) -> Kind:
    return card.name, card.split, card.weights


def _table(first: Path, second: Path, rows: Sequence[tuple[Card, Card, float]]) -> Table:
    table = Table("metric", "", str(first), str(second), "difference", "better")
    for column in table.columns[2:5]:
        column.justify = "right"
    for one, other, change in rows:
        spec = METRICS.get(one.metric)
        table.add_row(
            one.name,
            ARROWS[spec.better] if spec else "",
            f"{one.value:.4g}",
            f"{other.value:.4g}",
            f"{change:+.4g}",
            _better(one, other, first, second),
        )
    return table


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
    names = [card.name for card in ours if _kind(card) not in known]
    return [f"only {path} has {', '.join(names)}"] if names and len(theirs) > 1 else []
