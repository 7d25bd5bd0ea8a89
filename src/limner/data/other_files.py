"""Files that are not pictures: what they are, why they are not read, and what to do instead.

Whoever names an archive, a table of pictures or a folder of videos gets advice that is true of that file; and labels
that lie beside pictures are never passed over in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from limner.data.faults import PictureError, printable, sniff


class OtherFile(NamedTuple):
    """A kind of file that holds pictures, but in a form that is not read."""

    what: str
    advice: str
    """Advice for the user; {name} stands for the file."""


_UNPACK = "unpack it and name the folder that it unpacks to"
_SAVE_PICTURES = "save the pictures in it as PNG or JPEG files in a folder, and name that folder"
_ZIP = OtherFile("a zip", "name that zip ({name}), or unpack it and name its folder")
_TAR = OtherFile("a tar archive", f"{_UNPACK} (tar -xf {{name}})")
_GZIP = OtherFile("a file packed by gzip", f"{_UNPACK} (tar -xzf {{name}}, or gunzip {{name}} if it is no tar archive)")
_SEVEN_ZIP = OtherFile("a 7z archive", f"{_UNPACK} (7z x {{name}})")
_RAR = OtherFile("a RAR archive", _UNPACK)
_OTHER_ARCHIVE = OtherFile("an archive", f"{_UNPACK} (tar -xf {{name}})")
_PARQUET = OtherFile("a Parquet table, as Hugging Face stores data sets", _SAVE_PICTURES)
_ARROW = OtherFile("an Arrow table, as Hugging Face stores data sets", _SAVE_PICTURES)
_NUMPY = OtherFile("a file of NumPy arrays", _SAVE_PICTURES)
_HDF5 = OtherFile("an HDF5 file", _SAVE_PICTURES)
_MATLAB = OtherFile("a MATLAB file", _SAVE_PICTURES)
_LMDB = OtherFile("an LMDB database", _SAVE_PICTURES)
_TORCH = OtherFile("a file of PyTorch or pickled objects", _SAVE_PICTURES)
_RECORDS = OtherFile(
    "a TFRecord file not named NAME-rRR.tfrecords as PGGAN's are, the only TFRecords that are read", _SAVE_PICTURES
)
_VIDEO = OtherFile("a video", "save its frames as pictures (ffmpeg -i {name} frames/%06d.png), and name their folder")
_BY_EXTENSION = {
    ".zip": _ZIP, ".tar": _TAR, ".tgz": _GZIP, ".gz": _GZIP, ".7z": _SEVEN_ZIP, ".001": _SEVEN_ZIP, ".rar": _RAR,
    ".bz2": _OTHER_ARCHIVE, ".xz": _OTHER_ARCHIVE, ".zst": _OTHER_ARCHIVE, ".parquet": _PARQUET, ".arrow": _ARROW,
    ".npz": _NUMPY, ".npy": _NUMPY, ".h5": _HDF5, ".hdf5": _HDF5, ".mat": _MATLAB, ".mdb": _LMDB, ".lmdb": _LMDB,
    ".pt": _TORCH, ".pth": _TORCH, ".pkl": _TORCH, ".pickle": _TORCH, ".tfrecord": _RECORDS, ".tfrecords": _RECORDS,
    ".mp4": _VIDEO, ".m4v": _VIDEO, ".mov": _VIDEO, ".avi": _VIDEO, ".mkv": _VIDEO, ".webm": _VIDEO, ".mpg": _VIDEO,
    ".wmv": _VIDEO,
}  # fmt: skip
_BY_FIRST_BYTES = (
    (b"PAR1", _PARQUET), (b"ARROW1", _ARROW), (b"\x93NUMPY", _NUMPY), (b"\x1f\x8b", _GZIP),
    (b"7z\xbc\xaf\x27\x1c", _SEVEN_ZIP), (b"Rar!", _RAR), (b"BZh", _OTHER_ARCHIVE), (b"\xfd7zXZ", _OTHER_ARCHIVE),
    (b"\x28\xb5\x2f\xfd", _OTHER_ARCHIVE), (b"\x89HDF", _HDF5), (b"MATLAB 5.0", _MATLAB), (b"\x80\x02", _TORCH),
    (b"\x80\x04", _TORCH), (b"\x1aE\xdf\xa3", _VIDEO),
)  # fmt: skip
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".xml", ".xlsx")
_LABEL_WORDS = ("label", "attr", "anno", "metadata", "identity", "partition", "caption", "class")
_TEXTS = (*_TABLES, ".txt", ".md", ".html", ".py", ".sh", ".m", ".log")
_NAMED = 3
_SNIFFED = 50
"""files of unknown names whose first bytes are looked at"""


def kind_by_name(name: str) -> OtherFile | None:
    """What a file is by its extension; None for a file that is not known to hold pictures."""
    extensions = PurePosixPath(name.lower()).suffixes
    if extensions[-2:-1] == [".tar"]:
        return _OTHER_ARCHIVE if extensions[-1] != ".gz" else _GZIP
    if any(e in (".tfrecord", ".tfrecords") for e in extensions) or ".tfrecord-" in name.lower():
        return _RECORDS
    return _BY_EXTENSION.get(extensions[-1]) if extensions else None


def why_no_pictures(path: Path, others: Sequence[str]) -> str:
    """Why a folder or zip of these files is no source, and what to do; for a message that begins with its path."""
    if not others:
        return "is empty; name a folder or zip of photos"
    if badly_named := pictures_by_content(path, others):
        return f"has {badly_named}"
    kinds = Counter(kind for name in others if (kind := kind_by_name(name)))
    if not kinds:
        listed = f"{len(others)} other files, such as '{printable(others[0])}'"
        return f"has no pictures ({listed}); name the folder that has them"
    kind, count = kinds.most_common(1)[0]
    first = next(name for name in others if kind_by_name(name) is kind)
    place = printable(str(path / first)) if path.is_dir() else printable(first)
    if kind is _ZIP and not path.is_dir():
        return f"has no pictures, only '{place}' within it; unpack it, and name the zip or folder inside"
    if kind is _NUMPY and path.suffix == ".npz":
        return f"is {kind.what}, which is not read; {kind.advice}"
    more = f" and {count - 1:,} more like it" if count > 1 else ""
    unread = "" if kind is _ZIP else ", which is not read"
    advice = kind.advice.format(name=place)
    return f"has no pictures, but '{printable(first)}'{more}: {kind.what}{unread}; {advice}"


def why_not_a_zip(path: Path, reason: str) -> str:
    """Why a file is no source, by its first bytes and name, and what to do; for a message that begins with its path."""
    try:
        with path.open("rb") as file:
            data = file.read(1024)
    except OSError as error:
        return f"{error.strerror}; check that it may be read"
    kind = next((kind for first_bytes, kind in _BY_FIRST_BYTES if data.startswith(first_bytes)), None)
    if kind is None and data[257:262] == b"ustar":
        kind = _TAR
    try:
        found = sniff(data, path.name) if kind is None else ""
    except PictureError as fault:
        if fault.fault in ("zero-byte", "html"):
            what = "is empty" if fault.fault == "zero-byte" else "is a web page, saved in place of the download"
            return f"{what}; fetch it again"
        if fault.fault == "video":
            kind = _VIDEO
        found = fault.detail if fault.fault == "unsupported-format" else ""
    kind = kind or (None if data.startswith(b"PK") or found else kind_by_name(path.name))
    if found:
        return f"is one picture ({found}), not a folder or zip; name the folder that it is in"
    if kind is not None and kind is not _ZIP:
        return f"is {kind.what}, which is not read; {kind.advice.format(name=printable(str(path)))}"
    if data.startswith(b"PK") or path.suffix.lower() == ".zip":
        return f"cannot be read as a zip ({printable(reason)}); fetch it again"
    return "is neither a folder nor a zip of photos; name one"


def pictures_by_content(path: Path, others: Sequence[str]) -> str:
    """What to say of files that are pictures but not named so, as the Yale faces are; "" where none of a few is one.

    Args:
        path: their folder; a zip is not looked into.
        others: files that are not named as pictures, relative, with /.
    """
    unknown = [name for name in others if not kind_by_name(name) and not name.lower().endswith(_TEXTS)]
    for name in unknown[:_SNIFFED] if path.is_dir() else ():
        try:
            with (path / name).open("rb") as file:
                kind = sniff(file.read(1024), name)
        except (OSError, PictureError):
            continue
        return (
            f"pictures that are not named so, such as '{printable(name)}' ({kind}): {len(unknown):,} files of unknown "
            f"names are not looked at; give them the extension of their format (.{kind.lower()})"
        )
    return ""


def remarks(path: Path, names: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """What is said of files beside the pictures: archives not looked into, labels not used; one line each.

    Args:
        path: the folder or zip.
        names: of the pictures, relative, with /.
        others: of the other files.
    """
    lines = [line] if (line := pictures_by_content(path, others)) else []
    packed = [name for name in others if kind_by_name(name)]
    if packed:
        lines.append(f"not looked into, though they may hold pictures: {_listed(packed)}")
    tables = [name for name in others if _may_hold_labels(name)]
    stems = {PurePosixPath(name).with_suffix("") for name in names}
    captions = [n for n in others if n.endswith(".txt") and PurePosixPath(n).with_suffix("") in stems]
    if tables or captions:
        lines.append(f"not read, so any labels in them are not used: {_listed([*tables, *captions])}")
    folders = sorted({str(PurePosixPath(name).parent) for name in names} - {"."})
    if len(folders) > 1:
        listed = _listed(folders, mark="")
        lines.append(
            f"the pictures lie in {len(folders):,} folders, whose names are no labels or splits here: {listed}"
        )
    return tuple(lines)


def _may_hold_labels(name: str) -> bool:
    path = PurePosixPath(name.lower())
    return path.suffix in _TABLES or (path.suffix == ".txt" and any(word in path.stem for word in _LABEL_WORDS))


def _listed(names: Sequence[str], mark: str = "'") -> str:
    shown = ", ".join(f"{mark}{printable(name)}{mark}" for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
