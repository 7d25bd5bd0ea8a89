"""Hostile, damaged and merely unusual picture files, made from a seed: what every photo collection has a few of.

Each `Case` says what must come of it: the faults it may be refused with ("" among them: it may also decode, as a
flipped bit often does), or the pixels it must decode to. Pixels expected are computed here from what was encoded, never
by the decoder under test.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

FORMATS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm"}
CUT = frozenset({"truncated", "damaged"})
MAYBE = frozenset({"", "truncated", "damaged", "unsupported-pixels", "unsupported-format", "not-an-image", "bomb"})


class Case(NamedTuple):
    """One file."""

    kind: str
    name: str
    data: bytes
    faults: frozenset[str] = frozenset()
    pixels: np.ndarray | None = None
    tolerance: int = 0
    notes: frozenset[str] = frozenset()


def photo(rng: np.random.Generator, width: int = 48, height: int = 40) -> np.ndarray:
    """(h, w, 3) uint8: smooth colours, as faces have, so that JPEG stays close; no symmetry that would hide a turn."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    phase = rng.uniform(0, 6, 3)
    waves = np.stack([np.sin(3 * x + 2 * y + p) + y - x * 0.5 for p in phase], axis=2)
    return np.clip(128 + 80 * waves, 0, 255).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def good(rng: np.random.Generator, kind: str) -> bytes:
    options = {"JPEG": {"quality": 92}, "WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}}
    return encode(photo(rng), kind, **options.get(kind, {}))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: np.ndarray, color: int, *, bits: int = 8, before: bytes = b"", size: tuple[int, int] = (0, 0)) -> bytes:
    """A PNG by hand: `values` (h, w[, c]) big enough for `bits`; `color` 0 grey, 2 RGB, 3 palette, 4 LA, 6 RGBA."""
    height, width = values.shape[:2] if size == (0, 0) else size
    raw = values.astype(">u2" if bits == 16 else np.uint8).reshape(values.shape[0], -1)
    rows = b"".join(b"\0" + row.tobytes() for row in raw)
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(width: int, height: int, data: bytes, *, order: str = "<", **tags: int | tuple[int, ...]) -> bytes:
    """An uncompressed one-strip TIFF by hand; `tags` as t258=(16, 16, 16)."""
    entries: dict[int, tuple[int, tuple[int, ...]]] = {
        256: (4, (width,)), 257: (4, (height,)), 258: (3, (8,)), 259: (3, (1,)), 262: (3, (1,)), 277: (3, (1,)),
        278: (4, (height,)), 279: (4, (len(data),)),
    }  # fmt: skip
    for name, value in tags.items():
        entries[int(name[1:])] = (3, value if isinstance(value, tuple) else (value,))
    entries[273] = (4, (8,))
    data += b"\0" * (len(data) % 2)
    table, extra, extra_at = b"", b"", 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(order + ("I" if kind == 4 else "H") * len(values), *values)
        if len(packed) > 4:
            packed, extra = struct.pack(order + "I", extra_at + len(extra)), extra + packed
        table += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return head + data + struct.pack(order + "H", len(entries)) + table + b"\0\0\0\0" + extra


def not_pictures(rng: np.random.Generator) -> Iterator[Case]:
    def refuse(kind: str, data: bytes, fault: str, extension: str = "jpg") -> Case:
        return Case(kind, f"{kind}.{extension}", data, frozenset({fault}))

    yield refuse("zero-byte", b"", "zero-byte")
    yield refuse("all-zeros", b"\0" * 5000, "not-an-image")
    for k, page in enumerate((b"<!DOCTYPE html><p>Quota exceeded", b"\xef\xbb\xbf\n <HTML><head>", b"<?x?>\n<body>")):
        yield refuse(f"html-{k}", page, "html")
    yield refuse("text", b"This file is not available.\n", "not-an-image")
    yield refuse("json", b'{"error": 404}', "not-an-image")
    yield refuse("zip", b"PK\3\4" + bytes(40), "not-an-image")
    yield refuse("pickle", b"\x80\4\x95" + bytes(30), "not-an-image")
    for k in range(20):
        yield refuse(f"random-{k}", b"\x01" + rng.bytes(int(rng.integers(1, 3000))), "not-an-image")
    for kind, data in {
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg-xml": b"<?xml version='1.0'?>\n<svg/>",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n", "eps-binary": b"\xc5\xd0\xd3\xc6" + bytes(26), "pdf": b"%PDF-1.7\n",
        "psd": b"8BPS\0\1" + bytes(20), "avif": b"\0\0\0\x1cftypavif",
        "avif-mif1": b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif",
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(9), "jxl": b"\xff\x0a" + bytes(9), "ico": b"\0\0\1\0\1\0" + bytes(9),
        "pfm": b"PF\n2 2\n-1.0\n" + bytes(48), "pam": b"P7\nWIDTH 2\nHEIGHT 2\n",
        "fits": b"SIMPLE  =                    T",
    }.items():  # fmt: skip
        yield refuse(kind, data, "unsupported-format")
    for brand in (b"isom", b"mp42", b"qt  "):
        yield refuse(f"video-{brand.decode().strip()}", b"\0\0\0\x18ftyp" + brand + bytes(12), "video", "heic")
    empty_heic = b"\0\0\0\x18ftypheic" + bytes(12)  # refused by name where the extra is not installed
    yield Case("heic", "heic.heic", empty_heic, frozenset({"needs-extra", "damaged"}))


