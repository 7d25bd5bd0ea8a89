"""Any photo file to RGB, the right way up, or a named fault: the only place that decodes what others made.

A plain `Image.open(f).convert("RGB")` gives wrong pixels without a word for 16-bit and float files (clipped), for
transparency (hidden colours show), for EXIF rotation (ignored) and for CMYK without Adobe's marker (inverted). What is
done here instead: `decode`.
"""

from __future__ import annotations

import functools
import io
import re
import warnings
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageCms

from limner.data.faults import PictureError, ends_early, named_wrongly, sniff
from limner.data.pnm import load_pnm

LARGEST_PIXELS = 48 * 2**20
"""most pixels of a picture: 8192 × 6144, the largest that decodes in 5 s and 1 GiB whatever its format"""
LARGEST_BYTES = 256 * 2**20
"""most bytes of a file"""
LARGEST_SCAN_PIXELS = 512 * 2**20
"""most pixels times scans of a JPEG: each scan of a progressive one goes over all its pixels"""
LARGEST_PROFILE_BYTES = 4 * 2**20
BACKGROUND = (255, 255, 255)
"""what shows through transparent pixels, and fills the padding of the crop "whole": white, as most viewers show"""
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_MAKES_GREY = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L"})
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what undoes it"""
_DECODED_AS_16_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})


class Picture(NamedTuple):
    """A decoded photo: `pixels` (h, w, 3) uint8, sRGB; `notes`, keys of `faults.NOTES`."""

    pixels: np.ndarray
    notes: tuple[str, ...]


def decode(data: bytes, name: str) -> Picture:
    """Decode one photo.

    The first frame or page; upright by EXIF; converted to sRGB where it has another ICC profile; 16 bits scaled to 8,
    not clipped; transparency laid over white. Float and 32-bit files are refused: they do not say what white is.

    Args:
        data: the file.
        name: its name, for messages; its extension is compared with what it is.

    Raises:
        PictureError: with one of the first ten of `faults.FAULTS`. Nothing else, whatever the file.
    """
    image, notes = decode_image(data, name)
    return Picture(np.asarray(image), notes)


def decode_image(data: bytes, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """As `decode`, but a Pillow image of mode RGB, to crop and resize without another copy."""
    kind = sniff(data, name)
    _check_bytes(data, kind, name)
    notes = {"wrong-extension"} if named_wrongly(kind, name) else set()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            formats = ("HEIF",) if kind == "HEIC" else _FORMATS
            with Image.open(io.BytesIO(data), formats=formats) as image:
                _check_pixels(image, name)
                rgb = _to_rgb(image, kind, data, name, notes)
        if any(issubclass(w.category, UserWarning) and "EXIF" in str(w.message) for w in caught):
            notes.add("bad-metadata")
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(name, "bomb", _one_line(error)) from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, KeyError … for bad files
        raise _name_failure(error, data, kind, name) from error
    return rgb, tuple(sorted(notes))


def _check_bytes(data: bytes, kind: str, name: str) -> None:
    if len(data) > LARGEST_BYTES:
        raise PictureError(name, "bomb", f"{len(data) >> 20} MiB, more than {LARGEST_BYTES >> 20}")
    if kind == "TIFF" and len(data) < 16:
        raise PictureError(name, "truncated", f"{len(data)} bytes of a {kind}")
    if kind == "PNG":
        _check_png_sums(data, name)
    if kind == "HEIC" and not _reads_heic():
        raise PictureError(name, "needs-extra", "HEIC")


@functools.lru_cache(maxsize=1)
def _reads_heic() -> bool:
    """Whether Pillow reads HEIC in this process; registers the decoder of the extra `heic` if it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True


