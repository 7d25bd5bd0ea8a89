"""CelebA as downloaded: aligned pictures, 40 attributes, the official split. Liu et al. 2015, arXiv:1411.7766.

Rows are matched to pictures by file name, never by position: a lost file must not shift 200,000 labels by one.
Tolerated and noted: CRLF, a byte-order mark, tabs, a missing final newline, Kaggle's CSV form, .png pictures with .jpg
rows, rows without a picture (a subset). Everything else that is not as documented is refused, with its row.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from limner.data.faults import printable
from limner.data.folder import open_folder, open_zip
from limner.data.sources import Photos, Source
from limner.errors import DataError

ATTRIBUTES = 40
LICENCE = (
    "CelebA is for non-commercial research only; neither its pictures nor data derived from them may be passed on "
    "(https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html)"
)
HEADS_FILE = "limner-heads.json"
"""file in a tree of limner's own heads, which is laid out as CelebA but is not under CelebA's terms"""
_PICTURES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "img_align_celeba.zip")
_FOLDERS = (".", "Img", "Anno", "Eval", "..", "../Anno", "../Eval")
_BITS = {"1": 1, "-1": 0}
_SPLITS = {"0": 0, "1": 1, "2": 2}
_LARGEST_TABLE = 256 << 20


@dataclass(frozen=True)
class _Row:
    number: int
    """in the file, from 1"""
    name: str
    values: list[str]


def find_pictures(path: Path) -> Path | None:
    """The folder or zip of CelebA's aligned pictures in or at `path`; None if there is none."""
    if path.name in _PICTURES:
        nested = path / path.name
        return nested if nested.is_dir() else path if path.exists() else None
    for folder in (path, path / "Img"):
        for name in _PICTURES:
            if (folder / name).exists():
                return folder / name
    if path.is_dir() and any((path / f"list_attr_celeba{e}").is_file() for e in (".txt", ".csv")):
        return path
    return None


def open_celeba(path: Path) -> Source | None:
    """CelebA in the folder `path` (or at it: `img_align_celeba`, `img_align_celeba.zip`); None if it is not there.

    Raises:
        DataError: it is, but a table is not as documented or does not match the pictures.
    """
    pictures = find_pictures(path)
    if pictures is None:
        return None
    photos: Photos = open_zip(pictures) if pictures.is_file() else open_folder(pictures)
    stems = stems_of(photos)
    notes: list[str] = []
    others = sum(not name.lower().endswith(".jpg") for name in photos.names)
    if others:
        notes.append(f"{pictures.name}: {others} pictures are not .jpg; matched to their rows by stem")
    names: tuple[str, ...] = ()
    attributes: dict[str, np.ndarray] = {}
    splits: dict[str, int] | None = None
    table = _find_table(path, pictures, "list_attr_celeba")
    if table is None:
        notes.append("list_attr_celeba.txt: not found, so no attributes")
    else:
        names, rows = read_attributes(table, notes)
        attributes = {name: rows[stem] for stem, name in match_rows(table, rows, stems, notes)}
    table = _find_table(path, pictures, "list_eval_partition")
    if table is None:
        notes.append("list_eval_partition.txt: not found, so not the official split but one by SHA-256")
    else:
        parts = _read_partition(table, notes)
        splits = {name: parts[stem] for stem, name in match_rows(table, parts, stems, notes)}
    licence = _licence(path, pictures)
    return Source("celeba", photos, "celeba-pggan", names, attributes, splits, tuple(notes), licence)


def _licence(path: Path, pictures: Path) -> str:
    """CelebA's terms, or those that a tree of heads states."""
    for folder in (path, pictures.parent):
        try:
            licence = json.loads((folder / HEADS_FILE).read_bytes())["licence"]
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if isinstance(licence, str):
            return f"limner's built-in heads: {printable(licence)}"
    return LICENCE


def stems_of(photos: Photos) -> dict[str, str]:
    """Stem → name of each picture.

    Raises:
        DataError: two pictures have one stem, so one row would be for both.
    """
    stems: dict[str, str] = {}
    for name in photos.names:
        stem = PurePosixPath(name).stem
        if stem in stems:
            raise DataError(f"{photos.path}: '{printable(stems[stem])}' and '{printable(name)}' have one row; keep one")
        stems[stem] = name
    return stems


def _find_table(path: Path, pictures: Path, name: str) -> Path | None:
    for base in dict.fromkeys((path if path.is_dir() else path.parent, pictures.parent)):
        for folder in _FOLDERS:
            for extension in (".txt", ".csv"):
                table = base / folder / (name + extension)
                if table.is_file():
                    return table
    return None


def match_rows(
    table: Path, rows: Mapping[str, object], stems: dict[str, str], notes: list[str]
) -> Iterator[tuple[str, str]]:
    """(stem, picture) of each picture; every one must have its row.

    Raises:
        DataError: a picture has none.
    """
    lost = [name for stem, name in stems.items() if stem not in rows]
    if lost:
        raise DataError(
            f"{table.name}: has no row for '{printable(lost[0])}'"
            + (f" and {len(lost) - 1} more pictures" if len(lost) > 1 else "")
            + "; fetch the table again, or remove the pictures that are not of this data set"
        )
    unused = len(rows) - len(stems)
    if unused:
        first = next(stem for stem in rows if stem not in stems)
        notes.append(f"{table.name}: {unused} rows have no picture (the first is {printable(first)})")
    return iter(stems.items())


