"""`limner data check`: which files cannot be used, and why; whether a source or a dataset has changed."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from limner.arguments import FilePath
from limner.data.crops import Crop
from limner.data.dataset import Dataset, open_dataset
from limner.data.decoding import Work, squares
from limner.data.faults import FAULTS, NOTES, printable
from limner.data.opening import is_dataset, open_source
from limner.data.prepare import work_on
from limner.data.record_levels import Records
from limner.data.sources import Source
from limner.data.tally import Tally, percent
from limner.errors import DataError, LimnerError, ResourceError

_LISTED = 10


def check(
    source: Annotated[FilePath, tyro.conf.Positional],
    *,
    resolution: int | None = None,
    crop: Crop | None = None,
    dataset: FilePath | None = None,
    json: bool = False,
    list_bad: FilePath | None = None,
    workers: int | None = None,
) -> None:
    """Try every photo of a source and list those that cannot be used; or verify a dataset's checksums.

    Ends with exit code 3 if anything is wrong.

    Args:
        source: a folder or zip of photos, CelebA or CelebAMask-HQ as downloaded, TFRecords of the PGGAN kind, or a
            dataset.
        resolution: side of the images wanted, pixels; far smaller photos are at fault. 64 when left out, or that of
            `dataset`; of TFRecords the largest there is.
        crop: what would be taken of each picture; "center" unless it is CelebA, then "celeba-pggan"; not for TFRecords.
        dataset: a dataset made from this source: also report files changed, gone or new since.
        json: print one JSON object in place of the lines and the table.
        list_bad: a file to write: the path of each bad picture in a line, relative to `source`; empty if there are
            none.
        workers: processes; one per core when left out.
    """
    source, dataset = Path(source), None if dataset is None else Path(dataset)
    list_bad = None if list_bad is None else Path(list_bad)
    try:
        if is_dataset(source):
            report = _check_dataset(source, list_bad)
        else:
            report = _check_source(source, resolution, crop, dataset, list_bad, workers, quiet=json)
    except DataError as error:
        if json:
            print(dumps({"source": str(source), "error": str(error)}))
        raise
    if json:
        print(dumps({**report.facts, "error": report.wrong} if report.wrong else report.facts))
    else:
        _print_report(report)
    if report.wrong:
        raise DataError(report.wrong)


@dataclass
class _Report:
    """What a check found."""

    facts: dict[str, Any]
    """for `--json`"""
    tally: Tally | None = None
    """Counts of a source's pictures; None where a dataset was checked."""
    wrong: str = ""
    """One line that says what is wrong; empty where nothing is wrong."""


def _check_dataset(source: Path, list_bad: Path | None) -> _Report:
    if list_bad is not None:
        raise LimnerError(f"--list-bad: {source} is a dataset, which has no picture files; name the photos")
    verified = open_dataset(source, verify=True)
    facts = {"source": str(source), "kind": "dataset", "images": verified.count, "files": len(verified.files)}
    return _Report(facts)


def _check_source(
    source: Path,
    resolution: int | None,
    crop: Crop | None,
    dataset: Path | None,
    list_bad: Path | None,
    workers: int | None,
    *,
    quiet: bool,
) -> _Report:
    made = None if dataset is None else open_dataset(dataset)
    opened = open_source(source, masks_allowed=True)
    if list_bad is not None:
        _refuse_list(list_bad, source, opened)
    if made is not None and resolution is None:
        resolution = made.resolutions[-1]
    if not quiet:
        for line in opened.notes:
            print(line)
    tally = _try_all(work_on(opened, resolution, crop, None), workers, quiet)
    facts = _facts(source, opened, tally)
    if list_bad is not None:
        facts["list_bad"] = str(list_bad)
        facts["not_listed"] = _write_list(list_bad, [_below(source, opened, f.name) for f in tally.skipped])
    wrong = _many_bad(source, tally, len(opened.photos.names)) if tally.skipped else ""
    if made is not None:
        facts["dataset"] = changes = _changes(made, tally)
        wrong = "; ".join(line for line in (wrong, _changed(made, changes)) if line)
    return _Report(facts, tally, wrong)


def _facts(source: Path, opened: Source, tally: Tally) -> dict[str, Any]:
    bad = [{"file": f.name, "fault": f.fault, "detail": f.detail, "remedy": FAULTS[f.fault]} for f in tally.skipped]
    return {
        "source": str(source),
        "kind": opened.kind,
        "folder": str(opened.photos.path),
        "pictures": len(opened.photos.names),
        "good": len(tally.files),
        "bad": bad,
        "copies": tally.duplicates(),
        "near_copies": [{"file": copy, "of": original} for copy, original in tally.near_copies()],
        "notes": dict(sorted(tally.notes.items())),
        "remarks": list(opened.notes),
    }


