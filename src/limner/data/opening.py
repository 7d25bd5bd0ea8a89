"""What a source is, from its looks: the one place that decides, for `prepare` and `check` alike."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path, PurePosixPath

from limner.data import layout
from limner.data.celeba import open_celeba
from limner.data.celebamask_hq import open_celebamask_hq
from limner.data.faults import printable
from limner.data.ffhq import find_ffhq, refuse_all_sizes
from limner.data.folder import FolderPhotos, ZipPhotos, divide, list_folder, list_zip
from limner.data.inside import find_inside
from limner.data.other_files import remarks, why_no_pictures
from limner.data.same_names import find_companions, refuse_mixtures
from limner.data.sources import Photos, Source
from limner.data.tfrecords import open_tfrecords
from limner.errors import DataError

_RUN_FILES = ("config.json", "log.jsonl")


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a dataset of limner's; StyleGAN's folders have a `dataset.json` as well."""
    try:
        with (folder / layout.MANIFEST).open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return b'"limner-dataset' in head or any(folder.glob("images-[0-9][0-9][0-9][0-9].npy"))


def open_source(source: Path, *, masks_allowed: bool = False) -> Source:
    """What `source` is: CelebA, CelebAMask-HQ, TFRecords, a folder or a zip.

    Args:
        source: as the user named it.
        masks_allowed: whether masks among the photos are left to be faults of their own, one by one.

    Raises:
        DataError: nothing to make a dataset of.
    """
    _refuse_what_is_none(source)
    for open_known in (open_celeba, open_celebamask_hq, open_tfrecords):
        known = open_known(source)
        if known is not None:
            return known
    files = list_folder(source) if source.is_dir() else list_zip(source)
    inside = find_inside(source, files)
    if inside is not None:
        opened = open_source(inside, masks_allowed=masks_allowed)
        return dataclasses.replace(opened, notes=(f"found in {printable(str(inside))}", *opened.notes))
    return _open_plain(source, files, masks_allowed)


def _open_plain(source: Path, files: list[str], masks_allowed: bool) -> Source:
    """A folder or zip of photos that is no known data set, but for FFHQ."""
    names, others = divide(files)
    if not names:
        raise DataError(f"{source}: {_dataset_inside(source, files) or why_no_pictures(source, others)}")
    refuse_all_sizes(source, names)
    is_folder = source.is_dir()
    photos: Photos = FolderPhotos(source, names, others) if is_folder else ZipPhotos(source, names, others)
    companions = find_companions(names)
    refuse_mixtures(source, photos, companions, masks_allowed=masks_allowed)
    licence, notes = find_ffhq(source) if is_folder else ("", ())
    notes = (*notes, *remarks(source, names, others))
    return Source(
        "folder" if is_folder else "zip", photos, "center", notes=notes, licence=licence, companions=companions
    )


def _refuse_what_is_none(source: Path) -> None:
    if not source.exists():
        near = _near(source)
        raise DataError(f"{source}: no such folder or zip{f'; did you mean {near}?' if near else ''}")
    if is_dataset(source):
        raise DataError(
            f"{source}: is a dataset already: train on it (limner train --data {source}); to make another, name the "
            "photos"
        )
    if all((source / name).is_file() for name in _RUN_FILES):
        raise DataError(f"{source}: is a run of limner's, whose pictures are sample sheets; name a folder of photos")


def _near(source: Path) -> str:
    try:
        entries = [entry.name for entry in source.parent.iterdir() if entry.is_dir() or entry.suffix == ".zip"]
    except OSError:
        return ""
    near = difflib.get_close_matches(source.name, entries, n=1)
    return f"'{printable(str(source.with_name(near[0])))}'" if near else ""


def _dataset_inside(source: Path, files: list[str]) -> str:
    """What to say of a folder without pictures that has datasets of limner's in it; "" where it has none."""
    folders = [PurePosixPath(name).parent for name in files if PurePosixPath(name).name == layout.MANIFEST]
    made = [source / folder for folder in sorted(folders) if is_dataset(source / folder)]
    if not made:
        return ""
    return f"has no photos but a dataset already, {printable(str(made[0]))}; train on that, or name the photos"
