"""Any number of runs: their terms are checked, their numbers shown on the screen, and all of it written as one page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from limner.compare import curves, figures, tables
from limner.compare.contenders import Group, group_runs, read_contender
from limner.compare.cost import Goal, choose_goal
from limner.compare.faces import SHEET_FACES, Cast, choose_cast
from limner.compare.scores import Column, columns, counts_note
from limner.compare.style import STYLE
from limner.compare.terms import check_ignored, check_terms
from limner.errors import LimnerError
from limner.explore.pictures import write_whole
from limner.metrics.registry import METRICS
from limner.models import Model, choose_model
from limner.training import page
from limner.training.distributed import choose_device
from limner.training.evaluation_table import ARROWS
from limner.training.progress import kimg

_MOST_LEADERS = 6
_MOST_TOLD = ("fid", "fd", "swd", "ms_ssim", "precision", "recall", "attribute_accuracy", "kid", "kd")
_MODELS_ABREAST = 4
_LONG_NAME = 14
"""characters above which a name is set smaller"""


def compare_many(
    folders: Sequence[Path],
    *,
    out: Path,
    ignore: Sequence[str] = (),
    reach: str | None = None,
    device: str = "cpu",
    models: Sequence[str | type[Model]] = (),
) -> Path:
    """Write the page; see `limner.compare.verb.compare` for the arguments.

    Raises:
        LimnerError: runs are not on equal terms or have no comparable number, or an argument is wrong.
        CheckpointError: a run has no checkpoint.
        ResourceError: the page cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise LimnerError(f"--out {out}: the page is HTML; name a file such as compare.html")
    check_ignored(ignore)
    given = [choose_model(model) for model in models]
    groups = group_runs([read_contender(folder) for folder in folders], str(choose_device(device)), given)
    uneven = check_terms(groups, ignore)
    found, notes = columns(groups, ignore)
    goal = choose_goal(groups, reach)
    write_whole(out, _document(groups, found, goal, uneven, notes).encode())
    console = Console()
    for start in range(0, len(groups), _MODELS_ABREAST):
        console.print(_screen_table(groups, groups[start : start + _MODELS_ABREAST], found))
    counts = counts_note([column.sample for column in found])
    for line in [*uneven, *notes, *([counts] if counts else [])]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"page          {out}", highlight=False, markup=False, soft_wrap=True)
    return out


def _screen_table(groups: Sequence[Group], shown: Sequence[Group], found: Sequence[Column]) -> Table:
    """Metrics down and some of the models across, since a terminal is narrow; the best of all is bold."""
    table = Table("metric", "", *(f"{group.name}\nat {group.runs[0].images_seen:,} images seen" for group in shown))
    table.columns[0].no_wrap, table.columns[0].min_width = True, max(len(column.title) for column in found)
    for column in found:
        best, cells = column.best(groups), []
        for group in shown:
            estimate = column.estimate(group)
            told = "–" if estimate is None else tables.interval_words(estimate)
            cells.append(f"[bold]{told}[/bold]" if best is group else told)
        spec = METRICS.get(column.metric)
        table.add_row(column.title, ARROWS[spec.better] if spec else "", *cells)
    for place in range(len(shown)):
        table.columns[2 + place].justify, table.columns[2 + place].overflow = "right", "fold"
    return table


def _document(
    groups: Sequence[Group], found: Sequence[Column], goal: Goal | None, uneven: Sequence[str], notes: Sequence[str]
) -> str:
    cast = choose_cast(groups)
    left_out = "".join(f'<p class="aside">Left out: {page.text(line)}</p>' for line in notes)
    numbers = tables.number_table(groups, found) + left_out + tables.seed_table(groups, found)
    cost = curves.score_curves(groups, goal) + tables.cost_table(groups, goal) + _cost_note(groups, goal)
    codes = figures.code_figures(groups, cast)
    sections = (
        _header(groups, found, uneven),
        page.section("Numbers", numbers),
        page.section("The same seeds, the same rows", _sheet_note(groups, cast), figures.sheets(groups, cast)),
        page.section("Cost", cost),
        page.section("One attribute at a time", figures.flip_table(groups, cast)),
        page.section("Codes, turned", f'<div class="codes">{codes}</div>' if codes else ""),
        page.section("Photos, encoded and decoded", figures.reconstructions(groups, cast)),
        page.section("Losses", curves.losses(groups)),
        page.section("Settings", tables.settings_table(groups)),
        _footer(),
    )
    return page.document(f"{_models(groups)} · limner", sections, STYLE)


