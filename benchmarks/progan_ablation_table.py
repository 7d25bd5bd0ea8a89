"""Table, numbers and faces of `benchmarks/progan_ablation.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from limner.compare.two import read_cards
from limner.explore.pictures import read_provenance, save_picture
from limner.metrics.card import Card, compare

COLUMNS = {"swd": "swd ↓", "fd": "fd ↓", "ms_ssim": "ms_ssim (reals {reals:.3f})", "precision": "precision ↑"}
COLUMNS |= {"recall": "recall ↑"}
PAPER = {"a": 9.28, "b": 4.28, "c": 46.23, "h": 2.96}
"""average SWD (x 1000) of those rows of the paper's table 1, CelebA at 128², as far as they could be checked"""
ORDER = ("a", "b", "c", "d", "e", "f", "g", "h")
BY_HAND = "<!-- What follows is written by hand, and kept. -->"
LABEL_PIXELS = 20


@dataclass(frozen=True)
class Measured:
    """One run of a row."""

    key: str
    title: str
    folder: Path
    cpu_seconds: float

    @cached_property
    def cards(self) -> dict[str, Card]:
        return {card.metric: card for card in read_cards(self.folder) if card.metric in COLUMNS}


def write_result(path: Path, measured: Sequence[Measured], command: str) -> None:
    """PATH.md, .json and .jpg of the rows there are; what a person wrote below the table is kept.

    Raises:
        LimnerError: two runs were not measured alike.
    """
    first = measured[0]
    for one in measured:
        for metric, card in one.cards.items():
            compare(first.cards[metric], card, ignore=("code_version",))
    rows = _rows(measured)
    page = path.with_suffix(".md")
    note = page.read_text(encoding="utf-8").partition(BY_HAND)[2] if page.exists() else "\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{_table(rows, command)}\n\n{BY_HAND}{note}", encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(_facts(rows, command), indent=2) + "\n", encoding="utf-8")
    save_picture(_strips(rows), path.with_suffix(".jpg"), read_provenance(first.folder / "faces.png"))


def _rows(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Runs by row: the paper's rows, then the others."""
    keys = dict.fromkeys(one.key for one in measured)
    ordered = sorted(keys, key=lambda key: ORDER.index(key) if key in ORDER else len(ORDER))
    return [[one for one in measured if one.key == key] for key in ordered]


def _table(rows: Sequence[Sequence[Measured]], command: str) -> str:
    cards = rows[0][0].cards
    titles = [title.format(reals=cards[name].values.get("reals", 0.0)) for name, title in COLUMNS.items()]
    lines = [["row", "runs", "kimg", "CPU s", *titles, "paper's swd, 128²"]]
    lines.append(["---"] * len(lines[0]))
    for runs in rows:
        kimg = f"{(runs[0].cards['swd'].images_seen or 0) / 1000:g}"
        numbers = [_told([run.cards[name].value for run in runs]) for name in COLUMNS]
        paper = f"{PAPER[runs[0].key]:.2f}" if runs[0].key in PAPER else ""
        seconds = _told([run.cpu_seconds for run in runs])
        lines.append([runs[0].title, str(len(runs)), kimg, seconds, *numbers, paper])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    count = cards["swd"].count_requested
    return (
        f"# What each of ProGAN's ideas is worth, on the heads at 32²\n\n`{command}`\n({_machine()}), {count} images "
        f"of each set measured, features by the data's probe. Faces of seeds 0 to 15 of every row: "
        f"[progan_ablation.jpg](progan_ablation.jpg).\n\n{table}"
    )


def _told(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.3g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3g} to {max(values):.3g})"


def _facts(rows: Sequence[Sequence[Measured]], command: str) -> dict[str, object]:
    return {
        "command": command,
        "machine": _machine(),
        "rows": [
            {
                "row": run.key,
                "title": run.title,
                "run": run.folder.name,
                "cpu_seconds": run.cpu_seconds,
                "images_seen": run.cards["swd"].images_seen,
                **{name: {"value": card.value, **card.values} for name, card in run.cards.items()},
            }
            for runs in rows
            for run in runs
        ],
    }


def _machine() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, torch {torch.__version__}"


def _strips(rows: Sequence[Sequence[Measured]]) -> Image.Image:
    """Each row's first run: its name, and its faces below, half the size."""
    strips = [(runs[0].title, Image.open(runs[0].folder / "faces.png").convert("RGB").reduce(2)) for runs in rows]
    width, height = strips[0][1].size
    picture = Image.new("RGB", (width, len(strips) * (height + LABEL_PIXELS)), (12, 12, 14))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(LABEL_PIXELS - 6)
    for place, (title, faces) in enumerate(strips):
        top = place * (height + LABEL_PIXELS)
        pen.text((4, top + 1), title, fill=(230, 230, 230), font=font)
        picture.paste(faces, (0, top + LABEL_PIXELS))
    return picture
