"""A line of text under a picture, in Pillow's own font, which is everywhere but has neither ² nor →."""

from __future__ import annotations

import re

from PIL import Image, ImageDraw, ImageFont

_BACKGROUND = (12, 12, 14)
_INK = (235, 235, 235)


def captioned(picture: Image.Image, caption: str, letter_pixels: int | None = None) -> Image.Image:
    """The picture with a dark strip under it that says the caption, in smaller letters where it would not fit.

    Args:
        picture: stays as it is.
        caption: one line.
        letter_pixels: height of its letters; by default a 24th of the picture's width, from 10 to 20.
    """
    pixels = letter_pixels or _letter_pixels(picture.width)
    strip = _strip_of(pixels)
    framed = Image.new("RGB", (picture.width, picture.height + strip), _BACKGROUND)
    framed.paste(picture, (0, 0))
    while pixels > 6 and _width(caption, pixels) > picture.width:
        pixels -= 1
    left = (picture.width - _width(caption, pixels)) / 2
    _write(ImageDraw.Draw(framed), left, picture.height + strip / 2, caption, pixels)
    return framed


def strip_pixels(width: int) -> int:
    """Height of the strip under a picture of that width."""
    return _strip_of(_letter_pixels(width))


def _strip_of(letters: int) -> int:
    return letters + letters // 2 + 4


def _letter_pixels(width: int) -> int:
    return min(max(width // 24, 10), 20)


def _pieces(caption: str) -> list[str]:
    return [piece for piece in re.split("([²→])", caption) if piece]


def _width(caption: str, pixels: int) -> float:
    return sum(_piece_width(piece, pixels) for piece in _pieces(caption))


def _piece_width(piece: str, pixels: int) -> float:
    if piece == "→":
        return pixels * 0.9
    if piece == "²":
        return ImageFont.load_default(pixels * 0.62).getlength("2") + 1
    return ImageFont.load_default(pixels).getlength(piece)


def _write(canvas: ImageDraw.ImageDraw, left: float, middle: float, caption: str, pixels: int) -> None:
    for piece in _pieces(caption):
        width = _piece_width(piece, pixels)
        if piece == "→":
            _arrow(canvas, left + pixels * 0.08, left + pixels * 0.82, middle, pixels)
        elif piece == "²":
            small = ImageFont.load_default(pixels * 0.62)
            canvas.text((left + 0.5, middle - pixels * 0.24), "2", fill=_INK, font=small, anchor="lm")
        else:
            canvas.text((left, middle), piece, fill=_INK, font=ImageFont.load_default(pixels), anchor="lm")
        left += width


def _arrow(canvas: ImageDraw.ImageDraw, start: float, end: float, middle: float, pixels: int) -> None:
    head, thickness = pixels * 0.22, max(pixels // 12, 1)
    canvas.line((start, middle, end, middle), fill=_INK, width=thickness)
    canvas.line((end - head, middle - head, end, middle, end - head, middle + head), fill=_INK, width=thickness)