def _models(groups: Sequence[Group]) -> str:
    names = list(dict.fromkeys(group.model.name for group in groups))
    if len(names) == 1:
        return f"{len(groups)} settings of {names[0]}" if len(groups) > 1 else f"The seeds of {names[0]}"
    return f"{len(names)} models" + (f" in {len(groups)} settings" if len(groups) > len(names) else "")


def _header(groups: Sequence[Group], found: Sequence[Column], uneven: Sequence[str]) -> str:
    title = f"{_models(groups)} on equal terms" if not uneven else f"{_models(groups)} side by side"
    facts = "".join(f'<li><span class="state">{page.text(fact)}</span></li>' for fact in _facts(groups))
    told = " ".join(uneven)
    warning = f'<p class="uneven">Not on equal terms: {page.text(told)}</p>' if uneven else ""
    tiles = "".join(_leader(column, groups) for column in _leading(found))
    return (
        f'<header><h1>{page.text(title)}</h1><ul class="facts">{facts}</ul>{warning}'
        f'<div class="tiles">{tiles}</div></header>'
    )


def _facts(groups: Sequence[Group]) -> list[str]:
    runs = [run for group in groups for run in group.runs]
    data = dict.fromkeys(f"{r.facts['dataset']['name']} ({r.facts['dataset']['count']:,} images)" for r in runs)
    sizes = dict.fromkeys(f"{r.facts['resolution']}²" for r in runs)
    crops = dict.fromkeys(f"crop {r.facts['dataset']['crop']}" for r in runs)
    seen = [group.images_of(run) for group in groups for run in group.runs]
    images = (
        f"{kimg(min(seen))} kimg each" if min(seen) == max(seen) else f"{kimg(min(seen))} to {kimg(max(seen))} kimg"
    )
    seeds = sorted({len(group.runs) for group in groups})
    many = " to ".join(str(count) for count in {seeds[0]: 0, seeds[-1]: 0})
    told = max((len(group.model.labels.names) for group in groups if group.conditional), default=0)
    devices = dict.fromkeys(str(fact) for run in runs if (fact := run.record.fact("device")))
    return [
        *data,
        *sizes,
        *crops,
        images,
        f"{many} seed{'' if seeds == [1] else 's'} each",
        f"{told} attributes" if told else "no attributes",
        "averaged weights",
        *devices,
    ]


def _leading(found: Sequence[Column]) -> list[Column]:
    """The columns worth a tile, those that say most first."""
    known = [column for column in found if len(column.cards) > 1 and column.metric in _MOST_TOLD]
    return sorted(known, key=lambda column: _MOST_TOLD.index(column.metric))[:_MOST_LEADERS]


def _leader(column: Column, groups: Sequence[Group]) -> str:
    """Who leads in a metric, by how much, and whether that is beyond the intervals."""
    ranked = column.leading(groups)
    if len(ranked) < 2:
        return ""
    first, second = (column.estimate(group) for group in ranked[:2])
    if first is None or second is None or first.mean == second.mean:
        return ""  # nobody leads
    sure = column.best(groups) is not None
    doubt = "" if sure else " · within the intervals" if first.half_width and second.half_width else ""
    below = f"{tables.interval_words(first)} · next {ranked[1].name} {tables.interval_words(second)}{doubt}"
    spec = METRICS[column.metric]
    title = f"{column.metric.replace('_', ' ')} {ARROWS[spec.better]}"
    return page.tile(title, ranked[0].name, page.text(below), words=len(ranked[0].name) > _LONG_NAME)


def _sheet_note(groups: Sequence[Group], cast: Cast) -> str:
    """What the sheets have in common."""
    said = f"Seeds 0 to {SHEET_FACES - 1}, one a face, in the same order in every sheet."
    if any(group.conditional for group in groups):
        said += " Face by face, every model that is told attributes is asked for those of the same row of the data."
    if cast.images is None:
        said += " The data itself is not at hand any more, so its own pictures are not shown."
    return f"<p>{page.text(said)}</p>"


def _cost_note(groups: Sequence[Group], goal: Goal | None) -> str:
    said = ["Time in training, without pictures and metrics; memory is the process's peak."]
    if len({run.record.fact("device") for group in groups for run in group.runs}) > 1:
        said.append("The runs were not all on the same device, so their times do not compare.")
    if goal is not None:
        said.append(f"{goal} was looked for whenever a run measured itself.")
    return f'<p class="aside">{page.text(" ".join(said))}</p>'


def _footer() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    version = page.text(metadata.version("limner"))
    return f"<footer>Written {now} by limner {version}. The faces are synthetic but for those of the data.</footer>"
