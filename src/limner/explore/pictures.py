"""Sheets of faces, and pictures that say they are synthetic.

Every picture a model made is marked for machines, as the EU AI Act's Article 50(2) asks: an XMP packet with IPTC's
digital source type "trained algorithmic media", and a JSON record of the model, its checkpoint and the seeds. The marks
are plain metadata: most programs that save the picture again, and most websites, drop them.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from html import escape, unescape
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from limner.errors import DataError, LimnerError, ResourceError

Enlargement = Literal["lanczos", "pixels"]
"""Ways to enlarge small pictures: smoothly, by Lanczos' filter, or each pixel to a square"""

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media made by a model trained on sampled content"""
READABLE = ("PNG", "JPEG", "WEBP", "GIF")
"""the only formats ever opened here, whatever a file's name says"""

_LONGEST_RECORD = 30_000  # a JPEG's segment holds 65,533 bytes, and XML writes a quote as six characters
_XMP = """<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:limner="urn:limner:picture:1" Iptc4xmpExt:DigitalSourceType="{source_type}" limner:Provenance="{provenance}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
_MP4_XMP = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
_LARGEST_PACKET = 1_000_000
_PROVENANCE = re.compile(rb'limner:Provenance="([^"]*)"')


def sheet(
    images: np.ndarray,
    columns: int | None = None,
    scale: int = 1,
    gap: int = 2,
    background: tuple[int, int, int] = (12, 12, 14),
    enlarge: Enlargement = "lanczos",
) -> Image.Image:
    """One picture of many: row by row, each enlarged by a whole factor, `gap` pixels between and around.

    Args:
        images: uint8 [n, h, w, 3]; n may be 0.
        columns: faces a row; by default as many as make the sheet most nearly square without an empty cell left over
            where that stays between 1:1 and 2:1, and otherwise ⌈√n⌉.
        scale: factor that the sides of every picture grow by.
        gap: pixels between faces and around the sheet.
        background: colour of the gaps.
        enlarge: "lanczos" is smooth; "pixels" shows every pixel as a square of scale × scale.

    Raises:
        LimnerError: the array is not uint8 [n, h, w, 3], a number is out of range, or `enlarge` is another word.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        found = f"{images.dtype} {list(images.shape)}"
        raise LimnerError(f"a sheet takes uint8 images [n, h, w, 3], not {found}; limner.pixels.to_bytes makes them")
    if scale < 1 or gap < 0 or (columns is not None and columns < 1):
        raise LimnerError(f"a sheet needs scale ≥ 1, gap ≥ 0 and columns ≥ 1, not {scale}, {gap} and {columns}")
    count, height, width = len(images), images.shape[1] * scale, images.shape[2] * scale
    columns = min(columns or _balanced_columns(count), max(count, 1))
    rows = max(math.ceil(count / columns), 1)
    canvas = np.empty((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), np.uint8)
    canvas[:] = background
    for index, image in enumerate(images):
        top, left = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = enlarged(image, scale, enlarge)
    return Image.fromarray(canvas)


