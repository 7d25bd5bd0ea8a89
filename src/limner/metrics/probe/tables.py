"""What a probe can read, as tables, with a warning for each thing that it cannot."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from limner.metrics.probe.figures import Accuracy, IdentityFigure, PoseFigure
from limner.metrics.probe.file import Record


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
    for warning in warnings(accuracy):
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)


def warnings(accuracy: Accuracy) -> list[str]:
    """One line for each thing that is not read at least half of the way from guessing to certainty."""
    lines = []
    for figure in accuracy.attributes:
        if figure.majority == 1:
            lines.append(f"{figure.name}: the held-out images are all alike in it, so nobody knows how well it is read")
        elif not figure.reads_well:
            lines.append(
                f"{figure.name} cannot be read: {figure.accuracy:.1%} right where always giving the commoner answer is "
                f"{figure.majority:.1%}; metrics do not build on it"
            )
    if accuracy.pose is not None:
        angles = zip(("yaw", "pitch", "roll"), accuracy.pose.error_radians, accuracy.pose.guess_radians, strict=True)
        for name, error, guess in angles:
            if error > guess / 2:
                lines.append(f"{name} is hardly read: {_degrees(error)} off where the mean is {_degrees(guess)} off")
    if accuracy.identity is not None and accuracy.identity.accuracy < 0.75:
        lines.append(f"identity is hardly read: {accuracy.identity.accuracy:.1%} of pairs right where guessing is 50%")
    return lines


def _attributes(accuracy: Accuracy) -> Table:
    table = Table("attribute", "accuracy", "majority", "of the way", "balanced")
    for column in table.columns[1:]:
        column.justify = "right"
    for figure in accuracy.attributes:
        balanced = "" if figure.balanced is None else f"{figure.balanced:.1%}"
        numbers = f"{figure.accuracy:.1%}", f"{figure.majority:.1%}", f"{figure.way:.0%}", balanced
        table.add_row(figure.name, *numbers)
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
