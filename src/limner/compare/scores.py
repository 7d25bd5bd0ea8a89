"""Numbers of groups of runs: means with intervals over seeds, of cards that were made in the same way."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from limner.compare.contenders import Contender, Group
from limner.errors import LimnerError
from limner.metrics.card import Card
from limner.metrics.card import compare as difference_of
from limner.metrics.registry import METRICS

_QUANTILES = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
)  # fmt: skip


def t_quantile(freedom: int) -> float:
    """Student's t that 95 % of its distribution lies within, both sides, to 1e-4; from 21 degrees of freedom on by
    the expansion of Cornish and Fisher around the normal's 1.96 (Abramowitz & Stegun 26.7.5).
    """
    if freedom <= len(_QUANTILES):
        return _QUANTILES[freedom - 1]
    z = 1.959964
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds; `half_width` is half of its 95 % interval, None for one seed, of which none can be told."""

    mean: float
    half_width: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Student's t interval of the mean: t · s / √n."""
        if len(values) < 2:
            return cls(values[0], None, tuple(values))
        half = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
        return cls(fmean(values), half, tuple(values))


@dataclass(frozen=True)
class Column:
    """One metric, and the cards of all runs that have one made in the same way."""

    metric: str
    title: str
    cards: Mapping[str, Card]
    """by the run's folder"""

    @property
    def sample(self) -> Card:
        """Any of them: they are alike but for what they measured."""
        return next(iter(self.cards.values()))

    def card(self, run: Contender) -> Card | None:
        return self.cards.get(str(run.folder))

    def estimate(self, group: Group) -> Estimate | None:
        """Of the seeds that have the number; None where none has."""
        values = [card.value for run in group.runs if (card := self.card(run))]
        return Estimate.of(values) if values else None

    def best(self, groups: Sequence[Group]) -> Group | None:
        """The group that is better than every other by more than both their intervals; None where none is so sure."""
        sized = {group.name: (group, self._badness(group)) for group in groups}
        known = [(group, bad) for group, bad in sized.values() if bad is not None]
        if len(known) < 2 or any(bad.half_width is None for _, bad in known):
            return None
        ranked = sorted(known, key=lambda pair: pair[1].mean)
        first = ranked[0][1]
        apart = all(bad.mean - first.mean > (bad.half_width or 0) + (first.half_width or 0) for _, bad in ranked[1:])
        return ranked[0][0] if apart else None

    def leading(self, groups: Sequence[Group]) -> list[Group]:
        """Groups that have the number, the best mean first; none where the metric has no direction that is known."""
        known = [(group, bad) for group in groups if (bad := self._badness(group)) is not None]
        return [group for group, _ in sorted(known, key=lambda pair: pair[1].mean)]

    def _badness(self, group: Group) -> Estimate | None:
        values = [badness(card) for run in group.runs if (card := self.card(run))]
        known = [value for value in values if value is not None]
        return Estimate.of(known) if known else None


def badness(card: Card) -> float | None:
    """A value as one where lower is better: of "as reals" its distance from the reals'; None where that is unknown."""
    spec = METRICS.get(card.metric)
    if spec is None:
        return None
    if spec.better == "as reals":
        return abs(card.value - card.values["reals"]) if "reals" in card.values else None
    return card.value if spec.better == "lower" else -card.value


def columns(groups: Sequence[Group], ignore: Collection[str]) -> tuple[list[Column], list[str]]:
    """One column a metric, those of one network together, and lines that name what is not comparable.

    A metric measured at several counts is shown at the one that most runs share, and of those at the largest.

    Raises:
        LimnerError: the runs have no comparable number at all.
    """
    made: dict[tuple[str | None, ...], list[tuple[Column, list[str]]]] = {}
    for kind in _kinds(groups):
        column, unlike = _column(kind, groups, ignore)
        sample = column.sample
        key = (sample.metric, sample.extractor, sample.split, sample.weights)
        made.setdefault(key, []).append((column, unlike))
    chosen = _titled([max(several, key=_worth) for several in made.values()])
    notes = [line for _, lines in chosen for line in lines]
    notes += [line for column, _ in chosen for line in _of_older_checkpoints(column, groups)]
    if not any(len(column.cards) > 1 for column, _ in chosen):
        names = ", ".join(str(run.folder) for group in groups for run in group.runs)
        raise LimnerError(notes[0] if notes else f"{names}: no number in common; measure each: limner evaluate RUN")
    return sorted((column for column, _ in chosen), key=_place), notes


