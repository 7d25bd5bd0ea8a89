"""TFRecords of the PGGAN kind (Karras et al. 2018, arXiv:1710.10196), as its dataset tool and StyleGAN's write them.

One file per resolution, `NAME-rRR.tfrecords` for 2^RR pixels, all with the same pictures in the same order, and
`NAME-rxx.labels`, a NumPy array with a row per record. Nothing is loaded whole, and TensorFlow is not needed:
`record_file.py` finds and checks records, `example.py` reads one, `record_levels.py` makes rows of a dataset of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from limner.data import layout
from limner.data.faults import printable
from limner.data.record_file import RecordFile, open_record_file
from limner.data.record_levels import Records
from limner.data.sources import Source
from limner.errors import DataError

_NAME = re.compile(r"(?P<name>.+)-r(?P<log>\d\d)\.tfrecords", re.DOTALL)


def is_record_name(name: str) -> bool:
    """Whether a file is named NAME-rRR.tfrecords, as PGGAN's are."""
    return _NAME.fullmatch(name) is not None


def open_tfrecords(path: Path) -> Source | None:
    """The record files in the folder `path`, or those that belong to the file `path`; None if there are none.

    Raises:
        DataError: there are, but of several data sets, of unequal counts, damaged, or none that can be used.
    """
    if path.is_file() and ".tfrecord" in path.name:
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise DataError(
                f"{path}: is a TFRecord file that is not named NAME-rRR.tfrecords; only PGGAN's are read, so rename it "
                "(r06 for 64²) if it is one, else save its pictures as PNG or JPEG files, and name their folder"
            )
        folder, wanted = path.parent, match["name"]
    elif path.is_dir():
        folder, wanted = path, ""
    else:
        return None
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}; check that it may be read") from error
    matches = {name: match for name in names if (match := _NAME.fullmatch(name))}
    sets = sorted({match["name"] for match in matches.values()})
    if not sets:
        return None
    if not wanted and len(sets) > 1:
        listed = ", ".join(printable(name) for name in sets[:5])
        raise DataError(f"{path}: has records of several data sets ({listed}); name a file of the one you want")
    return _source(path, folder, wanted or sets[0], names, matches)


def _source(path: Path, folder: Path, name: str, names: list[str], matches: dict[str, re.Match[str]]) -> Source:
    found = {2 ** int(m["log"]): folder / n for n, m in matches.items() if m["name"] == name}
    files = {r: open_record_file(found[r]) for r in sorted(found) if layout.is_level(r)}
    if not files:
        raise DataError(f"{path}: has no records of 4² to {layout.LARGEST}² (r02 to r10); export those")
    _check_counts(files)
    labels = folder / f"{name}-rxx.labels"
    used = {file.path.name for file in files.values()} | {labels.name}
    others = tuple(n for n in names if n not in used) if path.is_dir() else ()
    records = Records(path, name, files, others)
    columns, notes = _read_labels(labels, len(records.names)) if labels.is_file() else (None, ())
    if columns is None:
        return Source("tfrecords", records, "as-stored", notes=notes)
    attributes = dict(zip(records.names, columns, strict=True))
    label_names = tuple(f"label_{k}" for k in range(columns.shape[1]))
    return Source("tfrecords", records, "as-stored", label_names, attributes, notes=notes)


def _check_counts(files: Mapping[int, RecordFile]) -> None:
    """Records are matched by their number, so every file must have as many as the others."""
    fewest, most = min(files.values(), key=len), max(files.values(), key=len)
    if len(fewest) < len(most):
        raise DataError(
            f"{fewest.path}: ends before record {len(fewest)} (byte {fewest.offsets[-1]}), but {most.path.name} has "
            f"{len(most):,} records; fetch it again, or remove it, and the level is made from the one above"
        )
    if not len(most):
        raise DataError(f"{most.path}: the file is empty; fetch it again")


def _read_labels(path: Path, count: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """(n, a) uint8 of 0 and 1, or None where they are something else; and what to say of them."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: is not a NumPy array ({printable(str(error))}); fetch it again") from error
    if not isinstance(values, np.ndarray) or values.ndim < 1 or len(values) != count:
        found = f"{len(values):,} rows" if isinstance(values, np.ndarray) and values.ndim else "no rows"
        raise DataError(f"{path}: has {found}, but there are {count:,} records; fetch it again, or remove it")
    if reason := _why_not_attributes(values):
        return None, (f"{printable(path.name)}: left out: {reason}",)
    columns = values.shape[1]
    say = f"label_0 … label_{columns - 1}" if columns > 1 else "label_0"
    return np.asarray(values).astype(np.uint8), (f"{printable(path.name)}: taken as the attributes {say}",)


def _why_not_attributes(values: np.ndarray) -> str:
    if values.ndim != 2 or not values.shape[1]:
        return f"its shape is {values.shape}, an attribute needs (records, attributes)"
    if values.dtype.kind not in "fiub":
        return f"its values are {values.dtype}, an attribute is 0 or 1"
    return "" if np.isin(values, (0, 1)).all() else "it has values other than 0 and 1"
