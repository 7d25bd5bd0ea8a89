"""An evaluation on the screen: a bar while it goes on, then its numbers, those of one extractor together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from limner.metrics.card import Card
from limner.metrics.registry import METRICS
from limner.training.evaluation_details import Details, details
from limner.training.progress import duration

ARROWS = {"lower": "↓", "higher": "↑", "as reals": "≈"}
LEGEND = "↓ lower is better · ↑ higher is better · ≈ best near the reals' value"


class Screen:
    """A bar on standard error, and lines that stay; silent on all processes but the first."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self._console, self._progress = console, progress
        self._task: tuple[str, TaskID] | None = None

    def note(self, message: str) -> None:
        """Print one line."""
        if self._progress is not None:
            self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def told(self, what: str, done: int, of: int) -> None:
        """Show how far it is: images of a set, or metrics computed."""
        if self._progress is None:
            return
        what = f"measuring: {what}" if what in METRICS else what
        if self._task is None or self._task[0] != what:
            if self._task is not None:
                self._progress.remove_task(self._task[1])
            self._task = what, self._progress.add_task(what, total=of)
        self._progress.update(self._task[1], completed=done)


@contextmanager
def shown(first: bool) -> Iterator[Screen]:
    """A screen while it is measured; where it is no terminal, one line at the end."""
    console = Console(stderr=True)
    if not first:
        yield Screen(console, None)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} of {task.total:,.0f}")
    started = time.monotonic()
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        yield Screen(console, progress)
    console.print(f"measured in {duration(time.monotonic() - started)}", highlight=False)


def show_cards(cards: Sequence[Card]) -> None:
    """Print the numbers, their directions and what to read them beside."""
    console = Console()
    groups: dict[str, list[Card]] = {}
    for card in cards:
        groups.setdefault(measured_with(card), []).append(card)
    widest = max((len(card.name) for card in cards), default=0)
    for title, some in groups.items():
        table = Table("metric", "value", "", "beside", title=title, title_justify="left", title_style="bold")
        table.columns[0].min_width, table.columns[1].min_width = widest, 8
        table.columns[1].justify = "right"
        for card in some:
            arrow = ARROWS[METRICS[card.metric].better] if card.metric in METRICS else ""
            table.add_row(card.name, f"{card.value:.4g}", arrow, beside(card))
        console.print(table)
    for found in filter(None, map(details, cards)):
        console.print(_table(found))
    console.print(LEGEND, style="dim", highlight=False)
    if cards:
        console.print(against(cards), style="dim", highlight=False, soft_wrap=True)


def _table(found: Details) -> Table:
    table = Table(
        title=found.title, title_justify="left", title_style="bold", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False
    )
    kept = [place for place in range(len(found.head)) if place not in found.aside]
    for place in kept:
        table.add_column(found.head[place], justify="left" if place in found.words else "right")
    for row in found.rows:
        table.add_row(*(escape(row[place]) for place in kept))
    return table


def measured_with(card: Card) -> str:
    """The network that looked, in a few words."""
    if card.extractor is None:
        return "pixels"
    return f"{card.extractor} ({card.extractor_resize})" if card.extractor_resize else card.extractor


def beside(card: Card) -> str:
    """The sub-values that a value is to be read beside: the reals' own, a floor, how sure it is."""
    spec = METRICS.get(card.metric)
    if spec is None or spec.beside is None:
        return ""
    if spec.beside[0] == "deviation" and card.settings.get("subsets") == 1:
        return ""  # of one subset it says nothing
    found = [(words, card.values[name]) for name, words in (spec.beside, *spec.also) if name in card.values]
    return ", ".join(f"{words} {value:.4g}" for words, value in found)


def against(cards: Sequence[Card]) -> str:
    """What model was compared with what, of all cards in one line."""
    card = max(cards, key=lambda card: (card.dataset is not None, card.count_reals != 0))
    images = "" if card.images_seen is None else f" at {card.images_seen:,} images"
    fakes = f"{card.model}, {card.weights} weights{images}: {card.count_fakes:,} fakes"
    if card.count_reals == 0:
        return fakes
    reals = "the reals of a file" if card.count_reals is None else f"{card.count_reals:,} reals"
    of = f" of {card.dataset} ({card.split})" if card.dataset else ""
    return f"{fakes} against {reals}{of}"
