"""The tables of the page: numbers with intervals, every seed's own, cost, settings that differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import fmean

from limner.compare.contenders import Group
from limner.compare.cost import Goal, cost_of, parameters, reached
from limner.compare.scores import Column, Estimate, counts_note
from limner.metrics.registry import METRICS
from limner.training.evaluation_table import ARROWS, LEGEND
from limner.training.page import text
from limner.training.progress import duration, kimg

_OF_THE_DATA = ("reals", "expected", "probe", "mean_face")
"""sub-values to read a value beside that are not of the model"""
_UNITS = {"ppl": "pairs"}
"""Units of the counts on cards that do not count images."""


def number_table(groups: Sequence[Group], columns: Sequence[Column]) -> str:
    """A row a group, a column a metric; the best is marked where the intervals leave no doubt."""
    best = {column.title: column.best(groups) for column in columns}
    splits = sorted({column.sample.split or "" for column in columns} - {""})
    head = '<th scope="col">model</th><th scope="col" class="number">images seen</th>' + "".join(
        _heading(column, len(splits) > 1) for column in columns
    )
    body = ""
    for group in groups:
        cells = "".join(_cell(column.estimate(group), best[column.title] is group, group) for column in columns)
        seen = f'<td class="number">{group.runs[0].images_seen:,}</td>'
        body += f'<tr><th scope="row">{text(group.name)}</th>{seen}{cells}</tr>'
    table = _side_table(f"{_looked_with(columns)}</tr><tr>{head}", body)
    counts = counts_note([column.sample for column in columns])
    uneven = f'<p class="aside">{text(counts)}.</p>' if counts else ""
    return table + _legend(groups, any(best.values()), splits) + uneven


def _side_table(head: str, body: str, *, stacks: bool = False) -> str:
    """A table that scrolls within its box where the page is narrow, or whose rows become lists there.

    Args:
        head: cells of the heading.
        body: rows; where `stacks`, each cell names its column in `data-name`.
        stacks: whether rows become lists.
    """
    kind = "side stack" if stacks else "side"
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="panel wide">{table}</div>'


def _looked_with(columns: Sequence[Column]) -> str:
    """A heading over the columns of one network, and over those of pixels."""
    cells = ""
    for title, several in groupby(columns, lambda column: column.sample.extractor or "pixels"):
        cells += f'<th scope="colgroup" colspan="{len(list(several))}" class="network">{text(title)}</th>'
    return f"<th></th><th></th>{cells}"


def _heading(column: Column, name_split: bool) -> str:
    spec = METRICS.get(column.metric)
    arrow = f" {ARROWS[spec.better]}" if spec else ""
    count = f"{column.sample.count_fakes:,} {_UNITS.get(column.metric, 'images')}"
    count += f" {column.sample.split or ''}" if name_split else ""
    small = "".join(f"<small>{text(line)}</small>" for line in (count, _of_the_data(column)) if line)
    summary = f' title="{text(spec.summary)}"' if spec else ""
    return f'<th scope="col" class="number"{summary}>{text(column.metric.replace("_", " "))}{arrow}{small}</th>'


def _of_the_data(column: Column) -> str:
    """What the value is to be read beside, where that is the same for all models."""
    spec = METRICS.get(column.metric)
    if spec is None or spec.beside is None or spec.beside[0] not in _OF_THE_DATA:
        return ""
    name, words = spec.beside
    shown = {f"{card.values[name]:.3g}" for card in column.cards.values() if name in card.values}
    return f"{words} {shown.pop()}" if len(shown) == 1 else ""


def _cell(estimate: Estimate | None, best: bool, group: Group) -> str:
    if estimate is None:
        return '<td class="number none">–</td>'
    told = _interval(estimate)
    missing = len(group.runs) - len(estimate.values)
    told = f"{told} ({len(estimate.values)} of {len(group.runs)} seeds)" if missing else told
    below = f"<small>{text(told)}</small>" if told else ""
    return f'<td class="number{" best" if best else ""}">{text(_short(estimate))}{below}</td>'


def _short(estimate: Estimate) -> str:
    return f"{estimate.mean:.4g}"


def _interval(estimate: Estimate) -> str:
    if estimate.half_width is None:
        return ""
    return f"± {estimate.half_width:.0f}" if estimate.half_width >= 100 else f"± {estimate.half_width:.2g}"


def interval_words(estimate: Estimate) -> str:
    """12.3 ± 0.4"""
    return " ".join(part for part in (_short(estimate), _interval(estimate)) if part)


def _legend(groups: Sequence[Group], marked: bool, splits: Sequence[str]) -> str:
    seeds = {len(group.runs) for group in groups}
    if seeds == {1}:
        said = "One seed each: no interval can be told, so none is marked as best"
    else:
        said = "± half of the 95 % interval of the mean over seeds (Student's t)"
        said += "; one seed has none" if 1 in seeds else ""
        said += (
            " · coloured: better than every other by more than both intervals"
            if marked
            else " · no model is better than every other by more than both intervals, so none is marked"
        )
    reals = f" · under each metric: how many fakes, against reals of the split {splits[0]}" if len(splits) == 1 else ""
    return f'<p class="aside">{text(said)} · {text(LEGEND)}{text(reals)}</p>'


def seed_table(groups: Sequence[Group], columns: Sequence[Column]) -> str:
    """Every run's own numbers, on demand."""
    body = ""
    for run in (run for group in groups for run in group.runs):
        cards = [column.card(run) for column in columns]
        cells = "".join(f'<td class="number">{"–" if card is None else f"{card.value:.5g}"}</td>' for card in cards)
        body += f'<tr><th scope="row">{text(run.folder)}</th><td class="number">{run.seed}</td>{cells}</tr>'
    head = "".join(f'<th scope="col" class="number">{text(column.title)}</th>' for column in columns)
    table = _side_table(f'<th scope="col">run</th><th scope="col" class="number">seed</th>{head}', body)
    return f"<details><summary>every run's own numbers</summary>{table}</details>"