def _many_bad(source: Path, tally: Tally, total: int) -> str:
    share = percent(Fraction(len(tally.skipped), total))
    return (
        f"{source}: {len(tally.skipped):,} of {total:,} pictures cannot be used; repair or remove them, "
        f"or leave them out: limner data prepare … --bad-files {share}"
    )


def _refuse_list(list_bad: Path, source: Path, opened: Source) -> None:
    """Raise before all is decoded if a list cannot be written."""
    if isinstance(opened.photos, Records):
        raise LimnerError(f"--list-bad: {source} holds records, not files; --json lists the bad ones")
    if list_bad.is_dir() or not list_bad.parent.is_dir():
        raise LimnerError(f"--list-bad {list_bad}: name a file to write, in a folder that exists")


def _below(source: Path, opened: Source, name: str) -> str:
    """The path of a picture relative to `source`; of one in a zip, its name there."""
    folder = opened.photos.path
    if folder == source or not folder.is_dir() or not folder.is_relative_to(source):
        return name
    return (folder.relative_to(source) / name).as_posix()


def _write_list(path: Path, names: list[str]) -> int:
    """Write a name a line, and return how many could not be: those that have a line break."""
    good = [name for name in names if "\n" not in name]
    try:
        path.write_bytes(b"".join(os.fsencode(name) + b"\n" for name in good))
    except OSError as error:
        raise ResourceError(f"--list-bad {path}: cannot be written ({error.strerror or error})") from error
    return len(names) - len(good)


def _print_report(report: _Report) -> None:
    facts = report.facts
    if report.tally is None:
        print(f"{facts['source']}: {facts['images']:,} images, {facts['files']} files, all as they were written")
        return
    _print_summary(report.tally)
    if "list_bad" in facts:
        left = f"; {facts['not_listed']} with a line break in their names are not, see --json"
        listed = len(facts["bad"]) - facts["not_listed"]
        print(f"{facts['list_bad']}: {listed:,} bad files listed{left if facts['not_listed'] else ''}")
    if facts.get("dataset") and not any(facts["dataset"][kind] for kind in _CHANGES):
        print(f"{facts['dataset']['folder']}: made from exactly these files")


def _try_all(work: Work, workers: int | None, quiet: bool) -> Tally:
    tally = Tally()
    with closing(squares(work, workers)) as done:
        for square in (s for some in done for s in some):
            if square.fault is None:
                tally.files.append((square.name, square.sha256))
                tally.notes.update(square.notes)
                tally.sizes.append(square.size)
                if square.signature is not None:
                    tally.signatures.append(square.signature)
                continue
            tally.skipped.append(square.fault)
            if not quiet:
                print(square.fault)
    return tally


def _print_summary(tally: Tally) -> None:
    table = Table("pictures", "what", "remedy")
    table.columns[0].justify = "right"
    table.add_row(f"{len(tally.files):,}", "good", "")
    for note, count in sorted(tally.notes.items()):
        table.add_row(f"{count:,}", f"  {NOTES[note]}", "")
    if tally.duplicates():
        first, second = map(printable, tally.first_duplicate())
        table.add_row(f"{tally.duplicates():,}", "  copies of another", f"e.g. {second} of {first}")
    if near := tally.near_copies():
        copy, original = map(printable, near[0])
        table.add_row(f"{len(near):,}", "  near copies of a photo", f"e.g. {copy} of {original}")
    for fault, count in sorted(Counter(f.fault for f in tally.skipped).items()):
        table.add_row(f"{count:,}", fault, FAULTS[fault])
    Console().print(table)


_CHANGES = ("gone", "new", "changed")


def _changes(dataset: Dataset, tally: Tally) -> dict[str, Any]:
    """Files gone, new or changed since the dataset was made; what can no longer be used has changed."""
    recorded = dataset.sources()
    if recorded is None:
        raise DataError(f"{dataset.folder}: was not made from files, so there is nothing to compare")
    then, now = dict(recorded), dict(tally.files)
    bad = dict.fromkeys(fault.name for fault in tally.skipped)
    skipped = {entry["file"] for entry in dataset.source.get("skipped", [])}
    return {
        "folder": str(dataset.folder),
        "gone": [name for name in then if name not in now and name not in bad],
        "new": [name for name in (*now, *bad) if name not in then and name not in skipped],
        "changed": [name for name in then if name in bad or (name in now and then[name] != now[name])],
    }


def _changed(dataset: Dataset, changes: dict[str, Any]) -> str:
    """One line that says what changed; "" where nothing did."""
    words = {"gone": "is gone", "new": "is new", "changed": "changed"}
    lines = [f"{printable(name)} {words[kind]}" for kind in _CHANGES for name in changes[kind]]
    if not lines:
        return ""
    more = f" and {len(lines) - _LISTED:,} more" if len(lines) > _LISTED else ""
    listed = ", ".join(lines[:_LISTED]) + more
    return f"{dataset.folder}: its source is not what it was: {listed}; prepare the dataset again"
