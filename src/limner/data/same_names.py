"""Pictures that belong together by their names: a photo and its mask, a face and its thumbnail.

`photos/7.jpg` and `masks/7.png`, `7.jpg` and `7_hair.png`, `images/a/7.png` and `thumbnails/a/7.png`. Names only say
where to look: what a picture is, its pixels decide, as people's folders have equal names too (`s1/1.pgm`, `s2/1.pgm`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from limner.data.faults import PictureError, printable
from limner.data.near_copies import are_alike, signature
from limner.data.pictures import decode_image
from limner.data.sources import Photos
from limner.errors import DataError

MOST_COLOURS = 32
"""a picture of at most so many colours beside a photo of its name is a mask: face parsing tells 11 to 19 parts apart"""
MASK_SHARE = 0.9
"""… and so is a grey one with so large a part of its pixels in two values: a soft mask, or one saved as JPEG"""
_TRIED = 12
_LARGEST_GROUP = 8
_SUFFIX = re.compile(r"[_.-][A-Za-z]\w*$")
"""what follows the photo's name in that of its mask: `_hair`, `-mask`, `.matte`"""


def find_companions(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each picture that has namesakes → these, at most 8.

    Two pictures are namesakes if their paths without extension are the same when at most one folder is left out of
    each; `7_hair` also counts as a namesake of `7`.

    Args:
        names: relative paths with /.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    paths = [_without_extension(name) for name in names]
    for name, path in zip(names, paths, strict=True):
        for key in _keys(path):
            groups[key].append(name)
    companions: dict[str, tuple[str, ...]] = {}
    for name, path in zip(names, paths, strict=True):
        keys, base = _keys(path), _SUFFIX.sub("", path)
        if base != path and not base.endswith("/"):
            keys = _keys(base) + keys
        found = dict.fromkeys(other for key in keys for other in groups.get(key, ())[: _LARGEST_GROUP + 1])
        found.pop(name, None)
        if found:
            companions[name] = tuple(found)[:_LARGEST_GROUP]
    return companions


def _without_extension(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    return stem if dot and "/" not in extension and not stem.endswith("/") and stem else name


def _keys(path: str) -> list[str]:
    """The path, and the path without each one of its folders."""
    if "/" not in path:
        return [path]
    parts = path.split("/")
    return [path, *("/".join(parts[:k] + parts[k + 1 :]) for k in range(len(parts) - 1))]


def looks_like_a_mask(image: Image.Image, is_grey: bool) -> bool:
    """Whether an RGB image has the few colours of a mask: certain only beside a photo of its name."""
    if image.getcolors(MOST_COLOURS) is not None:
        return True
    if not is_grey:
        return False
    counts = sorted(image.getchannel(0).histogram())
    return sum(counts[-2:]) >= MASK_SHARE * image.width * image.height


def photo_of(mask: Image.Image, is_grey: bool, name: str, others: Sequence[str], photos: Photos) -> str | None:
    """The photo among `others` that a picture is a mask of; None where it is no mask, or there is no photo."""
    if not looks_like_a_mask(mask, is_grey):
        return None
    for other in others:
        try:
            image, notes = decode_image(photos.read(other), other)
        except PictureError:
            continue
        if not looks_like_a_mask(image, "grey" in notes):
            return other
    return None


def refuse_mixtures(
    source: Path, photos: Photos, companions: Mapping[str, Sequence[str]], *, masks_allowed: bool
) -> None:
    """Look at a few pictures that have namesakes, before all are decoded: refuse masks and second sizes of the same.

    Raises:
        DataError: a mask is among them, or each has a second one of the same photo; says what folder to name.
    """
    names = list(companions)
    tried = [names[k] for k in sorted({round(k) for k in np.linspace(0, len(names) - 1, min(_TRIED, len(names)))})]
    twice: list[tuple[str, str]] = []
    for name in tried:
        try:
            image, notes = decode_image(photos.read(name), name)
        except PictureError:  # says nothing of the others, and is reported when all are decoded
            continue
        photo = photo_of(image, "grey" in notes, name, companions[name], photos)
        if photo and not masks_allowed:
            raise DataError(_masks(source, name, photo, len(companions)))
        if not photo:
            twice.append((name, _other_size(image, companions[name], photos)))
    if twice and all(other for _, other in twice):
        _refuse_twice(source, *twice[0], len(names))


def _other_size(image: Image.Image, others: Sequence[str], photos: Photos) -> str:
    for other in others:
        try:
            if are_alike(signature(image), signature(decode_image(photos.read(other), other)[0])):
                return other
        except PictureError:
            continue
    return ""


def _masks(source: Path, mask: str, photo: str, count: int) -> str:
    found = f"{source}: '{printable(mask)}' is a mask of '{printable(photo)}', not a photo"
    also = f"({count:,} pictures have such names)"
    if folder := _folder(source, photo, mask):
        return f"{found} {also}; name the folder of the photos alone: {folder}"
    if folder := _folder(source, mask, photo):
        return f"{found} {also}; move the folder of the masks, {folder}, out of this one"
    return f"{found} {also}; `limner data check {source} --list-bad FILE` lists all masks: move them out of the folder"


def _refuse_twice(source: Path, name: str, other: str, count: int) -> None:
    """Raise with the folders there are to name; where both pictures are in one, `prepare` keeps them in one split."""
    folders = [folder for folder in (_folder(source, name, other), _folder(source, other, name)) if folder]
    if not folders:
        return
    found = f"{source}: '{printable(name)}' and '{printable(other)}' are one photo, and so are more of the "
    advice = f"name the one you want: {' or '.join(folders)}"
    if len(folders) == 1:
        advice = f"move {folders[0]} out of '{source}', or name it if those are what you want"
    raise DataError(f"{found}{count:,} pictures with such names: each would come twice, from two folders; {advice}")


def _folder(source: Path, name: str, other: str) -> str:
    """The topmost folder that has `name` and not `other`, as one names it on the command line; "" if there is none."""
    ours, theirs = PurePosixPath(name).parts[:-1], PurePosixPath(other).parts[:-1]
    for k, part in enumerate(ours):
        if theirs[k : k + 1] != (part,):
            folder = printable(str(PurePosixPath(*ours[: k + 1])))
            return f"'{source / folder}'" if source.is_dir() else f"'{folder}' of it, unpacked"
    return ""
