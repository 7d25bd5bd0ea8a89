"""`limner data probe`: train a probe on a labelled dataset and say how well it reads."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from limner.arguments import FilePath
from limner.data.dataset import open_dataset
from limner.errors import LimnerError
from limner.metrics.probe.file import FILE_NAME, Record, save_probe
from limner.metrics.probe.judging import judge
from limner.metrics.probe.lessons import Lessons, open_lessons
from limner.metrics.probe.tables import show
from limner.metrics.probe.training import train_network

_MOST_KIMG = 100.0
_MOST_EPOCHS = 40


def probe(
    dataset: Annotated[FilePath, tyro.conf.Positional],
    *,
    out: FilePath | None = None,
    resolution: int | None = None,
    kimg: float | None = None,
    mirror: bool = True,
    seed: int = 0,
    device: str = "auto",
) -> Record:
    """Train a small network that reads attributes, pose and identity, and print how well it reads held-out images.

    It learns on the training split, its best moment is chosen on the validation split, and all figures are from the
    test split. Metrics that read with it show these figures beside their own. On a CPU, a seed gives the same file.

    Args:
        dataset: folder of a dataset with attributes, pose or several views of its people.
        out: the file to write; by default probe.safetensors in the dataset's folder.
        resolution: side of the images it reads, pixels; by default 64, or the dataset's own if that is smaller.
        kimg: length of the training in thousands of images; by default 100, but no more than 40 epochs.
        mirror: show a random half of the images mirrored, with yaw and roll turned round; not for labels that tell
            left from right.
        seed: of the weights, the order, and of splits that the dataset lacks.
        device: auto, cpu, cuda, cuda:N or mps.

    Returns:
        What the file says of itself: held-out accuracies, splits, settings.
    """
    if kimg is not None and not (math.isfinite(kimg) and kimg > 0):
        raise LimnerError(f"kimg {kimg}: must be more than 0")
    if not 0 <= seed < 2**63:
        raise LimnerError(f"seed {seed}: must be 0 or more")
    data, where = open_dataset(dataset), _choose_device(device)
    path = Path(out or data.folder / FILE_NAME)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise LimnerError(f"out {path}: must be a file in a folder that exists")
    lessons = open_lessons(data, resolution, seed)
    record = train_probe(lessons, path, kimg=kimg, mirror=mirror, seed=seed, device=where)
    show(record, Console())
    print(f"wrote {path}")
    return record


def train_probe(
    lessons: Lessons, path: Path, *, kimg: float | None, mirror: bool, seed: int, device: torch.device
) -> Record:
    """Train a probe and write it at `path`; nothing is written before it is done."""
    rows = lessons.rows["train"]
    kimg = min(_MOST_KIMG, _MOST_EPOCHS * len(rows) / 1000) if kimg is None else kimg
    with _shown(kimg) as told:
        network, images_seen = train_network(
            lessons, images=math.ceil(kimg * 1000), mirror=mirror, seed=seed, device=device, told=told
        )
    record = Record(
        dataset=lessons.dataset.name,
        dataset_sha256=lessons.dataset.manifest_hash,
        resolution=lessons.resolution,
        accuracy=judge(network, lessons, seed, device),
        splits={split: len(part) for split, part in lessons.rows.items()},
        split_rule=lessons.rule,
        seed=seed,
        mirror=mirror,
        kimg=kimg,
        images_seen=images_seen,
        code_version=metadata.version("limner"),
    )
    save_probe(path, network, record)
    return record


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LimnerError(f"device {name!r}: {' '.join(str(error).split())[:120]}; use auto or cpu") from None
    return device


@contextmanager
def _shown(kimg: float) -> Iterator[Callable[[int, float], None]]:
    """A bar on standard error while it trains, or a line for every tenth where that is no terminal."""
    console = Console(stderr=True)
    columns = TextColumn("training a probe"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn()
    started, tenths = time.monotonic(), 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("probe", total=kimg * 1000, loss="")

        def told(images: int, loss: float) -> None:
            nonlocal tenths
            best = f"validation loss {loss:.4f}" if math.isfinite(loss) else ""
            progress.update(task, completed=images, loss=best)
            if not console.is_terminal and images >= (tenths + 1) * kimg * 100:
                tenths = math.floor(images / (kimg * 100))
                seconds = math.ceil(time.monotonic() - started)
                line = f"trained a probe on {images / 1000:,.1f} of {kimg:,.1f} kimg in {seconds} s"
                console.print(f"{line}, {best}" if best else line, highlight=False, soft_wrap=True)

        yield told
