"""`limner data info`: what a dataset holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from limner.arguments import FilePath
from limner.data import layout
from limner.data.dataset import Dataset, open_dataset


def info(dataset: Annotated[FilePath, tyro.conf.Positional]) -> None:
    """Say what a dataset holds: images, resolutions, crop, splits, attributes, pose, people, landmarks, light, source.

    Args:
        dataset: the folder.
    """
    data = open_dataset(dataset)
    console = Console()
    for table in (_facts(data), *_attributes(data)):
        console.print(table)


def _facts(data: Dataset) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # hashes are to be copied whole
    megabytes = sum((data.folder / name).stat().st_size for name in data.files) / 1e6
    table.add_row("name", data.name)
    table.add_row("images", f"{data.count:,} ({megabytes:,.1f} MB)")
    table.add_row("resolutions", ", ".join(map(str, data.resolutions)))
    table.add_row("crop", data.crop)
    table.add_row("resize", data.resize)
    table.add_row("splits", ", ".join(f"{split} {len(data.indices(split)):,}" for split in layout.SPLITS))
    for what, known in _known(data):
        table.add_row(what, known)
    for key, value in data.source.items():
        if value not in ("", [], {}) and (value != 0 or key == "seed"):
            table.add_row(f"source: {key}", value if isinstance(value, str) else json.dumps(value))
    table.add_row("manifest", data.manifest_hash)
    return table


def _known(data: Dataset) -> Iterator[tuple[str, str]]:
    """What the arrays beside the images say, each in a line."""
    if (pose := data.pose()) is not None:
        low, high = np.degrees(pose.min(axis=0)), np.degrees(pose.max(axis=0))
        ranges = zip(("yaw", "pitch", "roll"), low, high, strict=True)
        yield "pose", ", ".join(f"{name} {a:.0f}° to {b:.0f}°" for name, a, b in ranges)
    if (identity := data.identity()) is not None:
        _, pictures = np.unique(identity, return_counts=True)
        fewest, most = int(pictures.min()), int(pictures.max())
        each = f"{most:,} picture{'s' * (most > 1)}" if fewest == most else f"{fewest:,} to {most:,} pictures"
        yield "identity", f"{len(pictures):,} people, {each} of each"
    if (landmarks := data.landmarks()) is not None:
        inside = ((landmarks >= 0) & (landmarks <= 1)).all(axis=(1, 2)).mean()
        yield "landmarks", f"{', '.join(layout.LANDMARKS)}; all in the picture in {inside:.1%} of the images"
    if (light := data.light()) is not None:
        sideways, height = np.degrees(np.arctan2(light[:, 0], light[:, 2])), np.degrees(np.arcsin(light[:, 1]))
        aside = f"{sideways.min():.0f}° to {sideways.max():.0f}° aside"
        yield "light", f"{aside}, {height.min():.0f}° to {height.max():.0f}° high"


def _attributes(data: Dataset) -> list[Table]:
    values = data.attributes()
    if values is None:
        return []
    table = Table("attribute", "images", "share")
    for name, count in zip(data.attribute_names, values.sum(axis=0, dtype=np.int64), strict=True):
        table.add_row(name, f"{count:,}", f"{count / data.count:.1%}")
    return [table]
