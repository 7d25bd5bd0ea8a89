"""`limner data check`: which files cannot be used, and why; whether a source or a dataset has changed."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from limner.data import layout
from limner.data.crops import Crop
from limner.data.dataset import Dataset, open_dataset
from limner.data.decoding import Square, Work, squares
from limner.data.faults import FAULTS, NOTES, printable
from limner.data.prepare import Tally, open_source, work_on
from limner.errors import DataError

_LISTED = 10


def check(
    source: Annotated[Path, tyro.conf.Positional],
    *,
    resolution: int | None = None,
    crop: Crop | None = None,
    dataset: Path | None = None,
    workers: int | None = None,
) -> None:
    """Try every photo of a source and list those that cannot be used; or verify a dataset's checksums.

    Ends with exit code 3 if anything is wrong.

    Args:
        source: a folder or zip of photos, CelebA as downloaded, TFRecords of the PGGAN kind, or a dataset.
        resolution: side of the images wanted, pixels; far smaller photos are at fault. 64 when left out, or that of
            `dataset`; of TFRecords the largest there is.
        crop: what would be taken of each picture; "center" unless it is CelebA, then "celeba-pggan"; not for TFRecords.
        dataset: a dataset made from this source: also report files changed, gone or new since.
        workers: processes; one per core when left out.
    """
    if (source / layout.MANIFEST).is_file():
        verified = open_dataset(source, verify=True)
        print(f"{source}: {verified.count:,} images, {len(verified.files)} files, all as they were written")
        return
    made = None if dataset is None else open_dataset(dataset)
    opened = open_source(source)
    for line in opened.notes:
        print(line)
    if made is not None and resolution is None:
        resolution = made.resolutions[-1]
    tally = _try_all(work_on(opened, resolution, crop, None), workers)
    _print_summary(tally)
    if tally.skipped:
        raise DataError(
            f"{source}: {len(tally.skipped):,} of {len(opened.photos.names):,} pictures cannot be used, listed above; "
            "repair or remove them"
        )
    if made is not None:
        _compare(made, tally.files)


def _try_all(work: Work, workers: int | None) -> Tally:
    tally = Tally()
    with closing(squares(work, workers)) as done:
        for square in (s for some in done for s in some):
            _count(tally, square)
    return tally


def _count(tally: Tally, square: Square) -> None:
    if square.fault is None:
        tally.files.append((square.name, square.sha256))
        tally.notes.update(square.notes)
    else:
        print(square.fault)
        tally.skipped.append(square.fault)


def _print_summary(tally: Tally) -> None:
    table = Table("pictures", "what", "remedy")
    table.columns[0].justify = "right"
    table.add_row(f"{len(tally.files):,}", "good", "")
    for note, count in sorted(tally.notes.items()):
        table.add_row(f"{count:,}", f"  {NOTES[note]}", "")
    if tally.duplicates():
        first, second = map(printable, tally.first_duplicate())
        table.add_row(f"{tally.duplicates():,}", "  copies of another", f"e.g. {second} of {first}")
    for fault, count in sorted(Counter(f.fault for f in tally.skipped).items()):
        table.add_row(f"{count:,}", fault, FAULTS[fault])
    Console().print(table)


def _compare(dataset: Dataset, files: list[tuple[str, str]]) -> None:
    """Raise if the source is no longer what the dataset was made from."""
    recorded = dataset.sources()
    if recorded is None:
        raise DataError(f"{dataset.folder}: was not made from files, so there is nothing to compare")
    then, now = dict(recorded), dict(files)
    skipped = {entry["file"] for entry in dataset.source.get("skipped", [])}
    changes = [f"{printable(name)} is gone" for name in then if name not in now]
    changes += [f"{printable(name)} is new" for name in now if name not in then and name not in skipped]
    changes += [f"{printable(name)} changed" for name in then if name in now and then[name] != now[name]]
    if changes:
        more = f" and {len(changes) - _LISTED:,} more" if len(changes) > _LISTED else ""
        listed = ", ".join(changes[:_LISTED]) + more
        raise DataError(f"{dataset.folder}: its source is not what it was: {listed}; prepare the dataset again")
    print(f"{dataset.folder}: made from exactly these files")