def _check_png_sums(data: bytes, name: str) -> None:
    """Pillow does not look at the checksums of pixel data, and a flip near their end is silently wrong."""
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data):
            return  # cut short: the decoder says whether it matters
        if kind[:1].isupper() and zlib.crc32(view[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise PictureError(name, "damaged", f"PNG: chunk {kind!r} at byte {at} fails its checksum")
        if kind == b"IEND":
            return
        at = end + 4


def _check_pixels(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > LARGEST_PIXELS:
        raise PictureError(name, "bomb", f"{width}×{height} pixels, more than {LARGEST_PIXELS >> 20} Mi")


def _check_scans(width: int, height: int, data: bytes, name: str) -> None:
    scans = data.count(b"\xff\xda")
    if width * height * scans > LARGEST_SCAN_PIXELS and scans > 4:
        raise PictureError(name, "bomb", f"{scans} scans of {width}×{height} pixels")


def _to_rgb(image: Image.Image, kind: str, data: bytes, name: str, notes: set[str]) -> Image.Image:
    if kind == "PNM":
        rgb, found = load_pnm(image, data, name)
        notes.update(found)
        return rgb
    if kind == "JPEG":
        _check_scans(*image.size, data, name)
    elif getattr(image, "is_animated", False):
        notes.add("multi-page-first-page" if kind == "TIFF" else "animated-first-frame")
    high_bits = _sixteen_bits(image, kind, data)  # before loading, which drops the tags of a TIFF
    orientation = getattr(image, "tag_v2", {}).get(0x0112, 1)  # likewise
    profile = image.info.get("icc_profile")
    image.load()
    if kind != "TIFF":
        orientation = _orientation(image, notes)  # not before: it loads some formats, and would hide why that failed
    if high_bits:
        notes.add("16-bit")
    if image.mode in _MAKES_GREY:
        notes.add("grey")
    if image.mode in ("I", "F"):
        raise PictureError(name, "unsupported-pixels", f"{'32-bit integer' if image.mode == 'I' else 'float'} pixels")
    if image.mode in _DECODED_AS_16_BIT:
        rgb = _from_sixteen_bits(image, high_bits)
    elif image.mode == "LAB":
        notes.add("lab")
        rgb = ImageCms.applyTransform(image, _lab_to_srgb()) or image
    else:
        rgb = _from_eight_bits(image, kind, profile, notes)
    if orientation in _UPRIGHT:
        notes.add("rotated")
        if kind != "TIFF":  # Pillow turns those itself
            rgb = rgb.transpose(_UPRIGHT[orientation])
    return rgb


def _from_eight_bits(image: Image.Image, kind: str, profile: bytes | None, notes: set[str]) -> Image.Image:
    if image.mode == "CMYK":
        notes.add("cmyk")
        if kind == "JPEG" and "adobe" not in image.info:
            image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for Adobe's, whose inks are inverted
        return _convert_profile(image, profile, notes)
    if image.has_transparency_data:
        with_alpha = image if image.mode == "RGBA" else image.convert("RGBA")
        if np.asarray(with_alpha.getchannel("A")).min() < 255:
            notes.add("transparent")
            opaque = Image.new("RGB", image.size, BACKGROUND)
            opaque.paste(with_alpha, mask=with_alpha)
            return _convert_profile(opaque, profile, notes)
    grey = image.mode in _MAKES_GREY
    return _convert_profile(image.convert("RGB"), None if grey else profile, notes)


def _sixteen_bits(image: Image.Image, kind: str, data: bytes) -> int:
    """0, or the signed number of bits in use: 16, 12; negative where zero means white."""
    if kind == "PNG":
        return 16 if data[24:25] == b"\x10" else 0
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return 0
    bits = int(np.ravel(tags.get(258, 1))[0])
    return 0 if not 8 < bits <= 16 else -bits if tags.get(262) == 0 else bits


def _from_sixteen_bits(image: Image.Image, high_bits: int) -> Image.Image:
    white = 2 ** abs(high_bits or 16) - 1
    steps = np.arange(2**16, dtype=np.uint32).clip(0, white)
    table = ((steps * 255 + white // 2) // white).astype(np.uint8)
    if high_bits < 0:
        table = table[::-1] if white == 2**16 - 1 else 255 - table
    values = np.asarray(image)
    grey = np.empty(values.shape, dtype=np.uint8)
    for row, row_values in zip(grey, values, strict=True):  # by rows: NumPy's gather takes eight bytes per index
        row[:] = table[row_values]
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = BACKGROUND[0]
    return Image.fromarray(grey).convert("RGB")


def _orientation(image: Image.Image, notes: set[str]) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # the photo is good even where its EXIF is not
        notes.add("bad-metadata")
        return 1
    return value if value in _UPRIGHT else 1


def _convert_profile(image: Image.Image, profile: bytes | None, notes: set[str]) -> Image.Image:
    if profile and image.mode in ("RGB", "CMYK"):
        try:
            transform = _to_srgb(profile, image.mode)
            if transform is not None:
                image = ImageCms.applyTransform(image, transform) or image
                notes.add("icc-converted")
        except Exception:  # Pillow: PyCMSError, OSError, ValueError; the photo is good without its profile
            notes.add("bad-icc")
    return image.convert("RGB")


@functools.lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None where the profile is sRGB already."""
    if len(profile) > LARGEST_PROFILE_BYTES:
        raise ValueError("the profile is too large")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
        return None
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


@functools.lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _name_failure(error: Exception, data: bytes, kind: str, name: str) -> PictureError:
    message = _one_line(error)
    if ends_early(data, kind) or re.search("truncated|not enough image data|reached eof", message.lower()):
        return PictureError(name, "truncated", f"{len(data)} bytes of a {kind}")
    bits = _jpeg_bits(data) if kind == "JPEG" else 8
    if bits != 8:
        return PictureError(name, "unsupported-pixels", f"a JPEG of {bits} bits per channel")
    if re.search("pixel mode|unsupported|unknown (raw|data|compression|pixel)", message.lower()):
        return PictureError(name, "unsupported-pixels", f"{kind}: {message}")
    return PictureError(name, "damaged", f"{kind}: {message}")


def _jpeg_bits(data: bytes) -> int:
    """Bits per channel from the frame header; 8 where none is found."""
    frame = re.search(rb"\xff[\xc0-\xc3\xc9-\xcb]..(.)", data, re.DOTALL)
    return frame.group(1)[0] if frame and frame.group(1)[0] in (12, 16) else 8


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:120]
    return re.sub(r"<_io\.BytesIO object at \w+>", "the file", text) or type(error).__name__
