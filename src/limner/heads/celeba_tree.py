"""The verb `limner data celeba-tree`: the built-in heads in the files and formats of CelebA, whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from limner.arguments import FilePath
from limner.data.celeba import HEADS_FILE
from limner.data.crops import CELEBA_SIZE
from limner.data.partial import PartialFolder, stopped_by_sigterm, sync, sync_folder
from limner.errors import LimnerError
from limner.heads.celeba_frame import aligned_picture
from limner.heads.celeba_tables import CELEBA_ATTRIBUTES, TableRow, tables
from limner.heads.make import DEFAULT_VIEWS, DEFAULT_YAW_RANGE, RENDERER_VERSION, check_order, split_of
from limner.heads.pack import load_pack
from limner.heads.person import ATTRIBUTE_NAMES, sample_person
from limner.heads.pool import draw_in_order
from limner.heads.render import check_settings

_LARGEST_COUNT = 999_999  # file names have six digits
_CHUNK = 8
_BYTES_PER_PICTURE = 16_000


def make_celeba_tree(
    dest: tyro.conf.Positional[FilePath],
    *,
    count: int = 1000,
    views: int = DEFAULT_VIEWS,
    yaw_range: float = DEFAULT_YAW_RANGE,
    seed: int = 0,
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
) -> None:
    """Draw the built-in heads as a CelebA tree, for trying whatever reads CelebA.

    Picture i shows the same head, with the same labels and in the same split, as row i of `limner data heads` with the
    same settings; it is 178×218 pixels and framed as CelebA's aligned pictures are.

    Args:
        dest: folder to make; must not exist.
        count: number of pictures.
        views: pictures of each person, with other expressions, poses, light and backdrops.
        yaw_range: degrees that heads are turned to either side, evenly spread; 0 to 90.
        seed: number of the set; the same seed gives the same files.
        workers: processes to draw with; by default one a core.
    """
    dest = Path(dest)
    check_settings(seed, CELEBA_SIZE[1], yaw_range)
    check_order(count, views, workers)
    if count > _LARGEST_COUNT:
        raise LimnerError(f"count {count}: CelebA's file names have room for {_LARGEST_COUNT:,}")
    job = TreeJob(seed, yaw_range, views)
    partial = PartialFolder(dest, "tree")
    try:
        partial.require_space(count * _BYTES_PER_PICTURE)
        with stopped_by_sigterm(dest):
            _write(partial.path, job, draw_in_order(job.draw, count, _CHUNK, workers or os.cpu_count() or 1))
            partial.publish()
    except OSError as error:
        raise partial.storage_error(error) from error
    finally:
        partial.discard()


@dataclass(frozen=True)
class TreeJob:
    """What every worker is told. yaw_range in degrees; views: pictures of each person."""

    seed: int
    yaw_range: float
    views: int

    def draw(self, rows: range) -> list[tuple[TableRow, bytes]]:
        """These rows, each with its JPEG file."""
        return [self._row(number) for number in rows]

    def _row(self, number: int) -> tuple[TableRow, bytes]:
        identity, view = divmod(number, self.views)
        person = sample_person(load_pack(), self.seed, identity, view, math.radians(self.yaw_range))
        picture = aligned_picture(person)
        split = int(split_of(np.array(identity)))
        return TableRow(number, person.attributes, picture.landmarks, picture.box, identity, split), picture.jpeg


def _write(folder: Path, job: TreeJob, drawn: Iterable[list[tuple[TableRow, bytes]]]) -> None:
    pictures, rows = folder / "img_align_celeba", []
    pictures.mkdir()
    for some in drawn:
        for row, jpeg in some:
            _save(pictures / row.name, jpeg)
            rows.append(row)
    sync_folder(pictures)
    for name, text in tables(rows).items():
        _save(folder / name, text.encode("ascii"))
    _save(folder / HEADS_FILE, (json.dumps(_description(job), indent=1) + "\n").encode("ascii"))


def _save(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        sync(file)


def _description(job: TreeJob) -> dict[str, object]:
    """What somebody who meets this tree should know."""
    return {
        "what": "limner's built-in heads in CelebA's files; CelebA is not in it, nor any real person",
        "licence": "CC0-1.0",
        "renderer": RENDERER_VERSION,
        "seed": job.seed,
        "views": job.views,
        "yaw_range_degrees": job.yaw_range,
        "attributes without a label, -1 in every row": [n for n in CELEBA_ATTRIBUTES if n not in ATTRIBUTE_NAMES],
        "boxes": "of the aligned pictures; CelebA's are of pictures before alignment",
    }