def read_attributes(table: Path, notes: list[str]) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """The 40 names, and stem → (40,) uint8 of 0 and 1; what was tolerated is added to `notes`.

    Raises:
        DataError: the table is not as documented; says the row.
    """
    lines = _read_lines(table, notes)
    if _is_csv(table, lines):
        names, rows = _csv_rows(table, lines, notes)
    else:
        names, rows = _text_rows(table, lines)
    if len(names) != ATTRIBUTES or len(set(names)) != ATTRIBUTES:
        raise _refuse(table, 1 if _is_csv(table, lines) else 2, f"names {len(set(names))} attributes, expected 40")
    bits: dict[str, np.ndarray] = {}
    for stem, row in _by_stem(table, rows, ATTRIBUTES):
        try:
            bits[stem] = np.array([_BITS[v] for v in row.values], dtype=np.uint8)
        except KeyError as error:
            wrong = error.args[0]
            field = names[row.values.index(wrong)]
            detail = f"field '{printable(field)}' is '{printable(wrong)}', expected 1 or -1"
            raise _refuse(table, row.number, detail) from None
    return tuple(names), bits


def _read_partition(table: Path, notes: list[str]) -> dict[str, int]:
    lines = _read_lines(table, notes)
    if _is_csv(table, lines):
        _, rows = _csv_rows(table, lines, notes)
    else:
        rows = (_Row(k, *_split(line)) for k, line in enumerate(lines, 1) if line.strip())
    splits: dict[str, int] = {}
    for stem, row in _by_stem(table, rows, 1):
        if row.values[0] not in _SPLITS:
            raise _refuse(table, row.number, f"field 'partition' is '{printable(row.values[0])}', expected 0, 1 or 2")
        splits[stem] = _SPLITS[row.values[0]]
    return splits


def _by_stem(table: Path, rows: Iterator[_Row], columns: int) -> Iterator[tuple[str, _Row]]:
    seen: dict[str, int] = {}
    for row in rows:
        stem = PurePosixPath(row.name).stem
        if len(row.values) != columns:
            raise _refuse(table, row.number, f"has {len(row.values)} values, expected {columns}")
        if stem in seen:
            raise _refuse(table, row.number, f"'{printable(row.name)}' has a row already, row {seen[stem]}")
        seen[stem] = row.number
        yield stem, row


def _text_rows(table: Path, lines: list[str]) -> tuple[list[str], Iterator[_Row]]:
    count = lines[0].strip()
    if not count.isdecimal() or len(lines) < 3:
        raise _refuse(table, 1, f"is '{printable(count[:40])}', expected the number of pictures")
    found = sum(1 for line in lines[2:] if line.strip())
    if found != int(count):
        raise _refuse(table, 1, f"says {int(count)} pictures, the file has {found} rows")
    return lines[1].split(), (_Row(k, *_split(line)) for k, line in enumerate(lines[2:], 3) if line.strip())


def _csv_rows(table: Path, lines: list[str], notes: list[str]) -> tuple[list[str], Iterator[_Row]]:
    notes.append(f"{table.name}: comma-separated, as Kaggle has it")
    rows = csv.reader(io.StringIO("\n".join(lines)))
    header = next(rows)
    return header[1:], (_Row(rows.line_num, r[0].strip(), [v.strip() for v in r[1:]]) for r in rows if r)


def _split(line: str) -> tuple[str, list[str]]:
    name, *values = line.split()
    return name, values


def _is_csv(table: Path, lines: list[str]) -> bool:
    return table.suffix == ".csv" or "," in lines[0]


def _read_lines(table: Path, notes: list[str]) -> list[str]:
    """The lines of a table, whatever its line ends; odd ones noted."""
    try:
        with table.open("rb") as file:
            data = file.read(_LARGEST_TABLE)
    except OSError as error:
        raise DataError(f"{table}: {error.strerror}; check that it may be read") from error
    if not data.strip():
        raise _refuse(table, 1, "the file is empty")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise _refuse(table, 1, "is a web page (the download's quota, most often)")
    odd = {
        "a byte-order mark": data.startswith(b"\xef\xbb\xbf"),
        "CRLF line ends": b"\r" in data,
        "tabs": b"\t" in data,
        "no final newline": not data.endswith((b"\n", b"\r")),
    }
    notes += [f"{table.name}: has {what}" for what, is_so in odd.items() if is_so]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise _refuse(table, row, f"byte {error.start} is not UTF-8") from error
    if not text.isascii():
        notes.append(f"{table.name}: has names that are not ASCII")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _refuse(table: Path, row: int, detail: str) -> DataError:
    return DataError(f"{table.name}:row {row}: {detail}; correct it, or fetch the file again")
