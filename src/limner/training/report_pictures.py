"""The faces of a report: the newest sheet, and how the same latents looked from the start of the run."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from limner.errors import LimnerError
from limner.explore.pictures import READABLE, read_provenance
from limner.explore.time_lapse import time_lapse
from limner.training.drawn import captions_of
from limner.training.page import data_uri, text
from limner.training.progress import kimg

_SHEET_SIDE_PIXELS = 1280
_FILM_SIDE_PIXELS = 384
_MOST_FRAMES = 24
_CRISP_BELOW_PIXELS = 560
_LARGEST_AS_IS = 3_000_000  # bytes


def closest_pairs(folder: Path) -> str:
    """A figure of the newest sheet of fakes beside their nearest training faces, or ""."""
    files = sorted(folder.glob("images-*copy_rate*.png"))
    return newest_sheet(files, "the fakes nearest to a training face, each left of that face, the nearest first, at")


def newest_reconstructions(folder: Path) -> str:
    """A figure of the newest sheet of photos beside what the model makes of their codes, or ""."""
    files = sorted(folder.glob("reconstructions-*.png"))
    what = "training photos, each left of what the model makes of its code, at"
    return newest_sheet(files, what).replace("faces", "faces single", 1)


def newest_turns(folder: Path) -> str:
    """A figure of the newest sheet of faces turned, or ""."""
    for file in sorted(folder.glob("turns-*.png"), reverse=True):
        what = "a face a row, turned through the angles that the model was trained on"
        figure = newest_sheet([file], f"{what}{_angles_of(file)}, at")
        if figure:
            return figure.replace("faces", "faces wide", 1)
    return ""


def _angles_of(file: Path) -> str:
    """ " (yaw -45° to 45°, below pitch -20° to 20°)", as the picture's record has them, or ""."""
    try:
        angles = (read_provenance(file) or {}).get("angles")
    except LimnerError:
        return ""
    if not isinstance(angles, list) or not all(isinstance(angle, str) and " " in angle for angle in angles):
        return ""
    ends: dict[str, list[str]] = {}
    for angle in angles:
        axis, _, degrees = angle.partition(" ")
        ends.setdefault(axis, []).append(degrees)
    said = ", below ".join(f"{axis} {degrees[0]} to {degrees[-1]}" for axis, degrees in ends.items())
    return f" ({said})" if said else ""


def newest_sheet(files: Sequence[Path], what: str = "newest faces, at") -> str:
    """A figure of the last of these files that can be read, or ""."""
    for file in reversed(files):
        try:
            with Image.open(file, formats=READABLE) as image:
                image.load()
                content = _embedded(image, file)
                crisp = " crisp" if max(image.size) < _CRISP_BELOW_PIXELS else ""
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        caption = f"{what} {_kimg_of(file)}"
        return _figure(f"faces{crisp}", content, caption)
    return ""


def _embedded(image: Image.Image, file: Path) -> str:
    """The file itself where it is small enough for a page, else a smaller WebP of it."""
    if image.format == "PNG" and max(image.size) <= _SHEET_SIDE_PIXELS and file.stat().st_size <= _LARGEST_AS_IS:
        return data_uri("image/png", file.read_bytes())
    small = image.convert("RGB")
    small.thumbnail((_SHEET_SIDE_PIXELS, _SHEET_SIDE_PIXELS), Image.Resampling.BOX)
    return _webp(small)


def _webp(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=90)
    return data_uri("image/webp", buffer.getvalue())


def time_lapse_figure(files: Sequence[Path]) -> str:
    """A figure of the sheets one after another, or "" for fewer than two; who asked for less motion sees the first one.

    The animation is kept as `samples/time-lapse.gif`, and made again when there is a newer sheet.
    """
    frames = [file for file in _chosen(files) if _readable(file)]
    if len(frames) < 2:
        return ""
    film = frames[-1].with_name("time-lapse.gif")
    try:
        if not film.exists() or film.stat().st_mtime <= max(frame.stat().st_mtime for frame in frames):
            time_lapse(frames, film, captions=captions_of(frames), max_side_pixels=_FILM_SIDE_PIXELS, provenance={})
        content = data_uri("image/gif", film.read_bytes())
        with Image.open(film, formats=("GIF",)) as image:
            still = _webp(image)
    except (OSError, LimnerError):  # a sheet went away meanwhile, or the disk is full: the rest of the page matters
        return ""
    caption = f"{len(frames)} sheets of the same latents, from {_kimg_of(frames[0])} to {_kimg_of(frames[-1])}"
    return _figure("faces", content, caption, still)


def _chosen(files: Sequence[Path]) -> list[Path]:
    """At most `_MOST_FRAMES`, evenly over the run, the first and last among them."""
    if len(files) <= _MOST_FRAMES:
        return list(files)
    return [files[round(place * (len(files) - 1) / (_MOST_FRAMES - 1))] for place in range(_MOST_FRAMES)]


def _readable(file: Path) -> bool:
    try:
        with Image.open(file, formats=READABLE) as image:
            image.load()
    except (OSError, ValueError, Image.DecompressionBombError):
        return False
    return True


def _figure(kind: str, content: str, caption: str, still: str = "") -> str:
    image = f'<img src="{content}" alt="{text(caption)}">'
    if still:
        image = f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{still}">{image}</picture>'
    return f'<figure class="{kind}">{image}<figcaption>{text(caption)}</figcaption></figure>'


def _kimg_of(file: Path) -> str:
    found = re.search(r"[0-9]{1,15}", file.stem)
    return f"{kimg(int(found[0]) if found else 0)} kimg"
