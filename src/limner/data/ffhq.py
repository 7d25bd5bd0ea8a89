"""FFHQ as downloaded: each face up to three times, in folders of its own. Karras et al. 2019, arXiv:1812.04948."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from limner.data.faults import printable
from limner.errors import DataError

SIZES = {
    "images1024x1024": "aligned faces of 1024²",
    "thumbnails128x128": "the same faces, 128²",
    "in-the-wild-images": "the photos they were cut from, not aligned",
}
TABLE = "ffhq-dataset-v2.json"
LICENCE = (
    "FFHQ is under CC BY-NC-SA 4.0, and each of its photos under a licence of its own "
    "(https://github.com/NVlabs/ffhq-dataset)"
)


def refuse_all_sizes(source: Path, names: Sequence[str]) -> None:
    """Refuse a folder or zip that holds FFHQ's faces in more than one size, below `source` or deeper.

    Args:
        source: the folder or zip.
        names: its pictures, relative, with /.

    Raises:
        DataError: it does; says which folders there are to name.
    """
    found: Counter[str] = Counter()
    for name in names:
        parts = PurePosixPath(name).parts[:-1]
        found.update(["/".join(parts[: k + 1]) for k, part in enumerate(parts) if part in SIZES])
    if len({PurePosixPath(folder).name for folder in found}) < 2:
        return
    if source.is_file():
        listed = ", ".join(printable(folder) for folder in sorted(found))
        raise DataError(f"{source}: holds every face of FFHQ more than once ({listed}); unpack it and name one of them")
    listed = ", ".join(
        f"'{printable(str(source / folder))}' ({count:,}, {SIZES[PurePosixPath(folder).name]})"
        for folder, count in sorted(found.items())
    )
    raise DataError(f"{source}: holds every face of FFHQ more than once; name one folder: {listed}")


def find_ffhq(source: Path) -> tuple[str, tuple[str, ...]]:
    """The licence line and remarks for a folder of FFHQ's; "" and none for any other folder."""
    root = next((p.parent for p in (source, source.parent) if p.name in SIZES), source)
    below = any((source / size).is_dir() for size in SIZES)
    if root == source and not below:
        return "", ()
    notes = [f"FFHQ: {source.name}: {SIZES[source.name]}"] if source.name in SIZES else []
    if (root / TABLE).is_file():
        notes.append(f"{TABLE}: not read, so not FFHQ's training and validation sets but a split by SHA-256")
    return LICENCE, tuple(notes)
