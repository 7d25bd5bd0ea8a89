"""Known data sets that lie below the folder named, or in a zip: one folder too high is not a plain folder of photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from limner.data import celebamask_hq, tfrecords
from limner.data.faults import is_picture_name, printable
from limner.errors import DataError

_CELEBA_FILES = frozenset(("img_align_celeba.zip", "list_attr_celeba.txt", "list_attr_celeba.csv"))
_CELEBA_PARTS = frozenset(("Img", "Anno", "Eval"))
"""folders of CelebA's that have its pictures and tables"""


def find_inside(source: Path, files: Sequence[str]) -> Path | None:
    """The folder below `source` that is a known data set and has all its pictures; None if there is no known one.

    Args:
        source: a folder or zip that is not itself laid out as a known data set.
        files: all its files, relative, with /.

    Raises:
        DataError: there is one, but in a zip, or beside other pictures or another one; says what to name.
    """
    roots: dict[str, str] = {}
    for name in files:
        if (found := _root(name)) and (found[0] != "." or source.is_file()):
            roots.setdefault(*found)
    if not roots:
        return None
    if source.is_file():
        kinds = " and ".join(sorted(set(roots.values())))
        raise DataError(
            f"{source}: holds {kinds}, which is read from a folder with its tables beside it; unpack the zip, and name "
            "the folder that it unpacks to"
        )
    places = [f"'{printable(str(source / root))}' ({kind})" for root, kind in sorted(roots.items())]
    (first, *more) = roots
    others = sum(is_picture_name(name) and not PurePosixPath(name).is_relative_to(first) for name in files)
    if more:
        raise DataError(f"{source}: holds {len(roots)} data sets; name one of them: {', '.join(places[:5])}")
    if others:
        raise DataError(
            f"{source}: holds a data set of its own layout and {others:,} other pictures; name its folder, "
            f"{places[0]}, or move it elsewhere"
        )
    return source / first


def _root(name: str) -> tuple[str, str] | None:
    """(folder, kind) of the known data set that a file belongs to."""
    path = PurePosixPath(name)
    for k, part in enumerate(path.parts[:-1]):
        if part in (celebamask_hq.PICTURES, celebamask_hq.MASKS):
            return str(PurePosixPath(*path.parts[:k])), "CelebAMask-HQ"
        if part == "img_align_celeba":
            return _without_parts(PurePosixPath(*path.parts[:k])), "CelebA"
    if path.name in _CELEBA_FILES:
        return _without_parts(path.parent), "CelebA"
    if tfrecords.is_record_name(path.name):
        return str(path.parent), "TFRecords"
    return None


def _without_parts(folder: PurePosixPath) -> str:
    return str(folder.parent if folder.name in _CELEBA_PARTS else folder)