def cost_table(groups: Sequence[Group], goal: Goal | None) -> str:
    """Parameters, time, memory, and what it took to reach the goal."""
    names = ["parameters", "of the generator", "training", "images a second", "peak memory"]
    names += [f"images to {goal}", f"time to {goal}"] if goal else []
    head = "".join(f'<th scope="col" class="number">{text(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{text(group.name)}</th>'
        + "".join(
            f'<td class="number" data-name="{text(name)}">{cell}</td>'
            for name, cell in zip(names, [*_spent(group), *_to_goal(group, goal)], strict=True)
        )
        + "</tr>"
        for group in groups
    )
    return _side_table(f'<th scope="col">model</th>{head}', body, stacks=True)


def _spent(group: Group) -> list[str]:
    costs = [cost_of(run.record) for run in group.runs]
    total, maker = parameters(group)
    return [
        f"{total:,}",
        "–" if maker is None else f"{maker:,}",
        _averaged([cost.seconds for cost in costs], duration),
        _averaged([cost.images_per_second for cost in costs], lambda speed: f"{speed:,.0f}"),
        _averaged([cost.memory_mb for cost in costs], lambda peak: f"{peak:,.0f} MB"),
    ]


def _averaged(values: Sequence[float | None], told: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return text(told(fmean(known))) if known else "–"


def _to_goal(group: Group, goal: Goal | None) -> list[str]:
    if goal is None:
        return []
    found = reached(group, goal)
    if found.images is None:
        return ["never", "never"]
    part = "" if found.runs == len(group.runs) else f"<small>{found.runs} of {len(group.runs)} seeds</small>"
    seconds = "–" if found.seconds is None else text(duration(found.seconds.mean)) + _spread(found.seconds)
    return [f"{text(kimg(round(found.images.mean)))} kimg{_spread(found.images, 1000.0)}{part}", f"{seconds}{part}"]


def _spread(estimate: Estimate, unit: float = 1.0) -> str:
    """The lowest and highest over seeds, where they differ."""
    low, high = min(estimate.values) / unit, max(estimate.values) / unit
    if f"{low:.3g}" == f"{high:.3g}":
        return ""
    told = f"{low:.3g} to {high:.3g}" + ("" if unit > 1 else " s")
    return f"<small>{text(told)}</small>"


def settings_table(groups: Sequence[Group]) -> str:
    """Settings of the runs that are not the same everywhere, and each model's own, on demand."""
    run_level = [name for name in groups[0].runs[0].run_settings if _vary(groups, name)]
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in [*run_level, "the model's own"])
    body = ""
    for group in groups:
        run = group.runs[0]
        cells = "".join(f"<td>{text(_told(run.run_settings.get(name)))}</td>" for name in run_level)
        own = ", ".join(f"{name} {_told(value)}" for name, value in run.config["model"].items())
        body += f'<tr><th scope="row">{text(group.name)}</th>{cells}<td class="words">{text(own)}</td></tr>'
    said = f"settings: {len(run_level)} of the runs' differ" if run_level else "settings: the runs' own are all equal"
    table = _side_table(f'<th scope="col">model</th>{head}', body)
    return f"<details><summary>{text(said)}; each model's are listed</summary>{table}</details>"


def _vary(groups: Sequence[Group], name: str) -> bool:
    return len({repr(group.runs[0].run_settings.get(name)) for group in groups}) > 1


def _told(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else f"{value}"
