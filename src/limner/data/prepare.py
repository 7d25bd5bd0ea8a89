"""`limner data prepare`: photos → a dataset on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import tyro

from limner.data import layout
from limner.data.celeba import open_celeba
from limner.data.crops import Crop, Resize
from limner.data.dataset import Dataset
from limner.data.decoding import Recipe, Square, squares
from limner.data.faults import NOTES, PictureError, printable
from limner.data.folder import open_folder, open_zip
from limner.data.partial import stopped_by_sigterm
from limner.data.sources import Photos, Source
from limner.data.writer import DatasetWriter
from limner.errors import DataError, LimnerError

SKIPPED_PER_MILLE = 1
"""with `bad_files="skip"`: most files in a thousand that may be left out (but always one)"""


def prepare(
    source: Annotated[Path, tyro.conf.Positional],
    dest: Annotated[Path, tyro.conf.Positional],
    *,
    resolution: int = 64,
    crop: Crop | None = None,
    resize: Resize = "lanczos",
    bad_files: Literal["error", "skip"] = "error",
    valid_fraction: float = 0.0,
    test_fraction: float = 0.1,
    workers: int | None = None,
    name: str | None = None,
) -> Dataset:
    """Make a dataset from photos: a folder (nested as it likes), a zip, or CelebA as downloaded.

    Args:
        source: the folder or zip; for CelebA the folder that holds img_align_celeba and list_attr_celeba.txt.
        dest: where the dataset shall be; must not exist.
        resolution: side of the largest images, pixels: a power of two from 4 to 1024.
        crop: what is taken of each picture; "center" unless it is CelebA, then "celeba-pggan".
        resize: the filter that makes it smaller.
        bad_files: stop at the first file that cannot be used, or leave out up to one in a thousand.
        valid_fraction: part of the images to hold back for choosing between models; not for CelebA, which has its own.
        test_fraction: part to hold back for the final figures; which images is decided by the SHA-256 of each file.
        workers: processes; one per core when left out.
        name: of the dataset; that of the source when left out.
    """
    if not (valid_fraction >= 0 and test_fraction >= 0 and valid_fraction + test_fraction < 1):
        raise LimnerError(f"fractions {valid_fraction} and {test_fraction}: each from 0, together below 1")
    opened = open_source(source)
    _say_what(opened)
    recipe = Recipe(opened.photos, cast("Crop", crop or opened.crop), resolution, resize)
    description: dict[str, object] = {"kind": opened.kind, "name": source.resolve().name, "licence": opened.licence}
    writer = DatasetWriter(
        dest,
        name=name or source.resolve().name,
        count=len(opened.photos.names),
        resolution=resolution,
        crop=recipe.crop,
        resize=f"pillow-{resize}",
        source=description,
        attribute_names=opened.attribute_names if opened.attributes else (),
    )
    with stopped_by_sigterm(dest), writer, closing(squares(recipe, workers)) as done:
        tally = _write(writer, done, bad_files, len(opened.photos.names))
        splits, rule = _splits(opened, tally.files, valid_fraction, test_fraction)
        description.update(tally.describe(), split=rule)
        attributes = np.stack([opened.attributes[file] for file, _ in tally.files]) if opened.attributes else None
        dataset = writer.finish(attributes=attributes, splits=splits, source_files=tally.files, count=len(tally.files))
    _say_done(dataset, tally)
    return dataset


def open_source(source: Path) -> Source:
    """What `source` is, from its looks: CelebA, a folder or a zip.

    Raises:
        DataError: nothing to make a dataset of.
    """
    if not source.exists():
        raise DataError(f"{source}: no such folder or zip")
    if (source / layout.MANIFEST).is_file():
        raise DataError(f"{source}: is a dataset already; train on it, or name the photos")
    celeba = open_celeba(source)
    if celeba is not None:
        return celeba
    photos: Photos = open_folder(source) if source.is_dir() else open_zip(source)
    return Source("folder" if source.is_dir() else "zip", photos, "center")


@dataclass
class Tally:
    """What was met on the way."""

    files: list[tuple[str, str]] = field(default_factory=list)
    """(name, SHA-256) of each row"""
    skipped: list[PictureError] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def duplicates(self) -> int:
        """Files whose bytes another file has as well."""
        return len(self.files) - len({digest for _, digest in self.files})

    def describe(self) -> dict[str, object]:
        """For `dataset.json`."""
        skipped = [{"file": fault.name, "fault": fault.fault} for fault in self.skipped]
        return {"duplicates": self.duplicates(), "notes": dict(sorted(self.notes.items())), "skipped": skipped}

    def first_duplicate(self) -> tuple[str, str]:
        seen: dict[str, str] = {}
        for name, digest in self.files:
            if digest in seen:
                return seen[digest], name
            seen[digest] = name
        raise LookupError("no duplicates")


def _write(writer: DatasetWriter, done: Iterable[list[Square]], bad_files: str, total: int) -> Tally:
    tally, most = Tally(), max(1, total * SKIPPED_PER_MILLE // 1000)
    for some in done:
        for square in some:
            if square.fault is not None:
                _skip_or_stop(tally, square.fault, bad_files, most, total)
        kept = [s for s in some if s.pixels is not None]
        if kept:
            writer.write(len(tally.files), np.stack([cast("np.ndarray", s.pixels) for s in kept]))
        tally.files += [(s.name, s.sha256) for s in kept]
        tally.notes.update(note for s in kept for note in s.notes)
    if not tally.files:
        raise DataError(f"{writer.folder}: no picture could be used ({tally.skipped[0]})")
    return tally


def _skip_or_stop(tally: Tally, fault: PictureError, bad_files: str, most: int, total: int) -> None:
    if bad_files == "error":
        raise DataError(f"{fault}. `limner data check` lists all such files, --bad-files skip leaves a few out")
    tally.skipped.append(fault)
    if len(tally.skipped) > most:
        listed = "; ".join(f"{printable(f.name)} ({f.fault})" for f in tally.skipped[:10])
        raise DataError(
            f"more than {most} of {total} files cannot be used: {listed}; "
            f"at most {SKIPPED_PER_MILLE} in 1000 is left out, so repair or remove them (`limner data check` lists all)"
        )


def _splits(source: Source, files: list[tuple[str, str]], valid: float, test: float) -> tuple[np.ndarray, str]:
    """The split of each row, and the rule's name."""
    if source.splits is not None:
        splits, rule = np.array([source.splits[name] for name, _ in files]), "official"
    else:
        # By the file's own hash: independent of order, of names and of what else is there; copies stay together.
        at = np.array([int(digest[:8], 16) / 2**32 for _, digest in files])
        splits = np.where(at < test, 2, np.where(at < test + valid, 1, 0))
        rule = f"sha256, valid {valid:g}, test {test:g}"
    if not (splits == 0).any():
        raise DataError(f"{source.photos.path}: no image is in the train split; name more photos or smaller fractions")
    return splits, rule


def _say_what(source: Source) -> None:
    photos = source.photos
    print(f"{photos.path}: {source.kind}, {len(photos.names):,} pictures")
    if photos.ignored:
        print(f"  {len(photos.ignored):,} other files are not looked at, such as {printable(photos.ignored[0])}")
    for line in (*source.notes, source.licence):
        if line:
            print(f"  {line}")


def _say_done(dataset: Dataset, tally: Tally) -> None:
    parts = ", ".join(f"{split} {len(dataset.indices(split)):,}" for split in layout.SPLITS)
    print(f"{dataset.folder}: {dataset.count:,} images of {dataset.resolutions[-1]}², crop {dataset.crop} ({parts})")
    for note, count in sorted(tally.notes.items()):
        print(f"  {count:,} {NOTES[note]}")
    for fault in tally.skipped:
        print(f"  left out: {fault}")
    if tally.duplicates():
        first, second = map(printable, tally.first_duplicate())
        print(f"  {tally.duplicates():,} files are copies of another, such as {second} of {first}; all were kept")
