"""`limner data prepare`: photos or TFRecords → a dataset on disk."""

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
from limner.data.record_levels import RecordLevels, Records
from limner.data.sources import Photos, Source
from limner.data.tfrecords import open_tfrecords
from limner.data.writer import DatasetWriter
from limner.errors import DataError, LimnerError

SKIPPED_PER_MILLE = 1
"""with `bad_files="skip"`: most files in a thousand that may be left out (but always one)"""


def prepare(
    source: Annotated[Path, tyro.conf.Positional],
    dest: Annotated[Path, tyro.conf.Positional],
    *,
    resolution: int | None = None,
    crop: Crop | None = None,
    resize: Resize | None = None,
    bad_files: Literal["error", "skip"] = "error",
    valid_fraction: float = 0.0,
    test_fraction: float = 0.1,
    workers: int | None = None,
    name: str | None = None,
) -> Dataset:
    """Make a dataset from photos (a folder, nested as it likes, a zip, or CelebA as downloaded) or from TFRecords.

    Args:
        source: the folder or zip; for CelebA the folder that holds img_align_celeba and list_attr_celeba.txt; for
            TFRecords of the PGGAN kind the folder that holds NAME-rRR.tfrecords, or one of those files.
        dest: where the dataset shall be; must not exist.
        resolution: side of the largest images, pixels: a power of two from 4 to 1024; 64 when left out, of TFRecords
            the largest there is.
        crop: what is taken of each picture; "center" unless it is CelebA, then "celeba-pggan"; not for TFRecords.
        resize: the filter that makes it smaller; "lanczos" when left out; not for TFRecords, whose levels are kept.
        bad_files: stop at the first file that cannot be used, or leave out up to one in a thousand.
        valid_fraction: part of the images to hold back for choosing between models; not for CelebA, which has its own.
        test_fraction: part to hold back for the final figures; which images is decided by the SHA-256 of each file,
            or of each record's smallest level.
        workers: processes; one per core when left out.
        name: of the dataset; that of the source when left out.
    """
    if not (valid_fraction >= 0 and test_fraction >= 0 and valid_fraction + test_fraction < 1):
        raise LimnerError(f"fractions {valid_fraction} and {test_fraction}: each from 0, together below 1")
    opened = open_source(source)
    _say_what(opened)
    work = work_on(opened, resolution, crop, resize)
    description: dict[str, object] = {"kind": opened.kind, "name": source.resolve().name, "licence": opened.licence}
    if isinstance(work, RecordLevels):
        description.update(name=work.records.name, levels={"stored": work.stored(), "made": work.made()})
    writer = DatasetWriter(
        dest,
        name=name or str(description["name"]),
        count=work.count,
        resolution=work.resolution,
        crop=crop or opened.crop,
        resize=f"pillow-{resize or 'lanczos'}" if isinstance(work, Recipe) else "as-stored",
        source=description,
        attribute_names=opened.attribute_names if opened.attributes else (),
        pyramid=layout.PYRAMID if isinstance(work, Recipe) else work.describe(),
    )
    with stopped_by_sigterm(dest), writer, closing(squares(work, workers)) as done:
        tally = _write(writer, done, bad_files, work.count)
        splits, rule = _splits(opened, tally, valid_fraction, test_fraction)
        description.update(tally.describe(), split=rule)
        attributes = np.stack([opened.attributes[file] for file, _ in tally.files]) if opened.attributes else None
        dataset = writer.finish(attributes=attributes, splits=splits, source_files=tally.files, count=len(tally.files))
    _say_done(dataset, tally)
    return dataset


def open_source(source: Path) -> Source:
    """What `source` is, from its looks: CelebA, TFRecords, a folder or a zip.

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
    records = open_tfrecords(source)
    if records is not None:
        return records
    photos: Photos = open_folder(source) if source.is_dir() else open_zip(source)
    return Source("folder" if source.is_dir() else "zip", photos, "center")


def work_on(source: Source, resolution: int | None, crop: Crop | None, resize: Resize | None) -> Recipe | RecordLevels:
    """What is to be done to each image of a source; None is what fits the source.

    Raises:
        LimnerError: a crop or filter for TFRecords, which are squares of every size already, or larger than they are.
    """
    if not isinstance(source.photos, Records):
        photos, resolution = cast("Photos", source.photos), 64 if resolution is None else resolution
        return Recipe(photos, cast("Crop", crop or source.crop), resolution, resize or "lanczos")
    if crop or resize:
        name, value = ("crop", crop) if crop else ("resize", resize)
        raise LimnerError(f"--{name} {value}: TFRecords are squares of every size already; leave it out")
    work = RecordLevels(source.photos, max(source.photos.files) if resolution is None else resolution)
    print(f"  levels: {work.describe()}")
    return work


@dataclass
class Tally:
    """What was met on the way."""

    files: list[tuple[str, str]] = field(default_factory=list)
    """(name, SHA-256) of each row"""
    split_keys: list[str] = field(default_factory=list)
    """the SHA-256 that decides the split of each row"""
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
            lower = {r: np.stack([s.lower[r] for s in kept if s.lower]) for r in kept[0].lower or ()}
            writer.write(len(tally.files), np.stack([cast("np.ndarray", s.pixels) for s in kept]), lower)
        tally.files += [(s.name, s.sha256) for s in kept]
        tally.split_keys += [s.split_key or s.sha256 for s in kept]
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


def _splits(source: Source, tally: Tally, valid: float, test: float) -> tuple[np.ndarray, str]:
    """The split of each row, and the rule's name."""
    if source.splits is not None:
        splits, rule = np.array([source.splits[name] for name, _ in tally.files]), "official"
    else:
        # By the file's own hash: independent of order, of names and of what else is there; copies stay together.
        at = np.array([int(digest[:8], 16) / 2**32 for digest in tally.split_keys])
        splits = np.where(at < test, 2, np.where(at < test + valid, 1, 0))
        what = "sha256 of the smallest level" if isinstance(source.photos, Records) else "sha256"
        rule = f"{what}, valid {valid:g}, test {test:g}"
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