def broken(rng: np.random.Generator) -> Iterator[Case]:
    for kind, extension in FORMATS.items():
        signature = good(rng, kind)[: 12 if kind == "WEBP" else 8]
        yield Case(f"signature-only-{kind}", f"s.{extension}", signature, CUT)
        for k in range(20):
            data = good(rng, kind)
            data = data[: int(rng.integers(len(data) // 10, len(data) * 9 // 10))]
            yield Case(f"truncated-{kind}", f"t{k}.{extension}", data, CUT)
        for k in range(30):
            flipped = bytearray(good(rng, kind))
            for at in rng.integers(2, len(flipped), int(rng.integers(1, 4))):
                flipped[at] ^= 1 << int(rng.integers(8))
            yield Case(f"flipped-{kind}", f"f{k}.{extension}", bytes(flipped), MAYBE)
        for k in range(6):
            zeroed = bytearray(good(rng, kind))
            at = int(rng.integers(8, len(zeroed)))
            zeroed[at : at + 64] = bytes(len(zeroed[at : at + 64]))
            yield Case(f"zeroed-{kind}", f"z{k}.{extension}", bytes(zeroed), MAYBE)
        for k in range(4):
            yield Case(f"noise-after-{kind}", f"n{k}.{extension}", good(rng, kind)[:60] + rng.bytes(900), MAYBE)
    progressive = encode(photo(rng, 200, 200), "JPEG", progressive=True)
    for k in range(10):
        yield Case("truncated-progressive", f"p{k}.jpg", progressive[: len(progressive) * (k + 2) // 13], CUT)
    raw_tiff = encode(photo(rng), "TIFF")
    for k in range(6):
        yield Case("truncated-raw-TIFF", f"r{k}.tif", raw_tiff[: len(raw_tiff) * (k + 2) // 10], CUT)
    data = good(rng, "PNG")
    yield Case("png-bad-crc", "c.png", data.replace(b"IDAT", b"IDAT\1", 1), frozenset({"damaged"}))
    yield Case("png-bad-header-crc", "h.png", data[:29] + b"\0\0\0\0" + data[33:], frozenset({"damaged"}))
    yield Case("bmp-of-text", "b.bmp", b"BMW is a maker of cars and of motor cycles.", CUT)
    yield Case("tiff-without-pixels", "e.tif", b"II*\0\x08\0\0\0" + bytes(16), CUT)
    beyond = b"II*\0" + struct.pack("<I", 2**31)
    yield Case("tiff-directory-beyond-end", "d.tif", beyond + bytes(40), CUT)
    pixels = photo(rng)
    loop = bytearray(tiff(48, 40, pixels.tobytes(), t258=(8, 8, 8), t262=2, t277=3))
    at = struct.unpack_from("<I", loop, 4)[0]
    struct.pack_into("<I", loop, at + 2 + 12 * struct.unpack_from("<H", loop, at)[0], at)
    yield Case("tiff-directory-loop", "l.tif", bytes(loop), pixels=pixels)


def bombs(rng: np.random.Generator) -> Iterator[Case]:
    refused = frozenset({"bomb"})
    row = np.zeros((1, 8, 3), dtype=np.uint8)
    for side in (8193, 12_000, 65_000):
        yield Case("bomb-png", f"{side}.png", png(row, 2, size=(side, side)), refused)
    flat = chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 1, 1, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b""))
    yield Case("bomb-png-wide", "w.png", b"\x89PNG\r\n\x1a\n" + flat, refused)
    gif = bytearray(good(rng, "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    yield Case("bomb-gif", "b.gif", bytes(gif), refused)
    bmp = bytearray(good(rng, "BMP"))
    bmp[18:26] = struct.pack("<ii", 100_000, 100_000)
    yield Case("bomb-bmp", "b.bmp", bytes(bmp), refused)
    yield Case("bomb-tiff", "b.tif", tiff(60_000, 60_000, bytes(64)), refused)
    canvas = (16383).to_bytes(3, "little")
    extended = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + canvas + canvas + good(rng, "WEBP")[12:]
    yield Case("bomb-webp", "b.webp", b"RIFF" + struct.pack("<I", len(extended)) + extended, refused | {"damaged"})
    jpeg = bytearray(good(rng, "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    yield Case("bomb-jpeg", "b.jpg", bytes(jpeg), refused)
    scans = bytearray(encode(photo(rng), "JPEG", progressive=True))
    at = scans.index(b"\xff\xc2")
    scans[at + 5 : at + 9] = struct.pack(">HH", 8000, 8000)
    last = scans.rindex(b"\xff\xda")
    yield Case("bomb-jpeg-scans", "s.jpg", bytes(scans[:-2] + scans[last:-2] * 500 + scans[-2:]), refused)
    yield Case("bomb-pgm", "b.pgm", b"P5\n65000 65000\n255\n" + bytes(99), refused)
    yield Case("bomb-pgm-text", "t.pgm", b"P2\n3000 3000\n255\n" + b"1 " * 99, refused)
    text = zlib.compress(bytes(80 << 20), 9)
    comment = chunk(b"zTXt", b"Comment\0\0" + text)
    yield Case("bomb-png-text", "t.png", png(photo(rng), 2, before=comment), frozenset({"", "damaged", "bomb"}))
    profile = chunk(b"iCCP", b"icc\0\0" + text)
    yield Case("bomb-png-profile", "p.png", png(photo(rng), 2, before=profile), frozenset({"", "damaged", "bomb"}))


def refused_pixels(rng: np.random.Generator) -> Iterator[Case]:
    refused = frozenset({"unsupported-pixels"})
    grey = photo(rng)[:, :, 0]
    yield Case("float-tiff", "f.tif", encode(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"), refused)
    yield Case("float-tiff-255", "g.tif", encode(Image.fromarray(grey.astype(np.float32)), "TIFF"), refused)
    yield Case("int32-tiff", "i.tif", encode(Image.fromarray(grey.astype(np.int32) * 1000), "TIFF"), refused)
    signed = (grey.astype(np.int16) - 100).tobytes()
    yield Case("signed-16-bit-tiff", "s.tif", tiff(48, 40, signed, t258=16, t339=2), refused)
    jpeg = bytearray(good(rng, "JPEG"))
    jpeg[jpeg.index(b"\xff\xc0") + 4] = 12
    yield Case("12-bit-jpeg", "j.jpg", bytes(jpeg), refused)


def over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    weight = alpha[:, :, None] / 255
    return np.rint(pixels * weight + 255 * (1 - weight)).astype(np.uint8)


def grey_of(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(values, dtype=np.uint8)[:, :, None], 3, axis=2)


def exotic_eight_bits(rng: np.random.Generator) -> Iterator[Case]:
    """Well-formed files, and the pixels they hold."""

    def case(kind: str, extension: str, data: bytes, pixels: np.ndarray, tolerance: int = 0, *notes: str) -> Case:
        return Case(kind, f"{kind}.{extension}", data, pixels=pixels, tolerance=tolerance, notes=frozenset(notes))

    rgb, alpha = photo(rng), np.tile(np.linspace(0, 255, 48).astype(np.uint8), (40, 1))
    grey = rgb[:, :, 0]
    for kind in ("PNG", "BMP", "TIFF"):
        yield case(f"rgb-{kind}", FORMATS[kind], encode(rgb, kind), rgb)
    yield case("rgb-webp", "webp", encode(rgb, "WEBP", lossless=True), rgb)
    for k, options in enumerate(({"quality": 97}, {"quality": 97, "progressive": True, "subsampling": 0})):
        yield case(f"jpeg-{k}", "jpg", encode(rgb, "JPEG", **options), rgb, 12)
    yield case("jpeg-trailing-noise", "jpg", encode(rgb, "JPEG", quality=97) + rng.bytes(300), rgb, 12)
    yield case("png-named-jpg", "jpg", encode(rgb, "PNG"), rgb, 0, "wrong-extension")
    yield case("grey-png", "png", encode(grey, "PNG"), grey_of(grey), 0, "grey")
    yield case("grey-jpeg", "jpg", encode(grey, "JPEG", quality=97), grey_of(grey), 8, "grey")
    one_bit = encode(Image.fromarray(grey > 128), "PNG")
    yield case("one-bit-png", "png", one_bit, grey_of((grey > 128) * 255), 0, "grey")
    white = np.full((40, 48), 255, dtype=np.uint8)
    la = png(np.stack([grey, alpha], axis=2), 4)
    yield case("la-png", "png", la, over_white(grey_of(grey), alpha), 1, "grey", "transparent")
    rgba = np.dstack([rgb, alpha])
    for kind in ("PNG", "TIFF"):
        yield case(f"rgba-{kind}", FORMATS[kind], encode(rgba, kind), over_white(rgb, alpha), 1, "transparent")
    yield case("rgba-webp", "webp", encode(rgba, "WEBP", lossless=True, exact=True), over_white(rgb, alpha), 1)
    yield case("rgba-opaque", "png", encode(np.dstack([rgb, white]), "PNG"), rgb)
    keyed = rgb.copy()
    keyed[5:9, 7:20] = (1, 2, 3)
    expected = keyed.copy()
    expected[5:9, 7:20] = 255
    key = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    yield case("rgb-with-key-colour", "png", png(keyed, 2, before=key), expected, 0, "transparent")
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    colours = chunk(b"PLTE", palette.tobytes())
    yield case("palette-png", "png", png(grey, 3, before=colours), palette[grey])
    clear = rng.integers(0, 256, 256, dtype=np.uint8)
    data = png(grey, 3, before=colours + chunk(b"tRNS", clear.tobytes()))
    yield case("palette-with-alpha", "png", data, over_white(palette[grey], clear[grey]), 1, "transparent")
    yield case("broken-icc", "png", encode(rgb, "PNG", icc_profile=b"no profile" * 20), rgb, 0, "bad-icc")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:24] + bytes(12) + profile[36:]  # without the time of its making
    yield case("srgb-icc", "png", encode(rgb, "PNG", icc_profile=profile), rgb)
    other = profile.replace(b"rXYZ", b"tmp!").replace(b"bXYZ", b"rXYZ").replace(b"tmp!", b"bXYZ")
    other = other.replace(b"s\0R\0G\0B", b"o\0t\0h\0e")
    other = other.replace(b"sRGB", b"othe")
    yield case("icc-red-is-blue", "png", encode(rgb, "PNG", icc_profile=other), rgb[:, :, ::-1], 3, "icc-converted")
    yield case("bad-exif", "jpg", encode(rgb, "JPEG", quality=97, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), rgb, 12)
    yield case("1x1", "png", encode(rgb[:1, :1], "PNG"), rgb[:1, :1])
    wide = np.tile(rgb[:1], (1, 105, 1))[:, :5000]
    yield case("1x5000", "png", encode(wide, "PNG"), wide)


def exotic_deep(rng: np.random.Generator) -> Iterator[Case]:
    """16 and 12 bits, inks, Lab: where a plain conversion is silently wrong."""
    rgb = photo(rng)
    deep = rgb.astype(np.uint16) * 257  # exactly the 8-bit values
    grey, grey_deep = rgb[:, :, 1], deep[:, :, 1]
    fine = rng.integers(0, 2**16, (40, 48), dtype=np.uint16)
    scaled = np.rint(fine / 257).astype(np.uint8)
    alpha = np.full((40, 48, 1), 2**15, dtype=np.uint16)
    rgb_tags: dict[str, Any] = {"t258": (16, 16, 16), "t262": 2, "t277": 3}
    note = frozenset({"16-bit"})
    yield Case("16-bit-grey-png", "a.png", png(fine, 0, bits=16), pixels=grey_of(scaled), notes=note | {"grey"})
    yield Case("16-bit-rgb-png", "b.png", png(deep, 2, bits=16), pixels=rgb, notes=note)
    rgba = png(np.concatenate([deep, alpha], axis=2), 6, bits=16)
    half = over_white(rgb, np.full((40, 48), 127.5))
    yield Case("16-bit-rgba-png", "c.png", rgba, pixels=half, tolerance=1, notes=note | {"transparent"})
    keyed = png(fine, 0, bits=16, before=chunk(b"tRNS", struct.pack(">H", int(fine[3, 4]))))
    expected = scaled.copy()
    expected[fine == fine[3, 4]] = 255
    yield Case("16-bit-grey-key", "k.png", keyed, pixels=grey_of(expected), notes=note)
    for order, dtype in (("<", "<u2"), (">", ">u2")):
        name = "little" if order == "<" else "big"
        data = tiff(48, 40, fine.astype(dtype).tobytes(), order=order, t258=16)
        yield Case(f"16-bit-grey-tiff-{name}", f"{name}.tif", data, pixels=grey_of(scaled), notes=note)
        data = tiff(48, 40, deep.astype(dtype).tobytes(), order=order, **rgb_tags)
        yield Case(f"16-bit-rgb-tiff-{name}", f"{name}3.tif", data, pixels=rgb, notes=note)
    inverted = tiff(48, 40, (65535 - grey_deep).tobytes(), t258=16, t262=0)
    yield Case("16-bit-white-is-zero", "w.tif", inverted, pixels=grey_of(grey), notes=note)
    lzw = encode(Image.fromarray(fine), "TIFF", compression="tiff_lzw")
    yield Case("16-bit-lzw-tiff", "z.tif", lzw, pixels=grey_of(scaled), notes=note)
    twelve = rng.integers(0, 4096, (40, 48), dtype=np.uint16)
    pairs = twelve.reshape(-1, 2).astype(np.uint32)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    data = tiff(48, 40, packed.astype(np.uint8).tobytes(), t258=12)
    expected = np.rint(twelve * (255 / 4095)).astype(np.uint8)
    yield Case("12-bit-tiff", "t.tif", data, pixels=grey_of(expected), notes=note)
    inks = np.dstack([255 - rgb, np.full((40, 48), 40, dtype=np.uint8)])
    printed = np.rint(rgb * (1 - 40 / 255)).astype(np.uint8)
    cmyk = Image.frombytes("CMYK", (48, 40), inks.tobytes())
    note = frozenset({"cmyk"})
    yield Case("cmyk-tiff", "c.tif", encode(cmyk, "TIFF"), pixels=printed, tolerance=1, notes=note)
    adobe = encode(cmyk, "JPEG", quality=98)
    yield Case("cmyk-jpeg-adobe", "adobe.jpg", adobe, pixels=printed, tolerance=12, notes=note)
    at = adobe.index(b"\xff\xee")
    straight = Image.frombytes("CMYK", (48, 40), (255 - inks).tobytes())  # Pillow inverts on saving as well
    plain = encode(straight, "JPEG", quality=98)
    plain = plain[:at] + plain[at + 16 :]
    yield Case("cmyk-jpeg-plain", "plain.jpg", plain, pixels=printed, tolerance=12, notes=note)
    lab, colours = lab_patches()
    data = encode(Image.frombytes("LAB", (lab.shape[1], lab.shape[0]), lab.tobytes()), "TIFF")
    yield Case("lab-tiff", "lab.tif", data, pixels=colours, tolerance=3, notes=frozenset({"lab"}))


def lab_patches() -> tuple[np.ndarray, np.ndarray]:
    """(2, 3, 3) L*a*b* D50 as TIFF stores it (a and b signed bytes), and what they are in sRGB (Lindbloom's matrix)."""
    lab = np.array([[[50, 0, 0], [80, 5, 20], [30, 20, -20]], [[100, 0, 0], [0, 0, 0], [65, -20, 10]]], dtype=float)
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.96422, 1, 0.82521)
    matrix = np.array(
        [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.033454], [0.0719453, -0.2289914, 1.4052427]]
    )
    linear = np.clip(xyz @ matrix.T, 0, 1)
    srgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    encoded = np.rint(lab * (2.55, 1, 1)).astype(np.int16) & 255
    return encoded.astype(np.uint8), np.rint(srgb * 255).astype(np.uint8)


def portable(rng: np.random.Generator) -> Iterator[Case]:
    """PBM, PGM and PPM by hand: binary and text, of 1, 2, 100, 255, 4095 and 65535 grey steps, with comments."""
    rgb = photo(rng)
    grey, size = rgb[:, :, 0], b"48 40\n"
    for white in (1, 100, 255, 4095, 65535):
        dtype = np.uint8 if white < 256 else ">u2"
        note = frozenset({"16-bit"} if white > 255 else set())
        fine = rng.integers(0, white + 1, (40, 48, 3)).astype(dtype)
        pixels = np.floor(fine * 255.0 / white + 0.5).astype(np.uint8)
        head = b"# made by hand\n" + size + b"%d\n" % white
        yield Case(f"ppm-{white}", f"c{white}.ppm", b"P6\n" + head + fine.tobytes(), pixels=pixels, notes=note)
        data, one = b"P5 " + head + fine[:, :, 1].tobytes(), grey_of(pixels[:, :, 1])
        yield Case(f"pgm-{white}", f"g{white}.pgm", data, pixels=one, notes=note | {"grey"})
        words = b" ".join(b"%d" % value for value in fine[:, :, 1].ravel())
        data = b"P2\n" + head + words + b"\n"
        yield Case(f"pgm-text-{white}", f"t{white}.pgm", data, pixels=one, tolerance=1, notes=note | {"grey"})
        short = b"P6\n" + head + fine.tobytes()[:-1]
        yield Case(f"ppm-short-{white}", f"s{white}.ppm", short, frozenset({"truncated"}))
    words = b" ".join(b"%d" % value for value in rgb.ravel())
    yield Case("ppm-text", "c.ppm", b"P3\n" + size + b"255\n" + words, pixels=rgb)
    bits = grey > 128
    data = b"P4\n" + size + np.packbits(~bits, axis=1).tobytes()  # a set bit is black
    yield Case("pbm", "b.pbm", data, pixels=grey_of(bits * 255), notes=frozenset({"grey"}))
    named = encode(rgb, "PNG")
    yield Case("png-named-pnm", "p.pnm", named, pixels=rgb, notes=frozenset({"wrong-extension"}))


def turned(rng: np.random.Generator) -> Iterator[Case]:
    """EXIF orientations 1 to 8 in four formats; written so that the upright picture is always the same."""
    rgb = photo(rng)
    stored = {
        1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.swapaxes(0, 1),
        6: np.rot90(rgb), 7: rgb[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(rgb, -1),
    }  # fmt: skip
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        notes = frozenset({"rotated"} if orientation > 1 else set())
        pixels = np.ascontiguousarray(pixels)
        for kind, options in {"JPEG": {"quality": 97}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}.items():
            data = encode(pixels, kind, exif=exif, **options)
            name = f"o{orientation}.{FORMATS[kind]}"
            yield Case(f"turned-{kind}", name, data, pixels=rgb, tolerance=12 if kind == "JPEG" else 0, notes=notes)


def animated(rng: np.random.Generator) -> Iterator[Case]:
    frames = [Image.fromarray(photo(rng)) for _ in range(3)]
    first = np.asarray(frames[0])
    for kind, options in {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}.items():
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        note = "multi-page-first-page" if kind == "TIFF" else "animated-first-frame"
        yield Case(f"animated-{kind}", f"a.{FORMATS[kind]}", data, pixels=first, notes=frozenset({note}))
    indexed = [f.quantize(256) for f in frames]
    data = encode(indexed[0], "GIF", save_all=True, append_images=indexed[1:], optimize=False)
    expected = np.asarray(indexed[0].convert("RGB"))
    note = frozenset({"animated-first-frame"})
    yield Case("animated-GIF", "a.gif", data, pixels=expected, notes=note)


def cases(seed: int = 0) -> Iterator[Case]:
    """All of them, the same for the same seed."""
    rng = np.random.default_rng(seed)
    makers = (
        not_pictures, broken, bombs, refused_pixels, exotic_eight_bits, exotic_deep, portable, turned, animated,
    )  # fmt: skip
    for make in makers:
        yield from make(rng)