def _of_older_checkpoints(column: Column, groups: Sequence[Group]) -> list[str]:
    """A line for each run that has a column's number of an older checkpoint alone: it is not of the model shown."""
    kind = column.sample.name, column.sample.split, column.sample.weights
    lines = []
    for run in (run for group in groups for run in group.runs if column.card(run) is None and not _has(run, kind)):
        older = [card.images_seen or 0 for card in run.record.cards if (card.name, card.split, card.weights) == kind]
        if older:
            lines.append(
                f"{run.folder}: its {kind[0]} is of {max(older):,} images seen and its newest checkpoint has "
                f"{run.images_seen:,}; measure that: limner evaluate {run.folder}"
            )
    return lines


def _has(run: Contender, kind: _Kind) -> bool:
    return any((card.name, card.split, card.weights) == kind for card in run.cards)


def _titled(chosen: Sequence[tuple[Column, list[str]]]) -> list[tuple[Column, list[str]]]:
    """The number's name alone where no other column has the same."""
    names = [column.title.split(" ")[0] for column, _ in chosen]
    return [
        (replace(column, title=name if names.count(name) == 1 else column.title), unlike)
        for name, (column, unlike) in zip(names, chosen, strict=True)
    ]


def _worth(made: tuple[Column, list[str]]) -> tuple[int, int]:
    cards = made[0].cards
    return len(cards), made[0].sample.count_fakes


def _place(column: Column) -> tuple[str, int, str]:
    """Pixels before networks, then in the order of METRICS."""
    order, card = list(METRICS), column.sample
    known = order.index(column.metric) if column.metric in order else len(order)
    return card.extractor or "", known, card.split or ""


_Kind = tuple[str, str | None, str | None]


def _kinds(groups: Sequence[Group]) -> list[_Kind]:
    cards = (card for group in groups for run in group.runs for card in run.cards)
    return list(dict.fromkeys((card.name, card.split, card.weights) for card in cards))


def _column(kind: _Kind, groups: Sequence[Group], ignore: Collection[str]) -> tuple[Column, list[str]]:
    """The cards of one kind that are like the first run's, and a line for each that is not."""
    kept: dict[str, Card] = {}
    unlike = []
    first: tuple[Contender, Group, Card] | None = None
    for group, run in [(one, run) for one in groups for run in one.runs]:
        card = next((card for card in run.cards if (card.name, card.split, card.weights) == kind), None)
        if card is None:
            continue
        first = first or (run, group, card)
        try:
            difference_of(first[2], card, ignore={*ignore, *_not_asked(first[1], group)})
        except LimnerError as error:
            unlike.append(f"{run.folder} beside {first[0].folder}: {error}")
            continue
        kept[str(run.folder)] = card
    title = " ".join(part for part in kind if part)
    return Column(next(iter(kept.values())).metric, title, kept), unlike


def _not_asked(first: Group, second: Group) -> tuple[str, ...]:
    """A model with codes of its own is given no attributes: its cards cannot say which, as the others' do."""
    return ("attributes",) if bool(first.code_parts) != bool(second.code_parts) else ()


def counts_note(cards: Sequence[Card]) -> str:
    """Return a sentence that names the counts, where metrics of one table were measured on unequal counts; or ""."""
    counts: dict[int, list[str]] = {}
    for card in cards:
        if card.metric not in METRICS or METRICS[card.metric].takes:  # others take a part of the count, by their rule
            counts.setdefault(card.count_fakes, []).append(card.metric)
    if len(counts) < 2:
        return ""
    listed = "; ".join(
        f"{', '.join(dict.fromkeys(names))} on {count:,}" for count, names in sorted(counts.items(), reverse=True)
    )
    return f"The metrics were measured on different numbers of images: {listed}"
