"""What a probe can read, as tables, with a warning for each thing that it cannot."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from limner.metrics.probe.figures import Accuracy, IdentityFigure, PoseFigure
from limner.metrics.probe.file import Record

_FEW = 200
"""held-out images below which one wrong answer changes an accuracy by more than half a percent"""


def show(record: Record, console: Console) -> None:
    """Print all held-out figures, and what the probe cannot read."""
    splits = record.splits
    console.print(
        f"learnt from {splits['train']:,} images, chosen on {splits['valid']:,}, judged on {splits['test']:,} held out "
        f"(splits: {record.split_rule})",
        highlight=False,
        soft_wrap=True,
    )
    accuracy = record.accuracy
    if accuracy.attributes:
        console.print(_attributes(accuracy))
    if accuracy.pose is not None:
        console.print(_pose(accuracy.pose))
    if accuracy.identity is not None:
        console.print(_identity(accuracy.identity))
    for warning in warnings(accuracy, splits["test"]):
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)


def warnings(accuracy: Accuracy, held_out: int | None = None) -> list[str]:
    """Return at most one line for each kind of thing that is not read at least half of the way to certainty.

    Args:
        accuracy: on held-out images.
        held_out: how many these are, for what to do about it; None where that is not known.
    """
    alike = [figure.name for figure in accuracy.attributes if figure.majority == 1]
    badly = [figure.name for figure in accuracy.attributes if figure.majority < 1 and not figure.reads_well]
    lines = []
    if badly:
        few = f"; {held_out:,} held-out images are few to judge by" if (held_out or _FEW) < _FEW else ""
        lines.append(
            f"{len(badly)} of {len(accuracy.attributes)} attributes are read less than half of the way from always "
            f"giving the commoner answer to certainty, so metrics leave them out ({', '.join(badly)}){few}; "
            "more images or a longer training (--kimg) may help"
        )
    if alike:
        lines.append(
            f"the held-out images are all alike in {len(alike)} attributes, so how well these are read is not known, "
            f"and metrics leave them out ({', '.join(alike)})"
        )
    if accuracy.pose is not None:
        angles = zip(("yaw", "pitch", "roll"), accuracy.pose.error_radians, accuracy.pose.guess_radians, strict=True)
        hardly = [f"{name} {_degrees(e)} off, the mean {_degrees(guess)}" for name, e, guess in angles if e > guess / 2]
        if hardly:
            lines.append(f"angles that are hardly read: {'; '.join(hardly)}")
    if accuracy.identity is not None and accuracy.identity.accuracy < 0.75:
        lines.append(f"identity is hardly read: {accuracy.identity.accuracy:.1%} of pairs right where guessing is 50%")
    return lines


def _attributes(accuracy: Accuracy) -> Table:
    table = Table("attribute", "accuracy", "majority", "of the way", "balanced", "")
    for column in table.columns[1:5]:
        column.justify = "right"
    for figure in accuracy.attributes:
        balanced = "" if figure.balanced is None else f"{figure.balanced:.1%}"
        numbers = f"{figure.accuracy:.1%}", f"{figure.majority:.1%}", f"{figure.way:.0%}", balanced
        note = "all alike" if figure.majority == 1 else "" if figure.reads_well else "not read"
        table.add_row(figure.name, *numbers, note)
    return table


def _pose(figure: PoseFigure) -> Table:
    table = Table("pose", "mean error", "of always the mean")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in zip(("yaw", "pitch", "roll"), figure.error_radians, figure.guess_radians, strict=True):
        table.add_row(row[0], _degrees(row[1]), _degrees(row[2]))
    return table


def _identity(figure: IdentityFigure) -> Table:
    table = Table("identity", "")
    table.columns[1].justify = "right"
    table.add_row("one person or two: accuracy", f"{figure.accuracy:.1%}")
    table.add_row("area under the ROC curve", f"{figure.auc:.4f}")
    table.add_row("distance, one person", f"{figure.same_distance:.3f}")
    table.add_row("distance, two people", f"{figure.different_distance:.3f}")
    table.add_row("pairs of each kind", f"{figure.pairs:,}")
    return table


def _degrees(radians: float) -> str:
    return f"{math.degrees(radians):.2f}°"
