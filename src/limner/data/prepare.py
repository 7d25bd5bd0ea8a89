"""`limner data prepare`: photos or TFRecords → a dataset on disk."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import tyro

from limner.arguments import FilePath
from limner.data import layout
from limner.data.crops import Crop, Resize
from limner.data.dataset import Dataset
from limner.data.decoding import Recipe, Square, Work, squares
from limner.data.faults import NOTES, printable
from limner.data.opening import is_dataset, open_source
from limner.data.partial import stopped_by_sigterm
from limner.data.record_levels import RecordLevels, Records
from limner.data.sources import Photos, Source
from limner.data.tally import Tally, allowed_share, skip_or_stop
from limner.data.writer import DatasetWriter
from limner.errors import DataError, LimnerError


def prepare(
    source: Annotated[FilePath, tyro.conf.Positional],
    dest: Annotated[FilePath, tyro.conf.Positional],
    *,
    resolution: int | None = None,
    crop: Crop | None = None,
    resize: Resize | None = None,
    bad_files: str = "error",
    valid_fraction: float = 0.0,
    test_fraction: float = 0.1,
    workers: int | None = None,
    name: str | None = None,
) -> Dataset:
    """Make a dataset from photos (a folder, nested as it likes, a zip, or CelebA as downloaded) or from TFRecords.

    Args:
        source: the folder or zip; for CelebA the folder that holds img_align_celeba and list_attr_celeba.txt; for
            CelebAMask-HQ the one that holds CelebA-HQ-img; for FFHQ one of its folders, such as images1024x1024; for
            TFRecords of the PGGAN kind the folder that holds NAME-rRR.tfrecords, or one of those files.
        dest: where the dataset shall be; must not exist.
        resolution: side of the largest images, pixels: a power of two from 4 to 1024; 64 when left out, of TFRecords
            the largest there is.
        crop: what is taken of each picture; "center" unless it is CelebA, then "celeba-pggan"; not for TFRecords.
        resize: the filter that makes it smaller; "lanczos" when left out; not for TFRecords, whose levels are kept.
        bad_files: "error" stops at the first file that cannot be used; a share such as "5%" leaves up to so many out
            (rounded down, but at least one); "skip" leaves out up to one in a thousand.
        valid_fraction: part of the images to hold back for choosing between models; not for CelebA, which has its own.
        test_fraction: part to hold back for the final figures; which images is decided by the SHA-256 of each file,
            or of each record's smallest level.
        workers: processes; one per core when left out.
        name: of the dataset; that of the source when left out.
    """
    source, dest = Path(source), Path(dest)
    if not (valid_fraction >= 0 and test_fraction >= 0 and valid_fraction + test_fraction < 1):
        raise LimnerError(f"fractions {valid_fraction} and {test_fraction}: each from 0, together below 1")
    share = allowed_share(bad_files)
    _refuse_swapped(source, dest)
    opened = open_source(source, masks_allowed=share > 0)
    _say_what(opened)
    work = work_on(opened, resolution, crop, resize)
    description: dict[str, object] = {"kind": opened.kind, "name": source.resolve().name, "licence": opened.licence}
    if isinstance(work, RecordLevels):
        print(f"  levels: {work.describe()}")
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
        tally = _write(writer, done, share, work)
        splits, rule = _splits(opened, tally, valid_fraction, test_fraction)
        description.update(tally.describe(), split=rule)
        attributes = np.stack([opened.attributes[file] for file, _ in tally.files]) if opened.attributes else None
        dataset = writer.finish(attributes=attributes, splits=splits, source_files=tally.files, count=len(tally.files))
    _say_done(dataset, tally)
    return dataset


def _refuse_swapped(source: Path, dest: Path) -> None:
    """Raise if DEST is the photos, or anything else that is there and no dataset."""
    if not dest.exists() or is_dataset(dest) or (dest.is_dir() and not any(dest.iterdir())):
        return
    if not source.exists() or is_dataset(source):
        what = "is a dataset already" if source.exists() else "does not exist"
        raise DataError(
            f"{source}: {what}, but '{dest}' is there: name the photos first, then the dataset to be made "
            "(limner data prepare SOURCE DEST)"
        )
    raise LimnerError(f"{dest}: already exists and is no dataset; name a folder that does not exist yet")


def work_on(source: Source, resolution: int | None, crop: Crop | None, resize: Resize | None) -> Recipe | RecordLevels:
    """What is to be done to each image of a source; None is what fits the source.

    Raises:
        LimnerError: a resolution that no dataset has; a crop or filter for TFRecords, which are squares of every size
            already, or larger than they are.
    """
    if not isinstance(source.photos, Records):
        photos, resolution = cast("Photos", source.photos), 64 if resolution is None else resolution
        if not layout.is_level(resolution):
            raise LimnerError(f"resolution {resolution}: choose a power of two from 4 to {layout.LARGEST}")
        crop = cast("Crop", crop or source.crop)
        return Recipe(photos, crop, resolution, resize or "lanczos", source.companions, source.splits is None)
    if crop or resize:
        name, value = ("crop", crop) if crop else ("resize", resize)
        raise LimnerError(f"--{name} {value}: TFRecords are squares of every size already; leave it out")
    return RecordLevels(source.photos, max(source.photos.files) if resolution is None else resolution)


def _write(writer: DatasetWriter, done: Iterable[list[Square]], share: Fraction, work: Work) -> Tally:
    tally = Tally()
    for some in done:
        for square in some:
            if square.fault is not None:
                skip_or_stop(tally, square.fault, share, work.count, printable(str(work.path)))
        kept = [s for s in some if s.pixels is not None]
        if kept:
            lower = {r: np.stack([s.lower[r] for s in kept if s.lower]) for r in kept[0].lower or ()}
            writer.write(len(tally.files), np.stack([cast("np.ndarray", s.pixels) for s in kept]), lower)
        tally.files += [(s.name, s.sha256) for s in kept]
        tally.split_keys += [s.split_key or s.sha256 for s in kept]
        tally.signatures += [s.signature for s in kept if s.signature is not None]
        tally.sizes += [s.size for s in kept]
        tally.notes.update(note for s in kept for note in s.notes)
    if not tally.files:
        raise DataError(f"{work.path}: no picture could be used; the first: {tally.skipped[0]}")
    return tally


def _splits(source: Source, tally: Tally, valid: float, test: float) -> tuple[np.ndarray, str]:
    """The split of each row, and the rule's name."""
    if source.splits is not None:
        splits, rule = np.array([source.splits[name] for name, _ in tally.files]), "official"
    else:
        # By the file's own hash: independent of order, of names and of what else is there; copies stay together. Other
        # sizes and encodings of a photo go where its largest goes.
        keys = [tally.split_keys[row] for row in tally.originals]
        at = np.array([int(digest[:8], 16) / 2**32 for digest in keys])
        splits = np.where(at < test, 2, np.where(at < test + valid, 1, 0))
        what = "sha256 of the smallest level" if isinstance(source.photos, Records) else "sha256"
        rule = f"{what}, valid {valid:g}, test {test:g}"
    if not (splits == 0).any():
        near = len(tally.near_copies())
        also = f" ({near:,} of {len(splits):,} are near copies of others, which stay in one split)" if near else ""
        raise DataError(
            f"{source.photos.path}: no image is in the train split{also}; name more photos or smaller fractions"
        )
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
    if near := tally.near_copies():
        copy, original = map(printable, near[0])
        print(
            f"  {len(near):,} are another size, another encoding or a near copy of a photo, such as {copy} of "
            f"{original}; all were kept, each in the split of its photo"
        )
