"""An evaluation on the screen: a bar or lines while it runs, then its numbers, those of one extractor together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.table import Table

from limner.metrics.card import Card
from limner.metrics.registry import METRICS
from limner.training.evaluation_details import Details, details
from limner.training.progress import duration
from limner.training.time_left import TimeLeft

ARROWS = {"lower": "↓", "higher": "↑", "as reals": "≈"}
_SECONDS_PER_LINE = 10.0
LEGEND = "↓ lower is better · ↑ higher is better · ≈ best near the reals' value"


class Screen:
    """What runs, how much is done and the time left, on standard error; silent on all processes but the first.

    A bar on a terminal, which draws itself anew all the time; elsewhere a line at most every ten seconds.

    Args:
        console: where to write.
        bar: None on the processes that say nothing.
        clock: seconds that only grow.
    """

    def __init__(self, console: Console, bar: Progress | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._bar, self._clock = console, bar, clock
        self._pace: TimeLeft | None = None
        self._task: TaskID | None = None
        self._words: Mapping[str, str] = {}
        self._step = self._what = ""
        self._said = clock()

    def note(self, message: str) -> None:
        """Print one line."""
        if self._bar is not None:
            self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def expect(self, seconds: Mapping[str, float], words: Mapping[str, str]) -> None:
        """Take the expected seconds of each step, in their order, and what to call those that are no metrics."""
        self._pace, self._words = TimeLeft(seconds, clock=self._clock), words

    def told(self, what: str, done: int, of: int) -> None:
        """Show what runs now: a metric that is computed, or a set of images of which `done` are done."""
        if self._bar is None:
            return
        self._pace = self._pace or TimeLeft({what: 1.0}, measured=False, clock=self._clock)
        self._what = f"measuring: {what}" if what in METRICS else f"{self._words.get(what, what)} {done:,} of {of:,}"
        self._pace.reach(what, None if what in METRICS else done / max(of, 1))
        self.poll()
        if what != self._step:
            self._step = what
            self._bar.refresh()  # at once: the thread that draws may have to wait for what runs now

    def poll(self) -> None:
        """Keep the bar or the lines up to date; to be called often while something runs."""
        if self._bar is None or self._pace is None:
            return
        if self._console.is_terminal:
            self._draw(self._bar, self._pace)
        elif self._clock() - self._said >= _SECONDS_PER_LINE:
            self._said = self._clock()
            self.note(f"{self._what} · {_percent(self._pace)} done{_left(self._pace)}")

    def _draw(self, bar: Progress, pace: TimeLeft) -> None:
        if self._task is None:
            self._task = bar.add_task("", total=1.0, share="", left="")
        share, left = _percent(pace), _left(pace)
        bar.update(self._task, description=self._what, completed=pace.share, share=share, left=left)


def _percent(pace: TimeLeft) -> str:
    return f"{int(100 * pace.share)} %"  # rounded down: 100 % is not shown while something runs


def _left(pace: TimeLeft) -> str:
    seconds = pace.seconds_left
    return "" if seconds is None else f" · {duration(seconds)} left"


def columns() -> tuple[ProgressColumn, ...]:
    """The parts of the bar: what runs, how far, the time left."""
    return TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[share]}{task.fields[left]}")


@contextmanager
def shown(first: bool) -> Iterator[Screen]:
    """A screen while it is measured, and at the end a line that says how long it took."""
    console = Console(stderr=True)
    if not first:
        yield Screen(console, None)
        return
    started = time.monotonic()
    with Progress(*columns(), console=console, disable=not console.is_terminal) as bar:
        yield Screen(console, bar)
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
