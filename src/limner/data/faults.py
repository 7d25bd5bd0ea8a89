"""What can be wrong with a picture: a closed list of names, and how to tell one kind of file from another."""

from __future__ import annotations

from pathlib import PurePosixPath

from limner.errors import DataError

FAULTS = {
    "zero-byte": "fetch the file again",
    "html": "a web page was saved in place of the picture; fetch it again",
    "not-an-image": "remove it",
    "unsupported-format": "convert it to JPEG or PNG",
    "needs-extra": "install what reads it, `pip install 'limner[heic]'`, or convert it to JPEG or PNG",
    "video": "remove it, or save its frames as JPEG or PNG",
    "unsupported-pixels": "convert it to 8 or 16 bits per channel",
    "truncated": "the file ends early; fetch it again",
    "damaged": "fetch it again",
    "bomb": "remove it, or scale it down",
    "too-small": "remove it, or choose a lower resolution",
    "wrong-size": "use the original files, or another crop, such as --crop center",
    "mask": "name the folder of the photos alone, or remove the masks",
    "unreadable": "check that the file is still there and may be read",
    "bad-record": "export the records again",
    "other-picture": "remove the smaller one's file, and its level is made from the one above",
}
"""Name of each fault, and its remedy. The first ten are of the file; the others of what it is wanted for, or of
TFRecords."""

NOTES = {
    "rotated": "turned upright by its EXIF orientation",
    "animated-first-frame": "animated: its first frame",
    "multi-page-first-page": "several pages: the first",
    "16-bit": "16 bits per channel, scaled to 8",
    "cmyk": "CMYK, converted to RGB",
    "lab": "L*a*b*, converted to RGB",
    "grey": "one channel, made three",
    "transparent": "laid over white",
    "icc-converted": "colours converted to sRGB by its ICC profile",
    "bad-icc": "ICC profile unreadable, ignored",
    "bad-metadata": "EXIF or tags unreadable, ignored",
    "wrong-extension": "named as another format than it is",
    "upscaled": "smaller than the resolution, enlarged",
    "other-means": "a stored level is not the mean of the one above, kept as stored",
}
"""What was done to a picture that is not at fault, worth counting."""


class PictureError(DataError):
    """A picture that cannot be used. `fault` is a key of `FAULTS`, `detail` says what was found."""

    def __init__(self, name: str, fault: str, detail: str) -> None:
        super().__init__(f"{printable(name)}: {fault}: {detail}; {FAULTS[fault]}")
        self.name, self.fault, self.detail = name, fault, detail

    def __reduce__(self) -> tuple[type[PictureError], tuple[str, str, str]]:
        return PictureError, (self.name, self.fault, self.detail)


def printable(name: str) -> str:
    """A file's name as it may be shown: no line breaks or terminal codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogateescape").decode() for c in name)


_SUPPORTED = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    *((b"P%d" % k + space, "PNM") for k in range(1, 7) for space in (b"\n", b" ", b"\t", b"\r")),
)
_UNSUPPORTED = (
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\1\0", "icon"),
    (b"icns", "icon"),
    (b"DDS ", "DDS"),
    (b"SIMPLE  =", "FITS"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance"),
    (b"qoif", "QOI"),
    *((kind + space, "PNM with float pixels (PFM)") for kind in (b"Pf", b"PF") for space in (b"\n", b" ", b"\r")),
    (b"P7\n", "PNM of the kind PAM"),
)
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png", ".apng"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "WEBP": {".webp"},
    "PNM": {".pgm", ".ppm", ".pnm", ".pbm"},
    "HEIC": {".heic", ".heif", ".hif"},
}
PICTURE_EXTENSIONS = frozenset().union(*_EXTENSIONS.values())
OTHER_PICTURE_EXTENSIONS = frozenset(
    (
        ".avif",
        ".jxl",
        ".jp2",
        ".j2k",
        ".svg",
        ".eps",
        ".ps",
        ".pdf",
        ".psd",
        ".ico",
        ".tga",
        ".pam",
        ".pfm",
        ".exr",
        ".dng",
        ".cr2",
        ".nef",
        ".arw",
    )
)
"""Pictures of formats that are not read: reported, never passed over in silence."""


def is_picture_name(name: str) -> bool:
    """Whether a file is named as a picture, of a format that is read or not."""
    extension = PurePosixPath(name).suffix.lower()
    return extension in PICTURE_EXTENSIONS or extension in OTHER_PICTURE_EXTENSIONS


def sniff(data: bytes, name: str) -> str:
    """The format of a file from its first bytes: JPEG, PNG, GIF, BMP, TIFF, WEBP, PNM or HEIC.

    Raises:
        PictureError: "zero-byte", "html", "unsupported-format" (named), "video" or "not-an-image".
    """
    if not data:
        raise PictureError(name, "zero-byte", "the file is empty")
    for signature, kind in _SUPPORTED:
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if not data.strip(b"\0"):
        raise PictureError(name, "not-an-image", f"{len(data)} zero bytes, as a broken download leaves")
    for signature, kind in _UNSUPPORTED:
        if data.startswith(signature):
            raise PictureError(name, "unsupported-format", kind)
    if data[4:8] == b"ftyp":
        return _sniff_ftyp(data, name)
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text:
        raise PictureError(name, "unsupported-format", "SVG")
    if text.startswith((b"<!doctype html", b"<html")) or b"<head" in text or b"<body" in text:
        raise PictureError(name, "html", "it is a web page")
    raise PictureError(name, "not-an-image", f"unknown first bytes {data[:8].hex(' ')}")


def _sniff_ftyp(data: bytes, name: str) -> str:
    """HEIC from the brands in the first box of an ISO file; AVIF and videos have the same box and are refused."""
    box = data[8 : min(int.from_bytes(data[:4], "big"), 128)]
    brands = {box[:4], *(box[k : k + 4] for k in range(8, len(box), 4))}
    if brands & _AVIF_BRANDS:
        raise PictureError(name, "unsupported-format", "AVIF")
    if brands & _HEIC_BRANDS:
        return "HEIC"
    raise PictureError(name, "video", f"an MP4, QuickTime or similar file (brand {box[:4]!r})")


def named_wrongly(kind: str, name: str) -> bool:
    """Whether the file's name has another picture format's extension."""
    dot = name.rfind(".")
    return dot >= 0 and name[dot:].lower() not in _EXTENSIONS[kind]


def ends_early(data: bytes, kind: str) -> bool:
    """Whether a file that would not decode lacks its format's end."""
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-4096:]
    if kind == "PNG":
        return b"IEND" not in data[-4096:]
    if kind == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    if kind == "WEBP":
        return len(data) < 12 or int.from_bytes(data[4:8], "little") + 8 > len(data)
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") > len(data)
    if kind == "HEIC":
        return _boxes_end(data) > len(data)
    return False  # TIFF says where its data lie in ways that differ; its decoder tells


def _boxes_end(data: bytes) -> int:
    """The byte at which the last box of an ISO file ends, by its own length."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        if length < 8:  # 0 means "to the end of the file"; the rest is damage
            return at
        at += length
    return at
