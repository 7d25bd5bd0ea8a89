"""A run's sample sheets as one animation: the faces it drew, as it learned to draw them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from limner.errors import DataError, LimnerError
from limner.explore.captions import captioned
from limner.explore.pictures import READABLE, provenance_record, provenance_xmp, write_whole


def time_lapse(
    frames: Sequence[Path | Image.Image],
    path: Path,
    *,
    captions: Sequence[str] | None = None,
    milliseconds: int = 150,
    hold_last: int = 2000,
    max_side_pixels: int = 1024,
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """An animated GIF or WebP of a run's sample sheets.

    Args:
        frames: pictures or their files; smaller ones (of an early, smaller resolution) are enlarged to the largest.
        path: its suffix names the format: .gif or .webp.
        captions: one line under each frame, such as "12.3 kimg".
        milliseconds: time a frame is shown; a GIF holds multiples of 10.
        hold_last: time the last frame is shown, milliseconds.
        max_side_pixels: larger frames are scaled down to this.
        provenance: as for `save_picture`; None leaves the animation unmarked.

    Raises:
        LimnerError: no frames, as many captions as frames are not given, or another suffix.
        DataError: a frame's file cannot be read.
        ResourceError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".webp"):
        raise LimnerError(f"{path}: a time-lapse is a .gif or .webp, not {suffix or 'a file without suffix'}")
    if not frames:
        raise LimnerError(f"{path}: a time-lapse needs at least one frame")
    if captions is not None and len(captions) != len(frames):
        raise LimnerError(f"{path}: {len(captions)} captions for {len(frames)} frames; give one each or none")
    pictures = _same_size([_opened(frame) for frame in frames], max_side_pixels)
    if captions is not None:
        pictures = [captioned(picture, caption) for picture, caption in zip(pictures, captions, strict=True)]
    times = [milliseconds] * (len(pictures) - 1) + [hold_last]
    encode = _gif if suffix == ".gif" else _animated_webp
    return write_whole(path, encode(pictures, times, provenance))


def _opened(frame: Path | Image.Image) -> Image.Image:
    if isinstance(frame, Image.Image):
        return frame if frame.mode == "RGB" else frame.convert("RGB")
    try:
        with Image.open(frame, formats=READABLE) as image:
            return image.convert("RGB")
    except (OSError, ValueError) as error:
        raise DataError(f"{frame}: not a picture that can be read ({error}); remove it or make it again") from error


def _same_size(pictures: list[Image.Image], max_side_pixels: int) -> list[Image.Image]:
    width, height = max((picture.size for picture in pictures), key=lambda size: size[0] * size[1])
    shrink = min(max_side_pixels / max(width, height), 1.0)
    size = max(round(width * shrink), 1), max(round(height * shrink), 1)

    def fitted(picture: Image.Image) -> Image.Image:
        enlarges = picture.size[0] <= size[0] and picture.size[1] <= size[1]
        return picture.resize(size, Image.Resampling.NEAREST if enlarges else Image.Resampling.BOX)

    return [picture if picture.size == size else fitted(picture) for picture in pictures]


def _gif(pictures: list[Image.Image], times: list[int], provenance: Mapping[str, object] | None) -> bytes:
    """One palette for all frames: Pillow otherwise finds one for each, at ten times the cost."""
    palette = _shared_palette(pictures)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    marks = {} if provenance is None else {"comment": provenance_record(provenance).encode()}
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=False, **marks
    )
    return buffer.getvalue() if provenance is None else _with_gif_xmp(buffer.getvalue(), provenance_xmp(provenance))


def _shared_palette(pictures: list[Image.Image]) -> Image.Image:
    chosen = pictures[:: max(len(pictures) // 12, 1)] + pictures[-1:]
    tiles = [
        picture.resize((min(picture.width, 160), min(picture.height, 160)), Image.Resampling.NEAREST)
        for picture in chosen
    ]
    montage = Image.new("RGB", (tiles[0].width, tiles[0].height * len(tiles)))
    for index, tile in enumerate(tiles):
        montage.paste(tile, (0, index * tile.height))
    return montage.quantize(256, method=Image.Quantize.MEDIANCUT)


def _with_gif_xmp(data: bytes, packet: bytes) -> bytes:
    """XMP specification part 3, 1.1.2: an application extension, ended by 256 bytes that lead any reader out of it."""
    trailer = bytes([1, *range(255, -1, -1), 0])
    return data[:-1] + b"\x21\xff\x0bXMP DataXMP" + packet + trailer + data[-1:]


def _animated_webp(pictures: list[Image.Image], times: list[int], provenance: Mapping[str, object] | None) -> bytes:
    buffer = io.BytesIO()
    packet = b"" if provenance is None else provenance_xmp(provenance)
    pictures[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=times,
        loop=0,
        quality=80,
        method=2,
        xmp=packet,
    )
    return buffer.getvalue()
