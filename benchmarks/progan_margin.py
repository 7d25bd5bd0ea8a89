"""Whether the discriminator of a growing run runs away: its margin, level by level, as a table and a page.

    limner data heads heads-64 --resolution 64 --count 4000
    limner train progan --preset laptop --data heads-64 --out to64 --resolution 64 --attributes none --metrics \\
        --stable-kimg 5 --fade-kimg 4 --kimg 41 --tick-kimg 0.25 --sample-kimg 1
    python benchmarks/progan_margin.py to64 --out margin    # writes margin.md, margin.html and margin.jpg

The margin is E[D(x)] - E[D(G(z))], as `log.jsonl` has it. A discriminator that wins has one that grows without end
(logits: beyond what gives the generator a gradient); one that is held has one that settles again after each growth.
WGAN-GP's margin estimates a distance between images as vectors; that of the same two pictures doubles with the side.
Over the root of the numbers in an image (of the second half) it is one of pixels, and levels compare.
The picture has the run's own samples at the end of every level.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from limner.errors import LimnerError
from limner.explore.pictures import read_provenance, save_picture
from limner.growing import Schedule
from limner.models.progan import ProGANConfig, make_schedule
from limner.training.config import read_config
from limner.training.log import read_log
from limner.training.page import document, text
from limner.training.plots import Mark, Series, line_plot

LOSSES = {"margin": "discriminator/margin", "penalty": "discriminator/penalty", "generator": "generator/loss"}


@dataclass(frozen=True)
class Part:
    """A level while it fades in or stands alone."""

    name: str
    start: int
    end: int
    values: int
    """numbers in an image of the level"""

    def means(self, ticks: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float] | None:
        """Of a loss, over the first and the second half of the part."""
        values = [tick["losses"].get(name) for tick in ticks if self.start < tick["images"] <= self.end]
        found = [float(value) for value in values if value is not None]
        if len(found) < 2:
            return None
        half = len(found) // 2
        return sum(found[:half]) / half, sum(found[half:]) / (len(found) - half)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs of progan")
    parser.add_argument("--out", type=Path, required=True, help="path of the .md, .html and .jpg, without a suffix")
    chosen = parser.parse_args()
    tables, figures = [], []
    for folder in chosen.runs:
        config, schedule = growth_of(folder)
        events = read_log(folder / "log.jsonl")
        ticks = [event for event in events if event["event"] == "tick"]
        if not ticks:
            raise LimnerError(f"{folder}: nothing is logged yet; train it first")
        tables.append(table(folder.name, config, parts_of(schedule, ticks[-1]["images"]), events))
        figures += plots(folder.name, schedule, ticks)
    chosen.out.with_suffix(".md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    page = document("The discriminator's margin while ProGAN grows", figures)
    chosen.out.with_suffix(".html").write_text(page, encoding="utf-8")
    draw_levels(chosen.runs[0], chosen.out.with_suffix(".jpg"))
    return 0


def growth_of(folder: Path) -> tuple[ProGANConfig, Schedule]:
    """A run's settings and when it grows.

    Raises:
        LimnerError: the run is none of progan.
    """
    _, config = read_config(folder / "config.json")
    if not isinstance(config.model, ProGANConfig) or config.resolution is None:
        raise LimnerError(f"{folder}: not a run of progan; only that grows")
    return config.model, make_schedule(config.model, config.resolution)


def parts_of(schedule: Schedule, seen: int) -> list[Part]:
    """What had been trained until so many images had been seen."""
    starts = [images for images in schedule.milestones() if images < seen]
    found = []
    for start, end in zip(starts, [*starts[1:], seen], strict=True):
        depth = schedule.depth(start)
        name = f"{depth.resolution}² {'fades in' if depth.fading else 'alone'}"
        found.append(Part(name, start, end, 3 * depth.resolution**2))
    return found


def table(name: str, config: ProGANConfig, parts: Sequence[Part], events: Sequence[Mapping[str, Any]]) -> str:
    """Means over both halves of every part, and the alarms that the run raised."""
    ticks = [event for event in events if event["event"] == "tick"]
    lines = [["", "kimg", *(f"{title}, first and second half" for title in LOSSES), "margin / √values"]]
    lines.append(["---"] * len(lines[0]))
    for part in parts:
        means = [part.means(ticks, loss) for loss in LOSSES.values()]
        told = ["–" if both is None else f"{both[0]:.3g} → {both[1]:.3g}" for both in means]
        share = f"{means[0][1] / math.sqrt(part.values):.3f}" if means[0] else "–"
        lines.append([part.name, f"{part.start / 1000:g}–{part.end / 1000:g}", *told, share])
    alarms = [
        f"- {event['images']} images: {event.get('message', '')}" for event in events if event["event"] == "alarm"
    ]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"**{name}** ({config.game})\n\n{rows}\n\nAlarms raised:\n" + "\n".join(alarms or ["- none"])


def plots(name: str, schedule: Schedule, ticks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Margin, penalty and the generator's loss over images, growth marked."""
    marks = [
        Mark(images / 1000, f"{depth.resolution}²", f"{depth.resolution}² {'fades in' if depth.fading else 'alone'}")
        for images in schedule.milestones()
        if 0 < images < ticks[-1]["images"] and (depth := schedule.depth(images)).fading
    ]
    found = [f"<h2>{text(name)}</h2>"]
    for title, loss in LOSSES.items():
        points = [(tick["images"] / 1000, tick["losses"].get(loss)) for tick in ticks]
        found.append(line_plot(title, [Series(loss, points)], marks=marks))
    return found


def draw_levels(folder: Path, path: Path) -> None:
    """Two rows of the run's samples at the end of every level, one level below the other."""
    _, schedule = growth_of(folder)
    ends = [images for images in schedule.milestones() if images and schedule.depth(images).fading]
    sheets = {int(sheet.stem.removeprefix("images-")): sheet for sheet in folder.glob("samples/images-*.png")}
    chosen = dict.fromkeys([*(_nearest(sheets, end) for end in ends), sheets[max(sheets)]])
    rows = [Image.open(sheet).convert("RGB") for sheet in chosen]
    rows = [row.crop((0, 0, row.width, row.height // 4)) for row in rows]
    picture = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    for place, row in enumerate(rows):
        picture.paste(row, (0, place * row.height))
    save_picture(picture, path, read_provenance(list(chosen)[-1]))


def _nearest(sheets: Mapping[int, Path], images: int) -> Path:
    return sheets[min(sheets, key=lambda seen: abs(seen - images))]


if __name__ == "__main__":
    sys.exit(main())
