"""Lines of the page: scores over images and over time, one line a model, and each model's own losses."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from limner.compare.contenders import Group
from limner.compare.cost import Goal, scores_over_time, seconds_at
from limner.training.page import text
from limner.training.plots import Series, line_plot
from limner.training.report_numbers import loss_plots, plots

_LONG_MINUTES, _MINUTE = 600, 60.0


def score_curves(groups: Sequence[Group], goal: Goal | None) -> str:
    """The goal's number over images seen and over time in training, means over seeds; "" without a goal."""
    if goal is None:
        return ""
    by_images = [Series(group.name, _over_images(group, goal.name)) for group in groups]
    unit, divisor = _time_unit(groups)
    by_time = [Series(group.name, _over_time(group, goal.name, divisor)) for group in groups]
    return plots(
        [
            line_plot(f"{goal.name} over images seen", by_images, smooth=False),
            line_plot(f"{goal.name} over time", by_time, x_label=f"time in training, {unit}", smooth=False),
        ]
    )


def _over_images(group: Group, name: str) -> list[tuple[float, float | None]]:
    """At the moments that all seeds measured."""
    curves = [scores_over_time(run.record).get(name, {}) for run in group.runs]
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [(images / 1000, fmean(curve[images] for curve in curves)) for images in shared]


def _over_time(group: Group, name: str, divisor: float) -> list[tuple[float, float | None]]:
    points = []
    for kimg, value in _over_images(group, name):
        seconds = [seconds_at(run.record, round(1000 * kimg)) for run in group.runs]
        known = [spent for spent in seconds if spent is not None]
        if known:
            points.append((fmean(known) / divisor, value))
    return points


def _time_unit(groups: Sequence[Group]) -> tuple[str, float]:
    longest = max((seconds_at(run.record, run.images_seen) or 0 for group in groups for run in group.runs), default=0)
    return ("hours", 3600.0) if longest > _LONG_MINUTES * _MINUTE else ("minutes", _MINUTE)


def losses(groups: Sequence[Group]) -> str:
    """The first seed's losses of each group; other seeds' are in their own reports."""
    blocks = []
    for group in groups:
        drawn = loss_plots(group.runs[0].record)
        if drawn:
            seed = f" <small>seed {group.runs[0].seed}</small>" if len(group.runs) > 1 else ""
            blocks.append(f'<div class="losses"><h3>{text(group.name)}{seed}</h3>{drawn}</div>')
    return f'<div class="by-model">{"".join(blocks)}</div>' if blocks else ""