def enlarged(image: np.ndarray, scale: int, enlarge: Enlargement = "lanczos") -> np.ndarray:
    """Return a picture uint8 [h, w, 3] with sides that are `scale` times as long.

    Raises:
        LimnerError: `enlarge` is another word than "lanczos" or "pixels".
    """
    if enlarge not in get_args(Enlargement):
        raise LimnerError(f'enlarge is {enlarge!r}, expected "lanczos" (smooth) or "pixels" (each a square)')
    if scale == 1:
        return image
    if enlarge == "pixels":
        return image.repeat(scale, axis=0).repeat(scale, axis=1)
    size = image.shape[1] * scale, image.shape[0] * scale
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def repeated_by(image: np.ndarray) -> int:
    """Return the largest whole factor by which every pixel of a picture uint8 [h, w, 3] is repeated; 1 for none."""
    height, width = image.shape[:2]
    for factor in range(min(height, width), 1, -1):
        if height % factor == 0 and width % factor == 0:
            blocks = image.reshape(height // factor, factor, width // factor, factor, -1)
            if (blocks == blocks[:, :1, :, :1]).all():
                return factor
    return 1


def _balanced_columns(count: int) -> int:
    square = max(math.isqrt(max(count - 1, 0)) + 1, 1)
    full = [columns for columns in range(square, 2 * square + 1) if count % columns == 0]
    return full[0] if full and full[0] ** 2 <= 2 * count else square


def save_picture(image: Image.Image, path: Path, provenance: Mapping[str, object] | None) -> Path:
    """Write a PNG, WebP or JPEG, marked as synthetic; the file appears whole or not at all.

    Args:
        image: what to save.
        path: its suffix names the format: .png, .webp (lossless) or .jpg; missing folders are made.
        provenance: what JSON can hold of the picture's origin, by custom `model`, `checkpoint_sha256`, `images_seen`,
            `seeds`. None for a picture no model made (a sheet of photos): it is not marked.

    Raises:
        LimnerError: another suffix, or a picture too large for the format.
        ResourceError: the file cannot be written.
    """
    check_suffix(path)
    buffer = io.BytesIO()
    try:
        _WRITERS[path.suffix.lower()](image, buffer, provenance)
    except (OSError, ValueError) as error:
        if isinstance(error, LimnerError):
            raise
        size = f"{image.width}×{image.height}"
        raise LimnerError(f"{path}: {size} pixels do not fit this format ({error}); use .png or fewer faces") from error
    return write_whole(path, buffer.getvalue())


def check_suffix(path: Path) -> None:
    """Raise LimnerError unless `save_picture` knows the suffix: asked before the work is done."""
    if path.suffix.lower() not in _WRITERS:
        found = path.suffix or "a file without suffix"
        raise LimnerError(f"{path}: cannot save a picture as {found}; use .png, .webp or .jpg")


def _write_png(image: Image.Image, buffer: io.BytesIO, provenance: Mapping[str, object] | None) -> None:
    chunks = PngInfo()
    if provenance is not None:
        chunks.add_itxt("XML:com.adobe.xmp", provenance_xmp(provenance).decode())
        chunks.add_text("limner", provenance_record(provenance))
    image.save(buffer, "PNG", pnginfo=chunks)


def _write_webp(image: Image.Image, buffer: io.BytesIO, provenance: Mapping[str, object] | None) -> None:
    image.save(buffer, "WEBP", lossless=True, xmp=b"" if provenance is None else provenance_xmp(provenance))


def _write_jpeg(image: Image.Image, buffer: io.BytesIO, provenance: Mapping[str, object] | None) -> None:
    marks = {} if provenance is None else {"xmp": provenance_xmp(provenance), "comment": provenance_record(provenance)}
    image.convert("RGB").save(buffer, "JPEG", quality=95, subsampling=0, **marks)


_WRITERS: dict[str, Callable[[Image.Image, io.BytesIO, Mapping[str, object] | None], None]] = {
    ".png": _write_png,
    ".webp": _write_webp,
    ".jpg": _write_jpeg,
    ".jpeg": _write_jpeg,
}


def provenance_record(provenance: Mapping[str, object]) -> str:
    """The JSON kept in a picture's text chunk or comment."""
    text = json.dumps({**provenance, "digital_source_type": DIGITAL_SOURCE_TYPE}, default=str)
    if len(text) > _LONGEST_RECORD:
        raise LimnerError(
            f"a picture's provenance is {len(text)} characters long, at most {_LONGEST_RECORD} fit: shorten it"
        )
    return text


def provenance_xmp(provenance: Mapping[str, object]) -> bytes:
    """The XMP packet with IPTC's DigitalSourceType, and the same JSON."""
    return _XMP.format(source_type=DIGITAL_SOURCE_TYPE, provenance=escape(provenance_record(provenance))).encode()


def xmp_box(provenance: Mapping[str, object]) -> bytes:
    """The same packet for the end of an MP4: a box of this type (XMP specification part 3, MPEG-4)."""
    content = _MP4_XMP + provenance_xmp(provenance)
    return (8 + len(content)).to_bytes(4) + b"uuid" + content


def _mp4_packet(path: Path) -> bytes | None:
    """The XMP packet of an MP4, or b""; None where the file is none. Only the heads of its boxes are read."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        place = 0
        while place + 8 <= size:
            file.seek(place)
            head = file.read(32)
            if place == 0 and head[4:8] != b"ftyp":
                return None
            length = int.from_bytes(head[:4])
            length = int.from_bytes(head[8:16]) if length == 1 else length or size - place
            if head[4:8] == b"uuid" and head[8:24] == _MP4_XMP and length <= _LARGEST_PACKET:
                file.seek(place + 24)
                return file.read(length - 24)
            place += max(length, 8)
    return b"" if size >= 8 else None


def read_provenance(path: Path) -> dict[str, Any] | None:
    """The record written with a picture or a film; None where there is none (it is easily lost on the way).

    Raises:
        DataError: the file is neither.
    """
    try:
        packet = _mp4_packet(path)
        if packet is not None:
            return _record_in({"xmp": packet})
        with Image.open(path, formats=READABLE) as image:
            info = dict(image.info)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a PNG, JPEG, WebP, GIF or MP4 that can be read ({error})") from error
    return _record_in(info)


def _record_in(info: Mapping[Any, Any]) -> dict[str, Any] | None:
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    packet = packet.encode() if isinstance(packet, str) else packet
    found = _PROVENANCE.search(packet)
    text = unescape(found[1].decode()) if found else info.get("limner") or info.get("comment")
    try:
        record = json.loads(text) if text else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.get("digital_source_type") == DIGITAL_SOURCE_TYPE else None


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file so that it is seen whole or not at all: a temporary file in the same folder, then a rename.

    Raises:
        ResourceError: the folder or file cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ResourceError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another place"
        ) from error
    finally:  # also where a signal interrupts
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path
